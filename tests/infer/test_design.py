"""What a law sees of a table, and what is wrong with a table or a setting."""

import numpy as np
import polars as pl
import pytest
from plain import plain
from scipy import stats

import qidbayes as qb
from qidbayes.infer.inputs import inputs


def test_covariates_are_relative_to_the_reference(pythia: pl.DataFrame) -> None:
    rows = inputs(pythia, plain("unified"))
    for symbol, column, reference in (("N", "n_params", 1e9), ("D", "tokens", 1e11), ("P", "bits", 4)):
        by_hand = np.log(rows.frame[column].cast(pl.Float64).to_numpy()) - np.log(reference)
        np.testing.assert_allclose(rows.log_covariates[symbol], by_hand, atol=1e-12)
    np.testing.assert_allclose(np.exp(rows.log_response), rows.frame["qid"].to_numpy())


def test_a_reference_may_be_the_middle_of_the_data(pythia: pl.DataFrame) -> None:
    law = qb.Law(
        "k * D**beta / N**alpha",
        priors={"k": qb.Prior("LogNormal", mu=-3, sigma=2), "beta": qb.Prior("Normal", mu=0.5, sigma=0.5),
                "alpha": qb.Prior("Normal", mu=0.3, sigma=0.5)},
        reference={"N": "data", "D": 1e11},
    )  # fmt: skip
    assert "at N = the middle of the data, D = 1e+11" in str(law)
    with pytest.raises(qb.InputError, match="takes its reference N from the data"):
        _ = law.log_reference
    rows = inputs(pythia, law)
    assert law.reference["N"] == "data"  # what was declared is left as it was
    middle = stats.gmean(pythia["n_params"])
    assert rows.law.reference == {"N": pytest.approx(middle, rel=0.05), "D": 1e11}  # two digits
    assert abs(rows.log_covariates["N"].mean()) < 0.05
    assert rows.law.with_reference({"N": 1.0}) == rows.law


def test_the_levels_of_a_full_grid_are_regular_whatever_the_order(pythia: pl.DataFrame) -> None:
    rows = inputs(pythia.sample(fraction=1, shuffle=True, seed=1), plain("unified"))
    assert [(level.name, level.size, level.regular) for level in rows.levels] == [
        ("checkpoint", 120, True),
        ("model", 6, True),
    ]
    rows = inputs(pythia.sample(fraction=0.6, seed=1), plain("unified"))
    checkpoint, model = rows.levels
    assert (checkpoint.regular, model.regular) == (False, False)
    names = np.array(rows.coords["model"])[model.parent[checkpoint.parent]]
    assert (names == rows.frame["model"].to_numpy()).all()


def test_a_level_with_one_row_each_is_left_out(pythia: pl.DataFrame) -> None:
    rows = inputs(pythia.filter(bits=4.0), plain("unified"))
    assert [level.name for level in rows.levels] == ["model"]


def test_known_standard_errors_are_carried_to_the_logarithm(pythia: pl.DataFrame) -> None:
    table = pythia.with_columns(qid_se=pl.when(pl.col("bits") == 2).then(0.005))
    rows = inputs(table, plain("unified"))
    two = rows.frame["bits"].to_numpy() == 2
    np.testing.assert_allclose(rows.variance[two], (0.005 / rows.frame["qid"].to_numpy()[two]) ** 2)
    assert (rows.variance[~two] == 0).all()
    assert rows.latent == {}


@pytest.mark.parametrize(
    ("qid", "error", "message"),
    [
        (0.0, None, "1 of 360 rows have QiD ≤ 0 and no qid_se .first: EleutherAI/pythia-160m.*give qid_se, or filter"),
        (-0.1, 0.0, "1 of 360 rows have QiD ≤ 0 and no qid_se"),
        (-0.1, 0.019, "1 of 360 rows have a QiD more than 5 qid_se below 0 .first.*-0.1.* see what else is in their"),
    ],
)
def test_rows_that_nothing_puts_above_0_are_refused(
    pythia: pl.DataFrame, qid: float, error: float | None, message: str
) -> None:
    first = pl.int_range(pl.len()) == 0
    table = pythia.with_columns(
        qid=pl.when(first).then(qid).otherwise("qid"), qid_se=pl.when(first).then(error), loss=None, loss_16bit=None
    )
    with pytest.raises(qb.InputError, match=message):
        inputs(table, plain("unified"))
    if error:
        assert len(inputs(table.with_columns(qid_se=0.021), plain("unified")).latent["latent_row"]) > 0


def test_rows_that_are_left_out_are_counted(pythia: pl.DataFrame) -> None:
    rows = inputs(pythia, plain("kaplan-16bit"))
    assert len(rows.log_response) == 120
    assert rows.left_out == {"repeating a checkpoint's 16-bit loss": 240}
    failed = pythia.with_columns(status=pl.when(pl.int_range(pl.len()) < 7).then(pl.lit("failed")).otherwise("status"))
    assert inputs(failed, plain("unified")).left_out == {"failed cells": 7}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"draws": 0}, "draws must be a whole number of at least 4"),
        ({"draws": 1.5}, "draws must be a whole number"),
        ({"tune": 5}, "tune must be a whole number of at least 100"),
        ({"chains": 0}, "chains must be a whole number of at least 1"),
        ({"target_accept": 1.0}, "target_accept must be at least 0.5 and below 1"),
        ({"random_seed": -1}, "random_seed must be a whole number from 0"),
        ({"random_seed": 2**32}, "random_seed must be a whole number from 0"),
    ],
)
def test_settings_out_of_range_are_refused(pythia: pl.DataFrame, options: dict, message: str) -> None:
    with pytest.raises(qb.InputError, match=message):
        qb.fit(pythia, plain("unified"), **options)
