"""Answers of a fit whose rows have different standard errors, against the conditional of one dense normal."""

import numpy as np
import polars as pl
import pytest
from dense import covariance, variance, with_errors
from made import SMOOTH, log_unified, unified_fit

import qidbayes as qb

CONSTANTS = {"k_ref": 0.04, "beta": 0.5, "alpha": 0.3, "gamma": 5.6}
DRAWS = {**SMOOTH, "sigma": np.array([0.1, 0.03]), "suite_sd": np.array([0.3, 0.6])}


def small() -> pl.DataFrame:
    table = qb.load_table("pythia")
    return table.filter(
        pl.col("n_params") < 3e9, pl.col("tokens").is_in(table["tokens"].unique().sort()[::4].implode())
    )


def of_suite(table: pl.DataFrame, number: int) -> pl.DataFrame:
    return table.with_columns(suite=pl.lit(f"suite {number}"), model=pl.col("model") + f" {number}")


def with_one_model_in_both() -> pl.DataFrame:
    table = pl.concat([of_suite(small(), 0), of_suite(small(), 1)])
    one = table["model"][0]
    table = table.with_columns(model=pl.when(pl.col("model") == f"{one[:-2]} 1").then(pl.lit(one)).otherwise("model"))
    again = pl.col("suite") == "suite 1"
    return table.with_columns(revision=pl.when(again).then(pl.col("revision") + " again").otherwise("revision"))


TABLES = {
    "a grid": small(),
    "with holes": small().sample(55, seed=3),
    "no grid": small().sample(12, seed=1),
    "a width repeated": pl.concat([small(), small().filter(bits=2.0), small().filter(bits=2.0)]),
    "two methods": pl.concat([small(), small().head(40).with_columns(method=pl.lit("awq"))]),
    "several suites": pl.concat([of_suite(small(), i) for i in range(3)]),
    "suites with other repetitions": pl.concat([of_suite(small(), i) for i in (0, 1, 1, 1)]),
    "suites with a model in both": with_one_model_in_both(),
}


@pytest.mark.parametrize("name", TABLES)
def test_answers_are_the_dense_normals(name: str) -> None:
    data = with_errors(TABLES[name], seed=2).sort("model", "tokens", "bits")
    fit = unified_fit(CONSTANTS, DRAWS, data)
    # Fitted and new checkpoints of fitted models, at a width between the fitted ones too, and two fitted rows too.
    asked = data.filter(pl.col("tokens") > 5e10).unique(["suite", "model"], keep="first", maintain_order=True).head(3)
    later = asked.with_columns(tokens=asked["tokens"] * 3, revision=pl.lit("later"))
    asked = pl.concat([asked.with_columns(bits=2.5), later, data.head(1), data.tail(1)]).drop(
        "qid", "qid_se", "loss", "loss_16bit"
    )
    predictive, joint = fit.predictive(asked), fit.joint(asked)
    for draw in range(2):
        scale = {key: float(np.broadcast_to(value, 2)[draw]) for key, value in DRAWS.items()}
        own = np.diag(scale["sigma"] ** 2 + variance(data))
        weights = np.linalg.solve(covariance(scale, data, data) + own, cross := covariance(scale, data, asked)).T
        mean = log_unified(CONSTANTS, asked) + weights @ (np.log(data["qid"].to_numpy()) - log_unified(CONSTANTS, data))
        left = covariance(scale, asked, asked) - weights @ cross + scale["sigma"] ** 2 * np.eye(asked.height)
        np.testing.assert_allclose(predictive.mean[draw], mean, atol=1e-7)
        np.testing.assert_allclose(predictive.sd[draw] ** 2, np.diag(left), rtol=1e-6)
        np.testing.assert_allclose(joint.mean[draw, 0], mean, atol=1e-7)
        np.testing.assert_allclose(joint.covariance[draw, 0], left, rtol=1e-6, atol=1e-9)


def test_a_suite_that_was_not_fitted_is_told_nothing() -> None:
    fit = unified_fit(CONSTANTS, DRAWS, with_errors(small()))
    found = fit.predictive(small().head(2).with_columns(suite=pl.lit("another"), model=pl.lit("new")))
    np.testing.assert_allclose(found.mean, np.broadcast_to(log_unified(CONSTANTS, small().head(2)), (2, 2)), rtol=1e-12)
    scales = ("smooth_sd", "suite_sd", "model_sd", "checkpoint_sd", "sigma")
    variance = sum(np.broadcast_to(DRAWS[name], 2) ** 2 for name in scales)
    np.testing.assert_allclose(found.sd**2, np.broadcast_to(variance[:, None], (2, 2)), rtol=1e-12)


def test_a_new_rows_own_error_widens_its_forecast() -> None:
    fit = unified_fit(CONSTANTS, DRAWS, with_errors(small()))
    asked = small().head(2).with_columns(pl.Series("qid_se", [0.002, 0.05]))
    with_error, without = fit.predictive(asked), fit.predictive(asked.drop("qid_se"))
    own = asked["qid_se"].to_numpy() / np.exp(without.mean)
    np.testing.assert_allclose(with_error.sd**2, without.sd**2 + own**2, rtol=1e-12)
