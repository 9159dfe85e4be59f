"""Chains that propose from a mixture, on densities whose moments are known."""

import numpy as np
import pytest
from scipy import stats

from qidbayes.infer.proposal import Proposal, proposal

SIZE = 6


def ridge(points: np.ndarray) -> np.ndarray:
    """A standard normal prior times a likelihood that bends: log-normal in one number given another."""
    bent = points[:, 1] - 0.5 * points[:, 0] ** 2
    return np.asarray(-0.5 * np.square(points).sum(axis=1) - 0.5 * np.square(bent / 0.3))


def two_modes(points: np.ndarray) -> np.ndarray:
    """Four standard deviations apart in the first number."""
    apart = [-0.5 * np.square((points[:, 0] - sign) / 0.5) for sign in (-1.0, 1.0)]
    return np.asarray(np.logaddexp(*apart) - 0.5 * np.square(points[:, 1:]).sum(axis=1))


@pytest.mark.parametrize(("density", "least"), [(ridge, 0.3), (two_modes, 0.3)])
def test_importance_weights_have_the_moments_of_the_density(density: object, least: float) -> None:
    assert callable(density)
    rng = np.random.default_rng(0)
    found = proposal(density, SIZE, rng)
    points = found.mixture.draw(20_000, rng)
    weights = np.exp(density(points) - found.mixture.log_density(points))
    assert found.efficiency > least
    weights /= weights.sum()
    effective = 1 / np.square(weights).sum()
    assert effective > least * len(points)
    mean, square = weights @ points, weights @ points**2
    expected = _moments(density)
    for i in range(SIZE):
        error = 4 * np.sqrt(square[i] / effective)
        assert mean[i] == pytest.approx(expected[0][i], abs=error)
        assert square[i] == pytest.approx(expected[1][i], abs=4 * np.sqrt((weights @ points**4)[i] / effective))


def test_a_mixture_fitted_anew_lets_no_chain_stay_where_the_first_did() -> None:
    """The first follows one of two modes, and finds the other by its widest components alone."""
    rng = np.random.default_rng(2)

    def one_mode(points: np.ndarray) -> np.ndarray:
        apart = np.square((points[:, 0] + 1.0) / 0.5) + np.square(points[:, 1:]).sum(axis=1)
        return np.asarray(-0.5 * apart)

    first = proposal(one_mode, SIZE, rng)
    drawn = first.mixture.draw(2_000, rng)
    before = first.longest(drawn, two_modes(drawn))
    found = Proposal(first.mixture, 0.5, drawn[:0], drawn[:0, 0], ()).refitted(drawn, two_modes(drawn), rng)
    drawn = found.mixture.draw(20_000, rng)
    assert before > 20.0
    assert found.longest(drawn, two_modes(drawn)) < 0.5 * before
    weights = np.exp(two_modes(drawn) - found.mixture.log_density(drawn))
    weights /= weights.sum()
    error = np.sqrt(1.25 * np.square(weights).sum())
    assert weights @ drawn[:, 0] == pytest.approx(0.0, abs=4 * error)


def _moments(density: object) -> tuple[np.ndarray, np.ndarray]:
    """First and second moments, by quadrature in the two numbers that matter."""
    if density is two_modes:
        return np.zeros(SIZE), np.array([1.25, 1.0, 1.0, 1.0, 1.0, 1.0])
    grid = np.linspace(-6, 6, 601)
    x, y = np.meshgrid(grid, grid, indexing="ij")
    points = np.zeros((x.size, SIZE))
    points[:, 0], points[:, 1] = x.ravel(), y.ravel()
    weight = np.exp(ridge(points))
    weight /= weight.sum()
    first, second = np.zeros(SIZE), np.ones(SIZE)
    for i in (0, 1):
        first[i], second[i] = weight @ points[:, i], weight @ points[:, i] ** 2
    return first, second


def test_the_density_of_a_mixture_is_that_of_what_it_draws() -> None:
    rng = np.random.default_rng(1)
    mixture = proposal(ridge, SIZE, rng).mixture
    points = rng.standard_normal((50, SIZE))
    expected = np.zeros(50)
    for weight, mean, root in zip(mixture.weights, mixture.means, mixture.roots, strict=True):
        expected += weight * stats.multivariate_t(mean, root @ root.T, df=5).pdf(points)
    apart = mixture.log_density(points) - np.log(expected)
    np.testing.assert_allclose(apart, apart[0], atol=1e-8)  # up to a constant
    assert mixture.weights.sum() == pytest.approx(1.0)
