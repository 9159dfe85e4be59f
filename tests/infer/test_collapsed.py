"""A law without its linear constants, against the multivariate normal that they make with the rest."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from dense import covariance, variance, with_errors
from scipy import stats

import qidbayes as qb
from qidbayes.infer.collapsed import CONSTANTS, Collapsed, collapsed
from qidbayes.infer.inputs import Inputs, inputs
from qidbayes.infer.model import model_of_inputs

UNIFIED = qb.load_law("unified")
MEAN, SD = np.array([-3.0, 0.5, 0.3, 5.0]), np.array([2.0, 0.5, 0.5, 3.0])
"""Of log k_ref, beta, alpha and gamma in models/unified.toml."""


def table() -> pl.DataFrame:
    shipped = qb.load_table("pythia")
    tokens = shipped["tokens"].unique().sort()[::4].implode()
    return with_errors(shipped.filter(pl.col("n_params") < 3e9, pl.col("tokens").is_in(tokens)))


def design(frame: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    n, d, p = (frame[c].cast(pl.Float64).to_numpy() for c in ("n_params", "tokens", "bits"))
    columns = [np.ones(frame.height), np.log(d / 1e11), -np.log(n / 1e9), -np.log(p / 4)]
    return np.column_stack(columns), np.log(frame["qid"].to_numpy())


def numbers(found: Collapsed, point: np.ndarray) -> dict[str, float]:
    return {one.name: float(one.prior.from_normal(point[one.where])[0]) for one in found.left}


def dense(rows: Inputs, scale: dict[str, float]) -> np.ndarray:
    return covariance(scale, rows.frame, rows.frame) + np.diag(scale["sigma"] ** 2 + variance(rows.frame))


def test_density_is_that_of_one_normal_with_the_constants_in_its_covariance() -> None:
    rows = inputs(table(), UNIFIED)
    found = Collapsed(rows)
    assert [one.name for one in found.left] == list(rows.errors)
    points = 0.5 * np.random.default_rng(0).standard_normal((3, found.dimension))
    density, _ = found(points, np.random.default_rng(0))
    effects, response = design(rows.frame)
    for point, value in zip(points, density, strict=True):
        full = dense(rows, numbers(found, point)) + effects @ np.diag(SD**2) @ effects.T
        expected = stats.multivariate_normal.logpdf(response, effects @ MEAN, full) + stats.norm.logpdf(point).sum()
        assert value == pytest.approx(expected, abs=1e-5)


def test_constants_are_those_of_a_bayesian_regression() -> None:
    """Means and covariance over 16,000 draws at one point, within 4 standard errors."""
    rows = inputs(table(), UNIFIED)
    found = Collapsed(rows)
    point = np.full((2000, found.dimension), 0.3)
    _, drawn = found(point, np.random.default_rng(1))
    effects, response = design(rows.frame)
    inverse = np.linalg.inv(dense(rows, numbers(found, point[0])))
    spread = np.linalg.inv(np.diag(1 / SD**2) + effects.T @ inverse @ effects)
    mean = spread @ (MEAN / SD**2 + effects.T @ inverse @ response)
    z = (drawn.reshape(-1, 4) - mean) @ np.linalg.inv(np.linalg.cholesky(spread)).T  # standard normals
    count = 2000 * CONSTANTS
    assert np.abs(z.mean(axis=0)).max() < 4 / np.sqrt(count)
    assert np.abs(z.T @ z / count - np.eye(4)).max() < 4 * np.sqrt(2 / count)


@pytest.mark.parametrize("law", ["unified", "per-bit", "kaplan-16bit", "ceiling"])
def test_it_is_the_pymc_model_with_its_constants_integrated_out(law: str) -> None:
    """PyMC's log density is quadratic in the linear constants: its integral over them is known from values of it."""
    shipped = qb.load_table("pythia").filter(pl.col("n_params") < 3e9, pl.col("tokens") > 5e10)
    rows = inputs(shipped, qb.load_law(law))
    found = Collapsed(rows)
    model = model_of_inputs(rows)
    compiled = model.compile_logp(mode="FAST_COMPILE")
    point = 0.3 * np.random.default_rng(2).standard_normal((1, found.dimension))
    density, constants = found(point, np.random.default_rng(0))
    names = {key: key.removesuffix("_log__").removesuffix("_logodds__") for key in model.initial_point()}

    def joint(z: np.ndarray) -> float:
        given = found.unconstrained(point[None], z[None, None])
        return float(compiled({key: given[name][0, 0] for key, name in names.items()}))

    size = constants.shape[2]
    steps = np.eye(size)
    at = joint(np.zeros(size))
    above, below = (np.array([joint(sign * step) for step in steps]) for sign in (1.0, -1.0))
    slope, curvature = (above - below) / 2, np.diag(2 * at - above - below)
    for i in range(size):
        for j in range(i):
            curvature[i, j] = curvature[j, i] = above[i] + above[j] - at - joint(steps[i] + steps[j])
    integral = at + size / 2 * np.log(2 * np.pi)
    if size:
        integral += 0.5 * (slope @ np.linalg.solve(curvature, slope) - np.linalg.slogdet(curvature)[1])
    # From scores, which are standard normal by the prior, to the real line of PyMC's model.
    expected = density[0] - stats.norm.logpdf(point).sum()
    for one in found.left:
        expected += on_real_line(one.prior, one.prior.from_normal(point[0, one.where])).sum()
    assert integral == pytest.approx(expected, rel=1e-8, abs=1e-4)


