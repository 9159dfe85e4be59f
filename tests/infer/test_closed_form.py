"""NUTS gives the posterior that Bayesian linear regression has in closed form."""

import numpy as np
import polars as pl
import pytest
from arviz_stats.base import array_stats
from closed_form import posterior, regression, strata
from scipy import stats

import qidbayes as qb
from qidbayes.law import load_law


def assert_agrees(fit: qb.Fit, expected: dict[str, tuple[float, float]]) -> None:
    """Means and standard deviations agree within 4 Monte Carlo standard errors."""
    for name, (mean, sd) in expected.items():
        draws = np.log(fit.draws[name]) if name == "k_ref" else fit.draws[name]
        error = array_stats.mcse(draws, chain_axis=0, draw_axis=1, method="mean")
        assert abs(draws.mean() - mean) < 4 * error, name
        error = array_stats.mcse(draws, chain_axis=0, draw_axis=1, method="sd")
        assert abs(draws.std(ddof=1) - sd) < 4 * error, name


def test_independent_errors(pythia: pl.DataFrame) -> None:
    law = load_law("unified").with_noise(groups=(), discrepancy="none")
    expected = posterior(pythia, {"sigma": np.linspace(np.log(0.1), np.log(1.0), 400)})
    # With priors this flat the means are those of ordinary least squares.
    x, y = regression(pythia)
    by_least_squares = np.linalg.lstsq(x, y)[0]
    for name, value in zip(("k_ref", "beta", "alpha", "gamma"), by_least_squares, strict=True):
        assert expected[name][0] == pytest.approx(value, abs=0.1 * expected[name][1])
    assert_agrees(qb.fit(pythia, law, random_seed=4), expected)


def test_errors_shared_by_checkpoints_and_models(pythia: pl.DataFrame, unified: qb.Fit) -> None:
    wide = np.linspace(-6, 1.5, 60)
    expected = posterior(pythia, {"sigma": np.linspace(-2.5, 0, 50), "checkpoint_sd": wide, "model_sd": wide})
    assert_agrees(unified, expected)


def test_the_strata_are_those_of_the_dense_covariance(pythia: pl.DataFrame) -> None:
    spaces = strata(pythia)
    assert [round(np.trace(p)) for p in spaces] == [240, 114, 6]
    sigma, checkpoint, model = 0.3, 0.2, 0.4
    eigenvalues = [sigma**2, sigma**2 + 3 * checkpoint**2, sigma**2 + 3 * checkpoint**2 + 60 * model**2]
    same = [
        labels[:, None] == labels[None, :]
        for labels in ((pythia["model"] + pythia["revision"]).to_numpy(), pythia["model"].to_numpy())
    ]
    dense = sigma**2 * np.eye(360) + checkpoint**2 * same[0] + model**2 * same[1]
    np.testing.assert_allclose(sum(v * p for v, p in zip(eigenvalues, spaces, strict=True)), dense, atol=1e-12)
    y = regression(pythia)[1]
    by_strata = -0.5 * sum(
        round(np.trace(p)) * np.log(2 * np.pi * v) + y @ p @ y / v for v, p in zip(eigenvalues, spaces, strict=True)
    )
    assert by_strata == pytest.approx(stats.multivariate_normal(cov=dense).logpdf(y))
