"""Bayesian linear regression in closed form, its error's standard deviations integrated over a grid.

The table `pythia` is a full grid of 6 models × 20 checkpoints × 3 bit widths. The covariance of its errors therefore
has three eigenvalues, whose eigenspaces are the classical strata of an analysis of variance: within checkpoints,
between the checkpoints of a model, and between models. Given the eigenvalues, the posterior of a log-linear law is
normal. Nothing here is shared with `qidbayes.noise.random_effects`.
"""

from collections.abc import Callable, Mapping
from itertools import product

import numpy as np
import polars as pl

PRIOR_MEAN = np.array([-3.0, 0.5, 0.3, 5.0])
PRIOR_SD = np.array([2.0, 0.5, 0.5, 3.0])
"""Of log k_ref, beta, alpha and gamma in models/unified.toml."""
NAMES = ("k_ref", "beta", "alpha", "gamma")
SCALE = 0.5
"""Of the priors of the errors' standard deviations."""


def regression(table: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return the columns of the unified law, at the reference point, and log QiD."""
    n, d, p = (table[c].cast(pl.Float64).to_numpy() for c in ("n_params", "tokens", "bits"))
    columns = [np.ones(table.height), np.log(d / 1e11), -np.log(n / 1e9), -np.log(p / 4)]
    return np.column_stack(columns), np.log(table["qid"].to_numpy())


def strata(table: pl.DataFrame) -> list[np.ndarray]:
    """Return the projections on the eigenspaces: within checkpoints, between checkpoints, between models."""
    means = []
    for keys in (["model", "revision"], ["model"]):
        labels = table.select(pl.concat_str(keys)).to_series().to_numpy()
        same = labels[:, None] == labels[None, :]
        means.append(same / same.sum(axis=1, keepdims=True))
    return [np.eye(table.height) - means[0], means[0] - means[1], means[1]]


def away_from_zero(log_sd: np.ndarray) -> np.ndarray:
    """Return the log density of the logarithm of a standard deviation between groups."""
    return -0.5 * ((log_sd - np.log(SCALE / 2)) / 0.7) ** 2


def half_normal(log_sd: np.ndarray) -> np.ndarray:
    """Return the log density of the logarithm of a standard deviation that is half-normal."""
    return log_sd - 0.5 * (np.exp(log_sd) / SCALE) ** 2  # d sd = sd · d log sd


def posterior(
    table: pl.DataFrame,
    grids: dict[str, np.ndarray],
    priors: Mapping[str, Callable[[np.ndarray], np.ndarray]] | None = None,
) -> dict[str, tuple[float, float]]:
    """Return each number's posterior mean and sd; `grids` has the logarithms of the errors' standard deviations.

    k_ref is given as its logarithm. Without a grid for an effect there is no such effect. `priors` are log densities
    of the logarithms, where they are not the law's.
    """
    x, y = regression(table)
    spaces = strata(table)
    ranks = [round(np.trace(p)) for p in spaces]
    xx, xy, yy = ([a.T @ p @ b for p in spaces] for a, b in ((x, x), (x, y), (y, y)))
    points = np.array(list(product(*grids.values())))
    sds = dict(zip(grids, np.exp(points.T), strict=True))
    zero = np.zeros(len(points))
    eigenvalues = [sds["sigma"] ** 2]
    eigenvalues.append(eigenvalues[0] + 3 * sds.get("checkpoint_sd", zero) ** 2)
    eigenvalues.append(eigenvalues[1] + 60 * sds.get("model_sd", zero) ** 2)

    prior = np.diag(PRIOR_SD**-2.0)
    precision = prior + sum(a / v[:, None, None] for a, v in zip(xx, eigenvalues, strict=True))
    linear = prior @ PRIOR_MEAN + sum(a / v[:, None] for a, v in zip(xy, eigenvalues, strict=True))
    covariance = np.linalg.inv(precision)
    mean = np.einsum("gij,gj->gi", covariance, linear)
    log_weight = 0.5 * np.einsum("gi,gi->g", linear, mean) - 0.5 * np.linalg.slogdet(precision)[1]
    for rank, square, value in zip(ranks, yy, eigenvalues, strict=True):
        log_weight -= 0.5 * (rank * np.log(value) + square / value)
    for log_sd, name in zip(points.T, sds, strict=True):
        of_law = half_normal if name == "sigma" else away_from_zero
        log_weight += (priors or {}).get(name, of_law)(log_sd)
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()

    found = {}
    for i, name in enumerate(NAMES):
        center = weight @ mean[:, i]
        found[name] = (center, np.sqrt(weight @ (covariance[:, i, i] + (mean[:, i] - center) ** 2)))
    for name, sd in sds.items():
        center = weight @ sd
        found[name] = (center, np.sqrt(weight @ (sd - center) ** 2))
    return found