def on_real_line(prior: qb.Prior, x: np.ndarray) -> np.ndarray:
    """Return a prior's log density on the real line, by SciPy's densities and the transforms' derivatives."""
    given = dict(prior.arguments)
    match prior.family:
        case "Normal":
            return stats.norm.logpdf(x, given["mu"], given["sigma"])
        case "LogNormal":
            return stats.norm.logpdf(np.log(x), given["mu"], given["sigma"])
        case "HalfNormal":
            return stats.halfnorm.logpdf(x, scale=given["sigma"]) + np.log(x)
    return stats.beta.logpdf(x, given["alpha"], given["beta"]) + np.log(x * (1 - x))


def test_partially_pooled_constants_are_normal_around_a_population() -> None:
    """Each width's level scatters around a population's: one normal with both variances in its covariance."""
    prior = qb.Prior("LogNormal", mu=-3.0, sigma=2.0, by="bits", spread=0.3)
    rows = inputs(table(), replace(UNIFIED, priors={**UNIFIED.priors, "k": prior}))
    found = Collapsed(rows)
    assert found.left[0].name == "k_ref_sd"
    point = np.full((4000, found.dimension), 0.4)
    density, drawn = found(point, np.random.default_rng(0))
    scale = numbers(found, point[0])
    effects, response = design(rows.frame)
    of_width = (rows.frame["bits"].to_numpy()[:, None] == np.unique(rows.frame["bits"].to_numpy())).astype(float)
    full = dense(rows, scale) + effects @ np.diag(SD**2) @ effects.T + scale["k_ref_sd"] ** 2 * of_width @ of_width.T
    expected = stats.multivariate_normal.logpdf(response, effects @ MEAN, full) + stats.norm.logpdf(point[0]).sum()
    assert density[0] == pytest.approx(expected, abs=1e-5)
    # The population's mean, by conditioning one on the other; within 4 standard errors.
    given = found.unconstrained(point[None], drawn[None, :, 0])
    cross = SD[0] ** 2 * np.ones(len(response))
    mean = MEAN[0] + cross @ np.linalg.solve(full, response - effects @ MEAN)
    sd = np.sqrt(SD[0] ** 2 - cross @ np.linalg.solve(full, cross))
    assert given["k_ref_population"].mean() == pytest.approx(mean, abs=4 * sd / np.sqrt(4000))
    assert given["k_ref_population"].std() == pytest.approx(sd, rel=4 / np.sqrt(8000))
    # And the level of 3 bits.
    cross = cross + scale["k_ref_sd"] ** 2 * of_width[:, 1]
    mean = MEAN[0] + cross @ np.linalg.solve(full, response - effects @ MEAN)
    assert given["k_ref"][0, :, 1].mean() == pytest.approx(mean, abs=4 * given["k_ref"][0, :, 1].std() / np.sqrt(4000))


def test_what_it_is_not_for_is_left_to_nuts() -> None:
    noisy = table().with_columns(qid_se=0.2 * pl.col("qid"))
    assert collapsed(inputs(noisy, UNIFIED)) is None
    assert collapsed(inputs(table(), UNIFIED.with_noise(discrepancy="none"))) is None
    # Levels of sizes in a law that is not linear in them: more than a mixture can follow, and partially pooled.
    ceiling = qb.load_law("ceiling")
    by = qb.Prior("Normal", mu=0.5, sigma=0.5, by="model", pooling="partial")
    assert collapsed(inputs(table(), replace(ceiling, priors={**ceiling.priors, "beta": by}))) is None
    assert collapsed(inputs(table(), ceiling)) is not None
