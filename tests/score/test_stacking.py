"""Stacking weights against ArviZ's, a closed form, and the conditions of optimality."""

import numpy as np
import pytest
import xarray
from arviz_stats import compare as arviz_compare
from arviz_stats.utils import ELPDDataLOO
from hypothesis import given
from hypothesis import strategies as st

from qidbayes.score.stacking import stacking_weights


def score(log_density: np.ndarray, weights: np.ndarray) -> float:
    return float(np.log(np.exp(log_density) @ weights).mean())


def test_two_laws_that_take_turns_have_a_closed_form() -> None:
    # A share s of points has density a under one law and b under the other, the rest the other way round:
    # w = (s·a − (1 − s)·b) / (a − b).
    a, b, s = 0.8, 0.1, 0.7
    density = np.array([[a, b]] * 70 + [[b, a]] * 30)
    expected = (s * a - (1 - s) * b) / (a - b)
    np.testing.assert_allclose(stacking_weights(np.log(density)), [expected, 1 - expected], atol=1e-4)


@given(st.integers(0, 2**32 - 1), st.integers(2, 5))
def test_no_other_mixture_scores_better(seed: int, laws: int) -> None:
    rng = np.random.default_rng(seed)
    log_density = rng.normal(0.0, 1.0, (40, laws)) + rng.normal(0.0, 0.5, laws)
    weights = stacking_weights(log_density)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1.0)
    best = score(log_density, weights)
    for other in (*np.eye(laws), *rng.dirichlet(np.ones(laws), 50)):
        assert best >= score(log_density, other) - 1e-6


def test_weights_are_arviz_s() -> None:
    rng = np.random.default_rng(3)
    log_density = rng.normal(0.0, 1.0, (200, 3)) + np.array([0.0, -0.1, -2.5])
    theirs = arviz_compare(
        {
            str(i): ELPDDataLOO(
                elpd=column.sum(), se=1.0, p=1.0, n_samples=1000, n_data_points=200, scale="log", warning=False,
                good_k=0.7, elpd_i=xarray.DataArray(column, dims="point"), pareto_k=None, approx_posterior=False,
            )
            for i, column in enumerate(log_density.T)
        },
        method="stacking", round_to="none",
    )["weight"].sort_index().to_numpy()  # fmt: skip
    ours = stacking_weights(log_density)
    np.testing.assert_allclose(ours, theirs.astype(float), atol=5e-3)
    assert score(log_density, ours) >= score(log_density, theirs.astype(float)) - 1e-6


def test_far_apart_densities_do_not_overflow() -> None:
    weights = stacking_weights(np.array([[-4000.0, -3.0], [-2.0, -9000.0], [-5000.0, -4000.0]]))
    np.testing.assert_allclose(weights, [1 / 3, 2 / 3], atol=1e-3)
