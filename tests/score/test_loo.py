"""Leave-one-out against refits without the checkpoint, and against densities by another route."""

import dataclasses

import numpy as np
import polars as pl
import pytest
from dense import covariance, variance, with_errors
from made import NESTED, SMOOTH, log_unified, unified_fit
from scipy import stats

import qidbayes as qb
from qidbayes.posterior.likelihood import covariances, grouped_log_likelihood
from qidbayes.score.loo import leave_one_out


def test_conditional_density_is_that_of_the_joint_normals(unified: qb.Fit) -> None:
    """log p(y_g | rest) = log p(y) − log p(rest), each a multivariate normal of SciPy's."""
    small = dataclasses.replace(
        unified,
        draws={name: values[:1, :2] for name, values in unified.draws.items()},
        stats={name: values[:1, :2] for name, values in unified.stats.items()},
    )
    found = grouped_log_likelihood(small, np.arange(2))["checkpoint"]
    residual = np.log(unified.data["qid"].to_numpy()) - small.log_draws(unified.data, "response_params")[1]
    (covariance,) = covariances(small, np.array([1]))
    for unit, rows in ((0, [0, 1, 2]), (57, [171, 172, 173])):
        rest = np.setdiff1d(np.arange(360), rows)
        whole = stats.multivariate_normal(np.zeros(360), covariance).logpdf(residual)
        without = stats.multivariate_normal(np.zeros(357), covariance[np.ix_(rest, rest)]).logpdf(residual[rest])
        assert found[1, unit] == pytest.approx(whole - without, abs=1e-6)


def test_rows_flatter_more_than_checkpoints(unified: qb.Fit) -> None:
    found = leave_one_out(unified)
    checkpoint, row = found["checkpoint"], found["row"]
    assert row.log_density > checkpoint.log_density + 0.1
    assert checkpoint.bad < 0.05


def test_psis_is_the_refit_without_the_checkpoint() -> None:
    """Independent errors: the refit's predictive of a left-out checkpoint is the product of its rows' given a draw."""
    law = qb.load_law("unified").with_noise(groups=(), discrepancy="none")
    pythia = qb.load_table("pythia")
    everything = qb.fit(pythia, law, random_seed=0)
    units = grouped_log_likelihood(everything, np.arange(0, everything.stats["lp"].size, 8))["row"]
    row = 200
    left_out = everything.data[row]
    refit = qb.fit(pythia.join(left_out, on=["model", "tokens", "bits"], how="anti"), law, random_seed=0)
    exact = refit.predictive(left_out).log_density(np.log(left_out["qid"].to_numpy()))[0]
    # Importance sampling without smoothing; for one of 360 rows the weights are nearly even.
    estimate = -np.log(np.mean(np.exp(-units[:, row])))
    assert estimate == pytest.approx(exact, abs=0.05)


CONSTANTS = {"k_ref": 0.04, "beta": 0.5, "alpha": 0.3, "gamma": 5.6}


@pytest.mark.parametrize("smooth", [True, False])
def test_rows_with_unequal_errors_are_left_out_of_the_dense_normal(smooth: bool) -> None:
    """Draws that hardly differ make every weight 1, so that no importance sampling stands between."""
    table = qb.load_table("pythia")
    table = table.filter(
        pl.col("n_params") < 1e9, pl.col("tokens").is_in(table["tokens"].unique().sort()[::6].implode())
    )
    # Some checkpoints have one row and some three; each row's error is its own.
    data = with_errors(table.filter((pl.col("bits") == 3) | (pl.col("tokens") > 5e10))).sort("model", "tokens", "bits")
    share = np.linspace(0.001, 0.049, data.height)
    data = data.with_columns(qid_se=pl.Series(share) * pl.col("qid"))
    jitter = 1.0 + 1e-7 * np.random.default_rng(3).standard_normal(200)
    noise = SMOOTH if smooth else NESTED
    models = dict.fromkeys(data["model"].unique().sort(), 0.0)
    fit = unified_fit(CONSTANTS, {**noise, "sigma": noise["sigma"] * jitter}, data, None if smooth else models)
    residual = np.log(data["qid"].to_numpy()) - log_unified(CONSTANTS, data)
    if smooth:
        shared = covariance(SMOOTH, data, data)
    else:
        model, checkpoint = data["model"].to_numpy(), checkpoints(data)
        shared = NESTED["model_sd"] ** 2 * np.equal.outer(model, model)
        shared = shared + NESTED["checkpoint_sd"] ** 2 * np.equal.outer(checkpoint, checkpoint)
    full = shared + np.diag(noise["sigma"] ** 2 + variance(data))
    units = {"row": [[i] for i in range(data.height)]}
    units["checkpoint"] = [np.flatnonzero(checkpoints(data) == name).tolist() for name in np.unique(checkpoints(data))]
    assert {len(unit) for unit in units["checkpoint"]} == {1, 3}
    found = leave_one_out(fit)
    for name, parts in units.items():
        told = np.array([left_out(full, residual, part) for part in parts])
        assert found[name].log_density == pytest.approx(told.sum() / data.height, abs=1e-5)
        # Of a sum of independent units, per row.
        assert found[name].se == pytest.approx(np.sqrt(len(told) * told.var(ddof=1)) / data.height, rel=1e-4)


def left_out(full: np.ndarray, residual: np.ndarray, part: list[int]) -> float:
    rest = np.setdiff1d(np.arange(len(residual)), part)
    whole = stats.multivariate_normal(cov=full).logpdf(residual)
    return float(whole - stats.multivariate_normal(cov=full[np.ix_(rest, rest)]).logpdf(residual[rest]))


def checkpoints(frame: pl.DataFrame) -> np.ndarray:
    return (frame["model"] + " " + frame["revision"]).to_numpy()
