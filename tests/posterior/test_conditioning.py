"""A fit given further rows, against the closed form where one constant is unknown."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from qidbayes.errors import InputError, TableWarning
from qidbayes.law import load_law
from qidbayes.noise.coordinates import Fitted
from qidbayes.noise.families import SHARED_EFFECT, Families
from qidbayes.noise.family_kernel import SUITE_SCALE
from qidbayes.noise.unknown_tokens import BETWEEN, UNKNOWN, log_tokens
from qidbayes.posterior import Fit, load_fit
from qidbayes.posterior.assumed import assumed
from qidbayes.posterior.constants import raw_constants
from qidbayes.posterior.diagnostics import Convergence, Diagnostics
from qidbayes.table import load_table
from qidbayes.units import format_count
from tests import families as dense

COUNT = 2000
CONSTANTS = {"beta": 0.3, "alpha": 0.25, "gamma": 5.0}
LOG_K = (-2.0, 0.8)


def _fit(data: pl.DataFrame) -> Fit:
    """Return draws in which the law's level alone is unknown, and all suites are equally noisy."""
    law = load_law("atlas")
    rng = np.random.default_rng(0)
    level = LOG_K[0] + LOG_K[1] * rng.standard_normal(COUNT)
    scale = {**dense.scales(1), "suite_scale_sd": 1e-6}
    flat = {name: np.full(COUNT, value) for name, value in {**scale, **CONSTANTS}.items()} | {"k_ref": np.exp(level)}
    flat |= raw_constants(law, flat)
    fitted, noise = Fitted(data), law.noise
    assert noise.discrepancy == "families"
    labels = Families().labels(fitted)
    suites = fitted.labels("suite")
    flat |= {SUITE_SCALE: np.ones((COUNT, len(suites))), SHARED_EFFECT: np.zeros((COUNT, len(labels)))}
    stats = dict.fromkeys(("energy", "n_steps", "acceptance_rate", "lp"), np.zeros((1, COUNT)))
    return Fit(
        law=law,
        draws={name: values[None] for name, values in flat.items()},
        dims={SUITE_SCALE: "suite", SHARED_EFFECT: "effect"},
        coords={"suite": suites, "effect": labels},
        stats={**stats, "diverging": np.zeros((1, COUNT), dtype=bool)},
        data=data,
        diagnostics=Diagnostics({}, 0, (1.0,), dict.fromkeys(("k_ref", "beta", "alpha", "gamma"), 1.0)),
        attributes={"random_seed": 3},
    )


@pytest.fixture(scope="module")
def fit() -> Fit:
    return _fit(load_table("atlas").filter(suite="llama-1"))


@pytest.fixture(scope="module")
def own() -> pl.DataFrame:
    rows = load_table("atlas").filter(suite="llama-1").head(4).with_columns(suite=pl.lit("mine"))
    return rows.with_columns(qid=pl.Series([0.11, 0.3, 0.09, 0.25]), loss=None, loss_16bit=None, qid_se=None)


def _law(frame: pl.DataFrame) -> np.ndarray:
    n, d, p = (np.log(frame[c].to_numpy() / v) for c, v in dense.REFERENCE.items())
    return np.asarray(CONSTANTS["beta"] * d - CONSTANTS["alpha"] * n - CONSTANTS["gamma"] * p)


def test_draws_and_answers_are_those_of_bayes_theorem(fit: Fit, own: pl.DataFrame) -> None:
    given = fit.condition(own)
    scale = {**dense.scales(1), "suite_scale_sd": 1e-6}
    covariance = dense.covariance(scale, {"mine": 1.0}, own, own, shared=False) + scale["sigma"] ** 2 * np.eye(4)
    precision = np.linalg.inv(covariance)
    ones, left = np.ones(4), np.log(own["qid"].to_numpy()) - _law(own)
    variance = 1 / (ones @ precision @ ones + 1 / LOG_K[1] ** 2)
    middle = variance * (ones @ precision @ left + LOG_K[0] / LOG_K[1] ** 2)
    level = np.log(given.flat("k_ref"))
    ess = given.attributes["conditioned_on"][-1]["ess"]
    assert given.attributes["conditioned_on"][-1]["pareto_k"] < 0.7
    assert ess > 500
    assert abs(level.mean() - middle) < 4 * np.sqrt(variance / ess)
    assert level.std() == pytest.approx(np.sqrt(variance), rel=4 / np.sqrt(2 * ess))
    further = own.head(1).with_columns(bits=pl.lit(3.5), model=pl.lit("another"))
    cross = dense.covariance(scale, {"mine": 1.0}, own, further, shared=False)[:, 0]
    expected = middle + _law(further)[0] + cross @ precision @ (left - middle)
    found = given.predictive(further)
    assert abs(found.mean.mean() - expected) < 4 * np.sqrt(variance / ess)
    alone = dense.covariance(scale, {"mine": 1.0}, further, further, shared=False)[0, 0] + scale["sigma"] ** 2
    np.testing.assert_allclose(found.sd**2, alone - cross @ precision @ cross, rtol=1e-4)


