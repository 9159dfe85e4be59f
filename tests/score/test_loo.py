"""Leave-one-out against refits without the checkpoint, and against densities by another route."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

import qidbayes as qb
from qidbayes.score.loo import _covariances, _log_likelihood, leave_one_out


def test_conditional_density_is_that_of_the_joint_normals(unified: qb.Fit) -> None:
    """log p(y_g | rest) = log p(y) − log p(rest), each a multivariate normal of SciPy's."""
    small = dataclasses.replace(
        unified,
        draws={name: values[:1, :2] for name, values in unified.draws.items()},
        stats={name: values[:1, :2] for name, values in unified.stats.items()},
    )
    found = _log_likelihood(small)["checkpoint"]
    residual = np.log(unified.data["qid"].to_numpy()) - small.log_draws(unified.data, "response_params")[1]
    (covariance,) = _covariances(small, np.array([1]))
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
    units = _log_likelihood(everything)["row"]
    row = 200
    left_out = everything.data[row]
    refit = qb.fit(pythia.join(left_out, on=["model", "tokens", "bits"], how="anti"), law, random_seed=0)
    exact = refit.predictive(left_out).log_density(np.log(left_out["qid"].to_numpy()))[0]
    # Importance sampling without smoothing; for one of 360 rows the weights are nearly even.
    estimate = -np.log(np.mean(np.exp(-units[:, row])))
    assert estimate == pytest.approx(exact, abs=0.05)
