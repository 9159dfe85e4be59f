"""How far a question lies outside the data, against ratios by hand; and what is said of it."""

import warnings

import numpy as np
import polars as pl
import pytest
from made import NESTED, SMOOTH, unified_fit

import qidbayes as qb
from qidbayes.errors import ExtrapolationWarning
from qidbayes.posterior.diagnostics import Diagnostics
from qidbayes.posterior.distance import beyond

ONE = {"k_ref": 0.04, "beta": np.array([0.5, 0.5]), "alpha": 0.3, "gamma": 5.0}
LEAST, MOST = 1073741824, 205520896000
SMALL, LARGE = 85056000, 11327027200


@pytest.fixture
def data() -> pl.DataFrame:
    return qb.load_table("pythia")


def test_it_is_one_inside_and_the_ratio_to_the_nearer_end_outside(data: pl.DataFrame) -> None:
    assert (beyond(data, data).select("n_params_beyond", "tokens_beyond", "bits_beyond") == 1.0).to_numpy().all()
    late, early = data.filter(pl.col("tokens") > 100e9), data.filter(pl.col("tokens") <= 100e9)
    above, below = beyond(early, late), beyond(late, early)
    np.testing.assert_allclose(above["tokens_beyond"], late["tokens"].to_numpy() / 90177536000)
    np.testing.assert_allclose(below["tokens_beyond"], 119537664000 / early["tokens"].to_numpy())
    assert (above["n_params_beyond"] == 1.0).all() and (below["n_params_beyond"] == 1.0).all()
    assert all(" above" in where for where in above["outside"]) and all(" below" in where for where in below["outside"])


@pytest.mark.parametrize(
    ("asked", "factors", "outside"),
    [
        ({}, (1, 1, 1), "inside"),
        ({"bits": 8.0}, (1, 1, 2), "bits up to 2× above"),
        ({"bits": 16.0}, (1, 1, 4), "bits up to 4× above"),
        ({"bits": 1.5}, (1, 1, 4 / 3), "bits up to 2× below"),
        ({"bits": 2.5}, (1, 1, 1), "inside"),
        ({"tokens": LEAST / 3}, (1, 3, 1), "tokens up to 4× below"),
        ({"tokens": MOST * 3}, (1, 3, 1), "tokens up to 4× above"),
        ({"n_params": SMALL / 8}, (8, 1, 1), "n_params up to 8× below"),
        ({"n_params": LARGE * 1.00001}, (1.00001, 1, 1), "inside"),
        ({"n_params": LARGE * 9, "bits": 6.0}, (9, 1, 1.5), "n_params up to 16× above, bits up to 2× above"),
        ({"suite": "pythai"}, (1, 1, 1), "suite not fitted"),
        ({"method": "awq", "tokens": MOST * 2}, (1, 2, 1), "tokens up to 2× above, quantization not fitted"),
    ],
)
def test_each_direction_has_a_side_and_doublings(
    data: pl.DataFrame, asked: dict, factors: tuple[float, ...], outside: str
) -> None:
    found = beyond(data, pl.DataFrame({"n_params": 1e9, "tokens": 1e11, "bits": 4.0, **asked}))
    assert found.row(0)[:3] == pytest.approx(factors)
    assert found["outside"].item() == outside
    named = {"suite", "method"} & set(asked)
    assert found["not_fitted"].item() == (", ".join(named) or None)