def test_a_new_suite_joins_the_fitted_ones(fit: Fit, own: pl.DataFrame) -> None:
    given = fit.condition(own)
    assert given.coords["suite"] == ("llama-1", "mine")
    assert given.data.height == fit.data.height + own.height
    assert given.draws[SUITE_SCALE].shape == (1, 1000, 2)


def test_further_methods_and_data_sets_bring_effects_of_their_own(fit: Fit, own: pl.DataFrame) -> None:
    mine = own.with_columns(method=pl.lit("hqq"), dataset=pl.lit("c4"), revision=pl.Series(["1", "2", "3", "4"]))
    given = fit.condition(mine)
    labels = given.coords["effect"]
    assert [label for label in labels if label not in fit.coords["effect"]] == [
        "hqq", "hqq × log bits", "hqq × log bits²", "c4",
    ]  # fmt: skip
    known = given.flat(SHARED_EFFECT)[:, [labels.index(label) for label in fit.coords["effect"]]]
    assert (known == 0).all()
    # What four rows of one suite and method say is shared between the suite, the method and the law's level.
    sd = given.flat(SHARED_EFFECT)[:, labels.index("hqq")].std()
    assert 0.2 * dense.scales(1)["method_sd"] < sd < dense.scales(1)["method_sd"]


def test_surprising_rows_are_refused(fit: Fit, own: pl.DataFrame) -> None:
    with pytest.raises(InputError, match=r"4 rows of suite 'mine' say too much .* fit all rows together"):
        fit.condition(own.with_columns(qid=pl.col("qid") * np.exp(15.0)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"qid": pl.lit(-0.01)}, r"4 of 4 rows of suite 'mine' have a QiD of 0 or below"),
        ({"qid_se": pl.lit(0.1)}, "4 of 4 rows of suite 'mine' have a QiD of 0 or below, or a qid_se above 20%"),
        ({"qid": pl.lit(None, pl.Float64)}, "rows 1, 2, 3 and 4, column 'qid': empty"),
        ({"status": pl.lit("failed"), "error": pl.lit("no memory")}, "no row of suite 'mine' has a QiD"),
    ],
)
def test_rows_without_a_logarithm_are_refused(
    fit: Fit, own: pl.DataFrame, change: dict[str, pl.Expr], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        fit.condition(own.with_columns(**change))


def test_rows_of_the_fit_are_refused(fit: Fit) -> None:
    with pytest.raises(InputError, match="2 of the rows of suite 'llama-1' are in the fit already"):
        fit.condition(load_table("atlas").filter(suite="llama-1").head(2))
    with pytest.raises(InputError, match="2 of the rows of suite 'mine' are in the fit already"):
        fit.condition(load_table("atlas").filter(suite="llama-1").head(2).with_columns(suite=pl.lit("mine")))


def test_a_frame_is_read_as_a_table_is(fit: Fit) -> None:
    mine = pl.DataFrame({"model": "m", "n_params": 7e9, "tokens": 2e12, "method": "GPTQ", "bits": 4, "qid": 0.08})
    assert fit.condition(mine).attributes["conditioned_on"][-1]["suite"] == "own rows"
    with pytest.raises(InputError, match="row 1, column 'qid': empty"):
        fit.condition(mine.rename({"qid": "qdi"}))


def test_a_conditioned_fit_is_saved_and_read(fit: Fit, own: pl.DataFrame, tmp_path: Path) -> None:
    given = fit.condition(own)
    given.save(tmp_path / "mine.nc")
    again = load_fit(tmp_path / "mine.nc")
    assert again.diagnostics == given.diagnostics
    assert given.diagnostics.problems() == fit.diagnostics.problems(), "resampled draws are no chain to be judged"
    frame = own.head(1).with_columns(bits=pl.lit(3.5))
    np.testing.assert_array_equal(again.predictive(frame).mean, given.predictive(frame).mean)
    assert again.attributes["conditioned_on"][-1]["rows"] == own.height


def test_resampled_draws_have_no_r_hat(fit: Fit, own: pl.DataFrame) -> None:
    chains = replace(fit, diagnostics=replace(fit.diagnostics, convergence={"k_ref": Convergence(1.0, 5000.0, 5000.0)}))
    assert chains.summary().row(0, named=True)["ess_bulk"] == 5000
    assert "ess_bulk" not in chains.condition(own).summary().columns


def test_rows_one_after_the_other_wear_out_the_draws_as_rows_together_do(fit: Fit, own: pl.DataFrame) -> None:
    far = own.with_columns(qid=pl.col("qid") * np.exp(5.0))  # six standard deviations of the level
    parts, together = fit, fit.condition(far)
    for row in range(far.height):
        parts = parts.condition(far[row : row + 1])
    last, at_once = (found.attributes["conditioned_on"][-1]["ess"] for found in (parts, together))
    assert last <= len(np.unique(parts.flat("k_ref"))), "no more draws than there are"
    assert last == pytest.approx(at_once, rel=0.3)


def test_rows_that_leave_one_draw_are_refused(fit: Fit, own: pl.DataFrame) -> None:
    one = replace(fit, draws={name: np.repeat(values[:, :1], COUNT, axis=1) for name, values in fit.draws.items()})
    with pytest.raises(InputError, match="say too much"):
        one.condition(own)
    # So of a fitted suite, method and data set.
    known = fit.data[:1].with_columns(bits=pl.lit(3.5), qid=pl.lit(0.2)).drop("loss_16bit", strict=False)
    with pytest.raises(InputError, match=r"say too much.*; 1 effective draws"):
        one.condition(known)


@pytest.mark.parametrize("form", [pl.DataFrame.lazy, pl.DataFrame.to_pandas, lambda f: f.to_dict(as_series=False)])
def test_rows_come_in_any_form_of_a_table(fit: Fit, form: Callable[[pl.DataFrame], Any]) -> None:
    mine = pl.DataFrame({"model": ["m"], "n_params": 7e9, "tokens": 2e12, "method": "gptq", "bits": 4, "qid": 0.08})
    np.testing.assert_array_equal(fit.condition(form(mine)).flat("k_ref"), fit.condition(mine).flat("k_ref"))


def test_rows_without_a_qid_are_counted(fit: Fit, own: pl.DataFrame) -> None:
    failed = pl.Series([True, False, False, False])
    status = pl.when(failed).then(pl.lit("failed")).otherwise(pl.lit("ok")).alias("status")
    error = pl.when(failed).then(pl.lit("no memory")).alias("error")
    qid = pl.when(~failed).then("qid").alias("qid")
    given = fit.condition(own.with_columns(status, error, qid)).attributes["conditioned_on"][-1]
    assert (given["rows"], given["left_out"]) == (3, 1)


def test_a_fitted_model_measured_again_is_of_ones_own_suite(fit: Fit, own: pl.DataFrame) -> None:
    given = fit.condition(own)  # which has models of suite llama-1
    asked = {"n_params": own["n_params"][0], "tokens": own["tokens"][0], "bits": 3.5, "method": own["method"][0]}
    model = own["model"][0]
    assert (
        given.predict(model=model, **asked)["median"][0]
        == given.predict(model=model, suite="mine", **asked)["median"][0]
    )


def test_unknown_tokens_are_flat_in_their_logarithm() -> None:
    from scipy import special
    from scipy.stats import norm

    share = np.linspace(0.01, 0.99, 99)
    found = log_tokens(norm.ppf(share), special)
    low, high = np.log(BETWEEN)
    np.testing.assert_allclose((found - low) / (high - low), share, rtol=1e-10)


def test_a_question_that_does_not_tell_its_tokens_is_answered_over_all_of_them(fit: Fit) -> None:
    asked = {"n_params": 7e9, "bits": 4.0, "method": "gptq"}
    told = fit.predict(tokens=3e12, **asked)
    untold = fit.predict(**asked)
    wider = np.log(untold["upper"] / untold["lower"])[0], np.log(told["upper"] / told["lower"])[0]
    assert wider[0] > wider[1]
    low, high = np.log(BETWEEN)
    draws = np.log(fit.flat("k_ref")).mean() + CONSTANTS["beta"] * ((low + high) / 2 - np.log(3e12))
    draws -= CONSTANTS["gamma"] * 0.0 + CONSTANTS["alpha"] * 0.0
    assert np.log(untold["median"][0]) == pytest.approx(draws, abs=0.15)  # 5 Monte Carlo errors of 2,000 draws


def test_tokens_of_own_rows_that_nobody_tells_are_learnt_with_the_rest(fit: Fit, own: pl.DataFrame) -> None:
    mine = own.with_columns(tokens=pl.lit(None, pl.Int64), model="my " + pl.col("model"))
    given = fit.condition(mine)
    assert given.coords["untold"] == tuple(mine["model"].unique(maintain_order=True))
    drawn = given.flat(UNKNOWN)
    assert ((drawn >= BETWEEN[0]) & (drawn <= BETWEEN[1])).all()
    # A QiD ten times as large speaks of more tokens.
    more = fit.condition(mine.with_columns(qid=3.0 * pl.col("qid"))).flat(UNKNOWN)
    assert np.log(more).mean() > np.log(drawn).mean()


def test_a_fitted_model_is_asked_about_as_the_table_has_it(fit: Fit) -> None:
    """Named alone, a model has its size and the tokens of its last checkpoint: the same answer as if they were told."""
    last = fit.data.sort("tokens").row(-1, named=True)
    assert fit.data.filter(model=last["model"])["tokens"].max() == last["tokens"]
    told = {"n_params": last["n_params"], "tokens": last["tokens"]}
    asked = {"model": last["model"], "bits": 4.0, "method": "gptq", "dataset": last["dataset"]}
    found, said = fit.predict(**asked), str(assumed(fit, pl.DataFrame(asked)))
    assert found["n_params"].to_list() == [last["n_params"]]
    expected = fit.predict(**asked, **told)
    for column in ("median", "lower", "upper"):
        assert found[column].to_list() == expected[column].to_list()
    size, tokens = format_count(last["n_params"]), format_count(last["tokens"])
    assert f"{last['model']} as in the table ({size} parameters, {tokens} tokens)" in said
    assert "tokens unknown" not in said and "as in the table" not in str(assumed(fit, pl.DataFrame(asked | told)))


def test_own_rows_of_a_fitted_model_need_no_tokens(fit: Fit, own: pl.DataFrame) -> None:
    """They are the table's: the same draws and answers as if the rows told them."""
    blank = fit.condition(own.with_columns(tokens=pl.lit(None, pl.Int64)))
    told = fit.condition(own)
    assert "untold" not in blank.coords
    np.testing.assert_array_equal(blank.flat("k_ref"), told.flat("k_ref"))
    assert blank.data["tokens"].to_list() == told.data["tokens"].to_list()


def test_rows_without_a_logarithm_are_left_out_and_counted(fit: Fit, own: pl.DataFrame) -> None:
    bad = own.head(2).with_columns(bits=pl.lit(5.0), qid=pl.Series([-0.01, 0.1]), qid_se=pl.Series([None, 0.05]))
    said = r"2 of 6 rows of suite 'mine' have a QiD of 0 or below.*QiD -0.01\): left out"
    with pytest.warns(TableWarning, match=said) as caught:
        given = fit.condition(
            pl.concat([own.with_columns(pl.col("qid_se").cast(pl.Float64)), bad], how="vertical_relaxed")
        )
    assert len(caught) == 1 and caught[0].filename == __file__
    np.testing.assert_array_equal(given.flat("k_ref"), fit.condition(own).flat("k_ref"))
    last = given.attributes["conditioned_on"][-1]
    assert (last["rows"], last["left_out"]) == (4, 2)
