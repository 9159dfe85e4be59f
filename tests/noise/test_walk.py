"""Slopes that wander, against one dense normal whose walk is integrated by quadrature."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from dense import covariance, matern, variance, with_errors
from made import unified_fit
from scipy.stats import multivariate_normal
from test_gp_density import SCALE, TABLES

import qidbayes as qb
from qidbayes.infer.inputs import Inputs, inputs
from qidbayes.infer.model import model_of_inputs
from qidbayes.noise import gp_density
from qidbayes.noise.gram import Gram

LAW = qb.load_law("unified").with_noise(discrepancy="walk")
WALK = {**SCALE, "model_tokens_sd": 0.12, "walk_sd": 0.2}
SIGMA = 0.1


def wandering(scale: dict[str, float], a: pl.DataFrame, b: pl.DataFrame, middle: float) -> np.ndarray:
    """Return what slopes add: of runs, and of a Wiener process of slopes that starts at the middle of the rows."""
    one, other = (np.log(frame["tokens"].cast(pl.Float64).to_numpy()) - middle for frame in (a, b))
    times = np.unique(np.concatenate([one, other]))
    # The process at t is the integral of (|t| − u)·dB(u) over u from 0 to |t|: exact for squares by Gauss and Legendre.
    nodes, weights = np.polynomial.legendre.leggauss(4)
    walk = np.zeros((len(times), len(times)))
    for i, s in enumerate(times):
        for j, t in enumerate(times):
            if s * t > 0:
                end = min(abs(s), abs(t))
                u = 0.5 * end * (nodes + 1.0)
                walk[i, j] = 0.5 * end * (weights * (abs(s) - u) * (abs(t) - u)).sum()
    walk = walk[np.searchsorted(times, one)][:, np.searchsorted(times, other)]

    def same(column: str) -> np.ndarray:
        return (a[column].to_numpy()[:, None] == b[column].to_numpy()[None, :]).astype(float)

    found = same("model") * scale["model_tokens_sd"] ** 2 * one[:, None] * other[None, :]
    return found + 0.5 * scale["walk_sd"] ** 2 * (same("suite") + same("model")) * walk


def dense(scale: dict[str, float], a: pl.DataFrame, b: pl.DataFrame, middle: float) -> np.ndarray:
    """Return the covariance between measurements without their own errors: slopes share what quantizations do."""
    bits = [np.log(frame["bits"].to_numpy()) for frame in (a, b)]
    kind = [np.array([str(row) for row in frame.select("method", "group_size", "dataset").rows()]) for frame in (a, b)]
    alike = scale["similarity"] + (1 - scale["similarity"]) * (kind[0][:, None] == kind[1][None, :])
    alike = alike * matern(np.abs(bits[0][:, None] - bits[1][None, :]) / scale["length_bits"])
    return np.asarray(covariance(scale, a, b) + alike * wandering(scale, a, b, middle))


def middle_of(rows: Inputs) -> float:
    return float(np.log(rows.frame["tokens"].cast(pl.Float64).to_numpy()).mean())


@pytest.mark.parametrize("name", TABLES)
def test_the_density_is_that_of_a_dense_normal(name: str) -> None:
    rows = inputs(with_errors(TABLES[name][0]), LAW)
    assert all(block.grid.models == 0 for block in rows.partition.blocks), "the kernel is no product over models"
    full = dense(WALK, rows.frame, rows.frame, middle_of(rows)) + np.diag(SIGMA**2 + variance(rows.frame))
    residual = np.random.default_rng(0).standard_normal(rows.frame.height)
    expected = multivariate_normal(cov=full, allow_singular=True).logpdf(residual)
    order = rows.partition.order
    own = (SIGMA**2 + rows.variance)[order]
    found = gp_density.log_density(residual[order], own, WALK, rows.partition.shapes, rows.partition.arrays, np)
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-4)
    numbers = {n: np.array([v, 1.2 * v]) for n, v in (WALK | {"sigma": SIGMA}).items()} | {
        "similarity": np.full(2, 0.6)
    }
    products, log_determinant = Gram(rows.partition, rows.coordinates, rows.variance)(residual[None, :, None], numbers)
    assert products[0, 0, 0] == pytest.approx(residual @ np.linalg.solve(full, residual), rel=1e-6)
    assert log_determinant[0] == pytest.approx(np.linalg.slogdet(full)[1], rel=1e-7, abs=1e-5)


def test_the_model_of_pymc_has_the_same_density() -> None:
    rows = inputs(with_errors(TABLES["runs × bits"][0]), LAW)
    model = model_of_inputs(rows)
    assert {"walk_sd", "model_tokens_sd"} <= {variable.name for variable in model.free_RVs}
    numbers = {name: WALK.get(name, SIGMA) for name in rows.errors}
    constants = {"k_ref": 0.05, "beta": 0.4, "alpha": 0.3, "gamma": 4.5}
    given = {model[name]: value for name, value in {**numbers, **constants}.items()}
    found = model["log_likelihood"].eval(given, mode="FAST_COMPILE")
    n, d, p = (rows.log_covariates[name] for name in ("N", "D", "P"))
    residual = rows.log_response - (np.log(0.05) + 0.4 * d - 0.3 * n - 4.5 * p)
    full = dense(WALK, rows.frame, rows.frame, middle_of(rows)) + np.diag(SIGMA**2 + variance(rows.frame))
    assert found == pytest.approx(multivariate_normal(cov=full).logpdf(residual), rel=1e-6, abs=1e-4)


@pytest.mark.parametrize("name", ["models × tokens × bits", "no grid"])
def test_answers_are_those_of_the_conditional_normal(name: str) -> None:
    """Of a fitted run beyond its data, of a new one, and of a new suite, jointly and each by itself."""
    table = with_errors(TABLES[name][0])
    constants = {"k_ref": np.full(2, 0.04), "beta": 0.5, "alpha": 0.3, "gamma": 5.0}
    fit = replace(unified_fit(constants, {**WALK, "sigma": SIGMA}, table), law=LAW)
    known, size = table["model"][0], int(table["n_params"][0])
    asked = pl.DataFrame(
        {
            "suite": ["pythia", "pythia", "pythia", "other"],
            "model": [known, known, "new", "newer"],
            "revision": ["a", "b", "a", "a"],
            "n_params": [size, size, 3_000_000_000, 3_000_000_000],
            "tokens": [10**12, 10**14, 10**14, 10**14],
            "bits": [4.0, 3.0, 4.0, 4.0],
            "method": "gptq",
            "group_size": table["group_size"][0],
            "dataset": table["dataset"][0],
        }
    )  # fmt: skip
    middle = float(np.log(table["tokens"].cast(pl.Float64).to_numpy()).mean())
    both = pl.concat([table.select(asked.columns), asked], how="vertical_relaxed")
    full = dense(WALK, both, both, middle)
    n = table.height
    log_law = np.log(0.04) + 0.5 * np.log(both["tokens"] / 1e11) - 0.3 * np.log(both["n_params"] / 1e9)
    log_law = (log_law - 5.0 * np.log(both["bits"] / 4)).to_numpy()
    residual = np.log(table["qid"].to_numpy()) - log_law[:n]
    own = full[:n, :n] + np.diag(SIGMA**2 + variance(table))
    weights = np.linalg.solve(own, full[:n, n:])
    mean, left = log_law[n:] + residual @ weights, full[n:, n:] - full[:n, n:].T @ weights
    with pytest.warns(UserWarning, match="suite 'other' was not fitted"):
        found = fit.joint(asked)
    np.testing.assert_allclose(found.mean[0].reshape(-1), mean, rtol=1e-6)
    alone = fit.predictive(asked.filter(pl.col("model") == known).select(pl.exclude("revision")))
    np.testing.assert_allclose(alone.mean[0], mean[:2], rtol=1e-6)
    np.testing.assert_allclose(alone.sd[0] ** 2, np.diag(left)[:2] + SIGMA**2, rtol=1e-6)
    new = fit.predictive(asked.filter(pl.col("model") != known).select(pl.exclude("revision", "model")))
    np.testing.assert_allclose(new.sd[0] ** 2, np.diag(left)[2:] + SIGMA**2, rtol=1e-6)
    assert new.sd[0, 0] > 2 * alone.sd[0, 0], "it grows without end"