def test_what_a_question_leaves_out_is_new_where_the_rows_do_not_agree(data: pl.DataFrame) -> None:
    both = qb.join_tables(data, qb.load_table("pythia/awq-bnb"))
    asked = pl.DataFrame({"n_params": 1e9, "tokens": 1e11, "bits": 4.0})
    assert beyond(data, asked, left_out_is_new=True)["not_fitted"].item() == "suite"  # a question may be of any suite
    of_suite = asked.with_columns(suite=pl.lit("pythia"))
    assert beyond(data, of_suite, left_out_is_new=True)["not_fitted"].item() is None
    assert beyond(both, of_suite, left_out_is_new=True)["not_fitted"].item().startswith("method")
    assert beyond(both, asked)["not_fitted"].item() is None
    # A fitted model brings its suite along.
    suites = qb.join_tables(data, qb.load_table("spectra"))
    of_model = asked.with_columns(model=pl.Series([data["model"][0]]))
    assert "suite" in beyond(suites, asked, left_out_is_new=True)["not_fitted"].item()
    assert "suite" not in (beyond(suites, of_model, left_out_is_new=True)["not_fitted"].item() or "")


@pytest.mark.parametrize("noise", [NESTED, SMOOTH])
def test_every_answer_names_bit_widths_beyond_the_fitted_ones(data: pl.DataFrame, noise: dict) -> None:
    fit = unified_fit(ONE, noise, data)
    asked = {"n_params": 1e9, "tokens": 1e11}
    match = r"8, 16 bits lie outside the bit widths that were fitted \(2 to 4\)"
    for ask in (
        lambda: fit.predict(**asked, bits=[4, 8, 16]),
        lambda: fit.predict(pl.DataFrame({**asked, "bits": [3.0, 8.0, 16.0]})),
        lambda: fit.predict(**asked, bits=[4, 8, 16], kind="response_params"),
        lambda: fit.project(**asked, bits=[4, 8, 16]),
        lambda: fit.tokens_to_threshold(0.2, n_params=1e9, bits=[4, 8, 16]),
        lambda: fit.training_level([0.04, 1.2e-3, 4e-5], n_params=1e9, bits=[4, 8, 16]),
        lambda: qb.advise(fit, **asked, max_qid=0.1, bits=[4, 8, 16]),
        lambda: qb.Stack([fit], [1.0]).project(**asked, bits=[4, 8, 16]),
    ):
        with pytest.warns(ExtrapolationWarning, match=match) as told:
            ask()
        assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error", ExtrapolationWarning)
        fit.predict(**asked, bits=[2, 2.5, 4])
        qb.pareto(fit, memory=1e9, tokens=1e11)  # among its candidates are 16 bits, which are not quantized


def test_advice_and_equal_bytes_have_the_distance_beside_them(data: pl.DataFrame) -> None:
    fit = unified_fit(ONE, NESTED, data)
    with pytest.warns(ExtrapolationWarning):
        found = qb.advise(fit, n_params=2 * LARGE, tokens=1e11, max_qid=1e-9, bits=[2, 4, 8, 16])
    assert found["bits_beyond"].to_list() == [1, 1, 2, 4]
    assert found["n_params_beyond"].to_list() == [2] * 4
    assert "not_fitted" not in found.columns
    equal = qb.pareto(fit, memory=1e9, tokens=LEAST / 2)
    assert equal["bits"].to_list() == [2, 3, 4, 16]
    assert equal["bits_beyond"].to_list() == [1] * 4
    assert equal["tokens_beyond"].to_list() == [2] * 4


def test_projections_below_the_data_are_outside_too(data: pl.DataFrame) -> None:
    found = unified_fit(ONE, NESTED, data).project(n_params=[SMALL / 5, 1e9], tokens=LEAST / 3, bits=2)
    np.testing.assert_allclose(found["n_params_beyond"], [5, 1])
    np.testing.assert_allclose(found["tokens_beyond"], 3)


def test_a_law_without_bits_is_not_asked_about_them(data: pl.DataFrame) -> None:
    law = qb.load_law("kaplan-16bit").with_noise(discrepancy="none")
    fit = qb.Fit(law, {}, {}, {}, {}, data, Diagnostics({}, 0, (), {}), {"random_seed": 0})
    assert fit.cautions(pl.DataFrame({"n_params": [1e9], "tokens": [1e11], "bits": [16.0]})) == []
