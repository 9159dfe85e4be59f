"""Noisy rows: the density and the posterior are those of numerical integration, and dropping none leaves no bias."""

import jax
import numpy as np
import polars as pl
import pytest
from arviz_stats.base import array_stats
from plain import plain
from scipy import stats

import qidbayes as qb
from qidbayes.infer import measurement_error
from qidbayes.infer.assemble import model_effect
from qidbayes.infer.inputs import Inputs, inputs
from qidbayes.infer.jax_log_density import log_density
from qidbayes.infer.model import model_data, model_of_inputs

LEVEL = {"c": qb.Prior("LogNormal", mu=-3, sigma=1)}


def rows_of(qid: list[float], error: list[float], checkpoint: list[int], noise: qb.Noise) -> Inputs:
    table = pl.DataFrame(
        {
            "model": "m", "revision": [f"step{c}" for c in checkpoint], "n_params": 10**9, "method": "gptq",
            "tokens": [10**9 * (1 + c) for c in checkpoint], "bits": [2.0 + i for i in range(len(qid))],
            "qid": qid, "qid_se": error,
        }
    )  # fmt: skip
    return inputs(table, qb.Law("c", priors=LEVEL, noise=noise))


@pytest.mark.parametrize(("c", "sigma", "checkpoint_sd"), [(0.005, 0.5, 0.1), (0.03, 0.05, 0.3), (0.2, 0.3, 0.3)])
def test_integrated_over_what_is_sampled_the_density_is_the_exact_one(
    c: float, sigma: float, checkpoint_sd: float
) -> None:
    qid, error = np.array([0.05, 0.03, -0.02, 0.04, 0.06]), np.array([0.0, 0.01, 0.015, 0.0, 0.001])
    rows = rows_of(list(qid), list(error), [0, 0, 0, 1, 1], qb.Noise(groups=("checkpoint",), discrepancy="none"))
    assert list(rows.latent["latent_row"]) == [1, 2]
    assert list(rows.latent["latent_checkpoint"]) == [0]
    model = model_of_inputs(rows)
    parameters = [np.log(v) for v in (c, sigma, checkpoint_sd)]
    axis = np.linspace(-12, 7, 77)  # far to the left, where the law says less than the row
    nodes = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    with jax.enable_x64(True):
        density, names = log_density(model)
        data = [jax.numpy.asarray(model_data(rows)[name]) for name in names]
        at = jax.vmap(lambda z: density([*map(jax.numpy.asarray, parameters), z], data))
        found = np.log(np.exp(np.asarray(at(nodes))).sum() * (axis[1] - axis[0]) ** 3)

    # The same by a dense normal of five logarithms, the two noisy ones integrated over a grid.
    same = np.array([0, 0, 0, 1, 1])[:, None] == np.array([0, 0, 0, 1, 1])[None, :]
    covariance = sigma**2 * np.eye(5) + checkpoint_sd**2 * same + np.diag([0, 0, 0, 0, (0.001 / 0.06) ** 2])
    axis = np.linspace(np.log(c) - 6 * np.hypot(sigma, checkpoint_sd) - 1, -1.5, 1200)
    x, y = (v.ravel() for v in np.meshgrid(axis, axis, indexing="ij"))
    logs = np.column_stack([np.full(x.size, np.log(0.05)), x, y, *(np.full(x.size, np.log(q)) for q in (0.04, 0.06))])
    log_joint = stats.multivariate_normal(np.full(5, np.log(c)), covariance).logpdf(logs)
    log_joint += stats.norm(np.exp(x), 0.01).logpdf(0.03) + stats.norm(np.exp(y), 0.015).logpdf(-0.02)
    expected = np.log(np.exp(log_joint).sum() * (axis[1] - axis[0]) ** 2)
    expected += stats.norm(-3, 1).logpdf(np.log(c))  # the priors, on the real line
    expected += stats.halfnorm(scale=0.5).logpdf(sigma) + np.log(sigma)
    expected += stats.norm(np.log(0.25), 0.7).logpdf(np.log(checkpoint_sd))
    assert found == pytest.approx(expected, abs=2e-4)


def test_the_posterior_is_that_of_a_grid() -> None:
    qid, error = [0.05, 0.035, -0.02, 0.01, 0.002], [0.001, 0.01, 0.015, 0.02, 0.02]
    rows = rows_of(qid, error, [0, 1, 2, 3, 4], qb.Noise(groups=(), discrepancy="none"))
    fit = qb.fit(rows.frame, rows.law, random_seed=3)
    assert fit.diagnostics.problems() == []
    log_c, log_sigma = (v.ravel() for v in np.meshgrid(np.linspace(-8, 1, 181), np.linspace(-7, 1.2, 165)))
    sigma = np.exp(log_sigma)
    log_weight = stats.norm(-3, 1).logpdf(log_c) + stats.halfnorm(scale=0.5).logpdf(sigma) + log_sigma
    z = np.linspace(-8, 8, 1601)
    for q, s in zip(qid, error, strict=True):
        if s / q == pytest.approx(0.02):  # above 0 by so much that the logarithm is taken
            log_weight += stats.norm(log_c, np.hypot(sigma, s / q)).logpdf(np.log(q))
            continue
        # The row's true QiD, integrated over its scatter around the law.
        log_true = log_c[:, None] + sigma[:, None] * z
        inner = np.exp(-0.5 * ((q - np.exp(np.minimum(log_true, 50))) / s) ** 2 - 0.5 * z**2).sum(axis=1)
        log_weight += np.log(np.maximum(inner, 1e-300))
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    for draws, values in ((np.log(fit.draws["c"]), log_c), (np.log(fit.draws["sigma"]), log_sigma)):
        mean = weight @ values
        sd = np.sqrt(weight @ (values - mean) ** 2)
        # Four Monte Carlo standard errors.
        assert abs(draws.mean() - mean) < 4 * array_stats.mcse(draws, chain_axis=0, draw_axis=1, method="mean")
        assert abs(draws.std() - sd) < 4 * array_stats.mcse(draws, chain_axis=0, draw_axis=1, method="sd")


