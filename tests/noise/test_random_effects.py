"""Shared effects integrated out: equal to the dense normal distribution, and drawn from its conditional."""

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from qidbayes.noise.random_effects import Level, _sum, group_sum, log_density, sample_effects


def nesting(rng: np.random.Generator, rows: int, *, regular: bool) -> tuple[Level, Level]:
    """Rows in checkpoints in models: equally many in each, or anyhow and in any order."""
    if regular:
        return Level("checkpoint", np.repeat(np.arange(6), 3), 6), Level("model", np.repeat(np.arange(2), 3), 2)
    checkpoint = rng.integers(0, max(1, rows // 2), rows)
    _, checkpoint = np.unique(checkpoint, return_inverse=True)
    model = rng.integers(0, 3, checkpoint.max() + 1)
    _, model = np.unique(model, return_inverse=True)
    return Level("checkpoint", checkpoint, checkpoint.max() + 1), Level("model", model, model.max() + 1)


def members(levels: tuple[Level, ...]) -> list[np.ndarray]:
    """Return which rows each group of each level has; shape (rows, groups)."""
    found, of_row = [], slice(None)
    for level in levels:
        of_row = level.parent[of_row]  # of the level's members, then of the rows
        found.append(np.eye(level.size)[of_row])
    return found


def dense(variance: np.ndarray, levels: tuple[Level, ...], effects: list[float]) -> np.ndarray:
    return np.diag(variance) + sum(t * z @ z.T for t, z in zip(effects, members(levels), strict=True))


seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=150)
@given(seeds, st.integers(1, 30), st.integers(0, 2), st.booleans())
def test_the_density_is_the_dense_normals(seed: int, rows: int, depth: int, regular: bool) -> None:
    rng = np.random.default_rng(seed)
    levels = nesting(rng, rows, regular=regular)[:depth]
    rows = 18 if regular else rows
    effects = list(10 ** rng.uniform(-6, 1, depth))
    variance = 10 ** rng.uniform(-4, 1) + rng.uniform(0, 0.5, rows) * rng.integers(0, 2)  # some rows' errors are known
    residual = rng.normal(size=rows)
    sums = [(t, lambda values, level=level: _sum(values, level)) for t, level in zip(effects, levels, strict=True)]
    expected = stats.multivariate_normal(cov=dense(variance, levels, effects)).logpdf(residual)
    assert log_density(residual, variance, sums, np.log) == pytest.approx(expected, rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("regular", [True, False])
def test_pytensor_has_the_same_density(regular: bool) -> None:
    rng = np.random.default_rng(3)
    levels = nesting(rng, 18, regular=regular)
    assert [level.regular for level in levels] == [regular, regular]
    residual, variance, effects = rng.normal(size=18), rng.uniform(0.1, 1, 18), [0.3, 0.7]
    with pm.Model():
        data = {f"{level.name}_parent": pm.Data(f"{level.name}_parent", level.parent) for level in levels}
        sums = [(t, group_sum(level, data, pt)) for t, level in zip(effects, levels, strict=True)]
        found = log_density(pt.as_tensor(residual), pt.as_tensor(variance), sums, pt.log).eval(mode="FAST_COMPILE")
    expected = stats.multivariate_normal(cov=dense(variance, levels, effects)).logpdf(residual)
    assert float(found) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("regular", [True, False])
def test_effects_are_drawn_from_the_dense_conditional(regular: bool) -> None:
    rng, draws = np.random.default_rng(8), 40_000
    levels = nesting(rng, 18, regular=regular)
    residual, variance, effects = rng.normal(size=18), rng.uniform(0.1, 1, 18), [0.3, 0.7]
    found = sample_effects(
        np.broadcast_to(residual, (draws, 18)),
        np.broadcast_to(variance, (draws, 18)),
        levels,
        {level.name: np.full(draws, t) for level, t in zip(levels, effects, strict=True)},
        {level.name: rng.standard_normal((draws, level.size)) for level in levels},
    )
    values = np.hstack([found["checkpoint"], found["model"]])
    design = np.hstack(members(levels))
    prior = np.concatenate([np.full(level.size, t) for level, t in zip(levels, effects, strict=True)])
    covariance = np.linalg.inv(np.diag(1 / prior) + design.T @ (design / variance[:, None]))
    mean = covariance @ design.T @ (residual / variance)
    # Four standard errors: of a mean sd/√n, of a covariance √((s_ii s_jj + s_ij²)/n).
    sd = np.sqrt(np.diag(covariance))
    assert (np.abs(values.mean(axis=0) - mean) < 4 * sd / np.sqrt(draws)).all()
    error = np.sqrt((np.outer(sd, sd) ** 2 + covariance**2) / draws)
    assert (np.abs(np.cov(values.T) - covariance) < 4 * error).all()


@settings(max_examples=50)
@given(seeds, st.integers(1, 30))
def test_sums_by_group(seed: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    level = nesting(rng, rows, regular=False)[0]
    values = rng.normal(size=(2, rows))
    np.testing.assert_allclose(_sum(values, level), values @ np.eye(level.size)[level.parent], atol=1e-12)
