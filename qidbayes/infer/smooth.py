"""The density of a law's residuals under the discrepancy of `qidbayes.posterior.discrepancy`, which it integrates out.

R·Q over a grid in which every run has the same quantizations is the Kronecker product R ⊗ Q. With the rows' own variance
d_q of quantization q and D^-½ Q D^-½ = V Λ V', rotating the residuals by D^-½ V leaves one problem of the runs for each
eigenvalue: covariance λ·R + I. Where the runs in turn are a grid of models and training tokens, R's parts are Kronecker
products too; rotated by the eigenvectors of k(Δ log N), each problem falls into one of the tokens for each model, and what
a whole suite shares is one direction more (Sherman and Morrison). 360 rows then cost 18 matrices of 20 × 20.

Rows outside the grid follow given the grid, as a plain multivariate normal.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.tensor.linalg import cholesky, eigh, solve_triangular

from qidbayes.posterior.discrepancy import Cells, covariance, matern, quantizations, runs

_APART = 1e-6
"""Added to equal eigenvalues to tell them apart: their vectors have no derivative otherwise."""


@dataclass(frozen=True)
class Grid:
    """Which rows form a full grid.

    Attributes
    ----------
    rows
        Row numbers, shape ``(runs, quantizations)``; without runs if there is no grid.
    models
        How many models the runs are a grid of, model by model with equal training tokens; 0 if they are none.
    rest
        The rows outside the grid; shape ``(others,)``.
    """

    rows: np.ndarray
    models: int
    rest: np.ndarray


def grid(cells: Mapping[str, np.ndarray], quantization: np.ndarray, eligible: np.ndarray) -> Grid:
    """Find the largest full grid of runs and quantizations, preferring quantizations that many runs have.

    Parameters
    ----------
    cells
        Where the rows stand.
    quantization
        Each row's quantization, a number from 0; shape ``(rows,)``.
    eligible
        Which rows may be part of it; shape ``(rows,)``.
    """
    run = cells["checkpoint"]
    place = np.full((run.max() + 1, quantization.max() + 1), -1)
    for row in np.flatnonzero(eligible)[::-1]:  # of two rows in one place the first stays
        place[run[row], quantization[row]] = row
    by_count = place[:, np.argsort(-(place >= 0).sum(axis=0), kind="stable")]
    best = by_count[:0]
    for width in range(1, by_count.shape[1] + 1):
        full = by_count[(by_count[:, :width] >= 0).all(axis=1), :width]
        best = full if full.size > best.size else best
    order = np.lexsort((cells["log_tokens"][best[:, 0]], cells["model"][best[:, 0]])) if best.size else []
    best = best[order]
    rest = np.setdiff1d(np.arange(len(run)), best)
    return Grid(best, 0 if rest.size else _models(cells, best), rest)


def _models(cells: Mapping[str, np.ndarray], rows: np.ndarray) -> int:
    first = rows[:, 0]
    models, counts = np.unique(cells["model"][first], return_counts=True)
    if len(set(counts)) > 1 or len(set(cells["suite"][first])) > 1:
        return 0
    tokens = cells["log_tokens"][first].reshape(len(models), -1)
    one_size = np.ptp(cells["log_params"][first].reshape(len(models), -1), axis=1).max() == 0
    return len(models) if one_size and (tokens == tokens[0]).all() and (np.diff(tokens[0]) > 0).all() else 0


def log_density(
    residual: Any, variance: Any, scale: Mapping[str, Any], cells: Cells, where: Grid, rows: Any, rest: Any
) -> Any:
    """Return the log density of the residuals.

    Parameters
    ----------
    residual, variance
        Shape ``(rows,)``: what the law leaves over, and each row's own error variance. Within the grid, the rows of one
        quantization get the mean of their variances.
    scale
        See `covariance`.
    cells
        Where the rows stand.
    where
        The grid's shape.
    rows, rest
        Its row numbers, as the model's data.
    """
    count, width = where.rows.shape
    found = -0.5 * np.log(2.0 * np.pi) * (count * width + len(where.rest))
    weights = []  # covariance of the other rows with the grid's, rotated and whitened
    if count:
        at = {name: values[rows] for name, values in cells.items()}
        run, quantization = _column(at, 0), {name: values[0] for name, values in at.items()}
        own = variance[rows].mean(axis=0)
        own_covariance = quantizations(scale, quantization, quantization, pt) * pt.ones((width, width))
        whitened = own_covariance / pt.sqrt(own[:, None] * own[None, :])
        values, vectors = eigh(whitened + _APART * pt.diag(np.arange(float(width))))
        rotated = (residual[rows] / pt.sqrt(own)) @ vectors
        found = found - 0.5 * count * pt.log(own).sum()
        if where.models:
            return found + _of_models(rotated, values, scale, run, where.models)
        factor = cholesky(values[:, None, None] * runs(scale, run, run, pt) + pt.eye(count))
        solved = solve_triangular(factor, rotated.T[..., None], lower=True, b_ndim=2)[..., 0]
        found = found + _normal(solved, factor)
    if not len(where.rest):
        return found
    others = {name: values[rest] for name, values in cells.items()}
    left = covariance(scale, others, others, pt) * pt.ones((len(where.rest),) * 2) + pt.diag(variance[rest])
    over = residual[rest]
    if count:
        to_grid = quantizations(scale, others, quantization, pt) * pt.ones((len(where.rest), width))
        weight = (to_grid / pt.sqrt(own)) @ vectors
        cross = runs(scale, run, others, pt)[None] * weight.T[:, None, :]
        weights = solve_triangular(factor, cross, lower=True, b_ndim=2)
        left = left - pt.einsum("jcr,jcs->rs", weights, weights)
        over = over - pt.einsum("jcr,jc->r", weights, solved)
    factor = cholesky(left)
    return found + _normal(solve_triangular(factor, over, lower=True, b_ndim=1), factor)


def _of_models(rotated: Any, values: Any, scale: Mapping[str, Any], run: Cells, models: int) -> Any:
    length = rotated.shape[0] // models
    model = {name: of_run.reshape((models, -1))[:, 0] for name, of_run in run.items()}
    token = {name: of_run.reshape((models, -1))[0] for name, of_run in run.items()}

    def near(cells: Cells, name: str) -> Any:
        return matern((cells[f"log_{name}"][:, None] - cells[f"log_{name}"][None, :]) / scale[f"length_{name}"], pt)

    weights, vectors = eigh(near(model, "params") + _APART * pt.diag(np.arange(float(models))))
    residual = pt.einsum("mtj,mi->jit", rotated.reshape((models, length, -1)), vectors)
    drift = scale["smooth_sd"] ** 2 * weights[:, None, None] * near(token, "tokens")
    shared = scale.get("model_sd", 0.0) ** 2 * pt.ones((length, length))
    alone = scale.get("checkpoint_sd", 0.0) ** 2 * pt.eye(length)
    factor = cholesky(values[:, None, None, None] * (drift + shared + alone) + pt.eye(length))
    suite = vectors.sum(axis=0)[None, :, None] * pt.ones_like(residual)
    solved = solve_triangular(factor, pt.stack([residual, suite], axis=-1), lower=True, b_ndim=2)
    residual, suite = solved[..., 0], solved[..., 1]
    ratio = values * scale["suite_sd"] ** 2
    growth = 1.0 + ratio * (suite**2).sum(axis=(1, 2))
    gain = ratio * (suite * residual).sum(axis=(1, 2)) ** 2 / growth
    return _normal(residual, factor) + 0.5 * (gain - pt.log(growth)).sum()


def _normal(solved: Any, factor: Any) -> Any:
    return -0.5 * (solved**2).sum() - pt.log(pt.diagonal(factor, axis1=-2, axis2=-1)).sum()


def _column(cells: Cells, index: int) -> dict[str, Any]:
    return {name: values[:, index] for name, values in cells.items()}