def pull(ratio: float, sigma: float) -> float:
    """Return how far a level fitted to logarithms ends from the truth, 0, over endlessly many rows.

    Each measures exp(σa) with a standard error of `ratio` times that, and is weighted by its variance.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(101)
    a, b = np.meshgrid(nodes, nodes)
    measured = np.exp(sigma * a) * (1 + ratio * b)
    chance = np.outer(weights, weights) * (measured > 0)
    log_measured = np.log(np.where(measured > 0, measured, 1.0))
    weight = chance / (sigma**2 + (ratio * np.exp(sigma * a) / np.where(measured > 0, measured, 1.0)) ** 2)
    return float((weight * log_measured).sum() / weight.sum())


def test_taking_logarithms_pulls_the_law_less_than_is_said() -> None:
    for sigma in (0.0, 0.01, 0.03, 0.1, 0.3, 1.0):
        assert abs(pull(measurement_error.LIMIT, sigma)) < 0.004, sigma
    assert pull(2 * measurement_error.LIMIT, 0.0) > 0.01  # and at twice the limit it would not hold
    assert pull(measurement_error.LIMIT, 0.0) == pytest.approx(1.5 * measurement_error.LIMIT**2, rel=0.1)


def test_dropping_rows_below_0_biases_an_exponent_and_keeping_them_does_not() -> None:
    priors = {"k": qb.Prior("LogNormal", mu=0, sigma=1), "gamma": qb.Prior("Normal", mu=5, sigma=3)}
    law = qb.Law("k / P**gamma", priors=priors, reference={"P": 2}, noise=qb.Noise(groups=(), discrepancy="none"))
    rng = np.random.default_rng(6)
    bits, error = np.repeat([2.0, 4.0], [20, 200]), np.repeat([0.01, 0.04], [20, 200])
    true = (bits / 2) ** -5.8 * np.exp(0.15 * rng.standard_normal(220))  # at 4 bits 0.018: a half of its error
    table = pl.DataFrame({"model": "m", "revision": [f"step{i}" for i in range(220)], "n_params": 10**9}).with_columns(
        pl.lit("gptq").alias("method"), pl.lit(10**9).alias("tokens"), pl.Series("bits", bits),
        pl.Series("qid", true + error * rng.standard_normal(220)), pl.Series("qid_se", error),
    )  # fmt: skip
    above = table.filter(pl.col("qid") > 0)
    assert 50 < table.height - above.height < 80
    settings = {"draws": 500, "tune": 300, "chains": 2, "random_seed": 0}
    kept, dropped = qb.fit(table, law, **settings), qb.fit(above, law, **settings)
    gamma = kept.draws["gamma"]
    assert gamma.std() < 0.4
    assert abs(gamma.mean() - 5.8) < 3 * gamma.std()
    gamma = dropped.draws["gamma"]
    assert gamma.mean() < 5.8 - 3 * gamma.std()
    # What was sampled of the rows is judged, and not reported.
    assert sum(label.startswith("log_qid[") for label in kept.diagnostics.convergence) == 200
    assert set(kept.summary()["name"]) == {"k_ref", "gamma", "k", "sigma"}


def test_the_effects_of_noisy_rows_are_those_that_were_sampled(pythia: pl.DataFrame) -> None:
    noisy = pl.col("model").str.contains("410m") & (pl.col("bits") == 4)
    rows = inputs(pythia.with_columns(qid_se=pl.when(noisy).then(pl.col("qid"))), plain("unified"))
    assert [len(rows.latent[f"latent_{name}"]) for name in ("row", "checkpoint", "model")] == [20, 20, 1]
    flat = {"k_ref": 0.035, "k": 0.37, "beta": 0.47, "alpha": 0.3, "gamma": 5.8}
    flat |= {"sigma": 0.12, "checkpoint_sd": 0.24, "model_sd": 0.2}
    draws = {name: np.full(2, value) for name, value in flat.items()}
    sampled = np.zeros((1, 2, 41))
    sampled[0, 1, -1] = 1.0  # the second draw has the model's effect a standard deviation up
    one, other = (model_effect(rows, draws, sampled, {}, seed) for seed in (1, 2))
    same = np.array(["410m" in model for model in rows.coords["model"]])
    np.testing.assert_array_equal(one[:, same], other[:, same])
    assert (one[:, ~same] != other[:, ~same]).all()
    step = (one[1] - one[0])[same]
    # Its rows fix it to about √(checkpoint_sd²/20 + σ²/60) = 0.056.
    assert step == pytest.approx(0.056, abs=0.006)
