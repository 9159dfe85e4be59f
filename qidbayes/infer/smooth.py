"""The density of a law's residuals under the discrepancy of `qidbayes.posterior.discrepancy`, which it integrates out.

R·Q over a grid in which every run has the same quantizations is the Kronecker product R ⊗ Q. With the rows' own
variance d_q of quantization q and D^-½ Q D^-½ = V Λ V', rotating the residuals by D^-½ V leaves one problem of the runs
for each eigenvalue: covariance λ·R + I. Where the runs in turn are a grid of models and training tokens, R's parts are
Kronecker products too; rotated by the eigenvectors of k(Δ log N), each problem falls into one of the tokens for each
model, and what a whole suite shares is one direction more (Sherman and Morrison). 360 rows then cost 18 matrices of
20 × 20.

Rows outside the grid follow given the grid, as a plain multivariate normal.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.tensor.linalg import cholesky, eigh, solve_triangular

from qidbayes.posterior.discrepancy import Cells, covariance, matern, quantizations, runs

_APART = 1e-8
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

    @property
    def cost(self) -> float:
        """The cubes of the sizes of the matrices it takes."""
        runs, quantizations = self.rows.shape
        blocks = max(1, self.models)
        return float(quantizations * blocks * (runs / blocks) ** 3 + len(self.rest) ** 3)


def grid(cells: Mapping[str, np.ndarray], quantization: np.ndarray, eligible: np.ndarray) -> Grid:
    """Find the cheapest grid among the largest of runs and quantizations, and of models, tokens and quantizations.

    Parameters
    ----------
    cells
        Where the rows stand.
    quantization
        Each row's quantization, a number from 0; shape ``(rows,)``.
    eligible
        Which rows may be part of it; shape ``(rows,)``.
    """
    rows = np.flatnonzero(eligible)[::-1]  # of two rows in one place the first stays
    of_run = _place(cells["checkpoint"], quantization, rows)
    runs = _largest(of_run)
    found = [_grid(runs, 0, len(quantization)), _grid(of_run[:0], 0, len(quantization))]
    first = runs[:, 0][::-1]
    _, token = np.unique(cells["log_tokens"], return_inverse=True)
    for suite in np.unique(cells["suite"][first]):
        of_suite = first[cells["suite"][first] == suite]
        first_of = _largest(_place(cells["model"], token, of_suite))
        sizes = cells["log_params"][first_of]
        if (sizes == sizes[:, :1]).all():
            chosen = runs[np.argsort(runs[:, 0])][np.searchsorted(np.sort(runs[:, 0]), first_of.reshape(-1))]
            found.append(_grid(chosen, len(first_of), len(quantization)))
    return min(found, key=lambda one: one.cost)


def _grid(rows: np.ndarray, models: int, count: int) -> Grid:
    return Grid(rows, models, np.setdiff1d(np.arange(count), rows))


def _place(across: np.ndarray, along: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the row numbers by two codes; -1 where there is none."""
    place = np.full((across.max() + 1, along.max() + 1), -1)
    place[across[rows], along[rows]] = rows
    return place


def _largest(place: np.ndarray) -> np.ndarray:
    """Return the largest part without gaps, preferring columns with many entries."""
    by_count = place[:, np.argsort(-(place >= 0).sum(axis=0), kind="stable")]
    best = by_count[:0]
    for width in range(1, by_count.shape[1] + 1):
        full = by_count[(by_count[:, :width] >= 0).all(axis=1), :width]
        best = full if full.size > best.size else best
    return best


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
    count, others = where.rows.size, len(where.rest)
    found = -0.5 * np.log(2.0 * np.pi) * (count + others)
    over, left = residual[rest], None
    if others:
        outside = {name: values[rest] for name, values in cells.items()}
        left = covariance(scale, outside, outside, pt) * pt.ones((others, others)) + pt.diag(variance[rest])
    if count:
        core = _Core(where, {name: values[rows] for name, values in cells.items()}, variance[rows].mean(axis=0), scale)
        solved, of_suite = core.solve(core.rotate(residual[rows])[..., None]), core.solve(core.suite())
        found = found + core.half_log_determinant - 0.5 * (solved**2).sum()
        # What the whole suite shares adds ratio·ss' to the covariance of each eigenvalue's problem.
        along = _over_problem(of_suite, solved)[:, 0]
        growth = 1.0 + core.ratio * _over_problem(of_suite, of_suite)[:, 0]
        found = found + 0.5 * (core.ratio * along**2 / growth - pt.log(growth)).sum()
        if others:
            weights = core.solve(core.cross(outside))
            projected = _over_problem(of_suite, weights)
            share = core.ratio / growth
            left = left - pt.einsum("jite,jitf->ef", weights, weights)
            left = left + pt.einsum("j,je,jf->ef", share, projected, projected)
            over = over - pt.einsum("jite,jit->e", weights, solved[..., 0])
            over = over + pt.einsum("j,je,j->e", share, projected, along)
    if others:
        factor = cholesky(left)
        found = found - 0.5 * (solve_triangular(factor, over, lower=True, b_ndim=1) ** 2).sum() + _half_log(factor)
    return found


class _Core:
    """The grid's covariance: for each eigenvalue of the quantizations and block of runs, a matrix."""

    def __init__(self, where: Grid, at: Cells, own: Any, scale: Mapping[str, Any]) -> None:
        count, width = where.rows.shape
        self.blocks = max(1, where.models)
        self.length = count // self.blocks
        self.own, self.scale = own, scale
        self.run = {name: values[:, 0] for name, values in at.items()}
        self.quantization = {name: values[0] for name, values in at.items()}
        alike = quantizations(scale, self.quantization, self.quantization, pt) * pt.ones((width, width))
        alike = alike / pt.sqrt(own[:, None] * own[None, :])
        self.values, self.vectors = eigh(alike + _APART * pt.diag(np.arange(float(width))))
        if where.models:
            token = {name: values[: self.length] for name, values in self.run.items()}
            model = {name: values[:: self.length] for name, values in self.run.items()}
            near = _near(model, "params", scale) + _APART * pt.diag(np.arange(float(self.blocks)))
            weights, self.turn = eigh(near)
            one = weights[:, None, None] * scale["smooth_sd"] ** 2 * _near(token, "tokens", scale)
            one = one + scale.get("model_sd", 0.0) ** 2 + scale.get("checkpoint_sd", 0.0) ** 2 * pt.eye(self.length)
            self.ratio = self.values * scale["suite_sd"] ** 2
        else:
            one, self.turn, self.ratio = runs(scale, self.run, self.run, pt)[None], pt.eye(1), pt.zeros(width)
        self.factor = cholesky(self.values[:, None, None, None] * one[None] + pt.eye(self.length))
        self.half_log_determinant = _half_log(self.factor) - 0.5 * count * pt.log(own).sum()

    def rotate(self, residual: Any) -> Any:
        """Return residuals ``(runs, quantizations)`` as ``(eigenvalues, blocks, runs of a block)``."""
        turned = (residual / pt.sqrt(self.own)) @ self.vectors
        return pt.einsum("mtj,mi->jit", turned.reshape((self.blocks, self.length, -1)), self.turn)

    def suite(self) -> Any:
        """Return the direction of what the suite shares; a column of ``(eigenvalues, blocks, runs of a block, 1)``."""
        return self.turn.sum(axis=0)[None, :, None, None] * pt.ones((self.own.shape[0], self.blocks, self.length, 1))

    def cross(self, outside: Cells) -> Any:
        """Return the covariance with other rows, ``(eigenvalues, blocks, runs of a block, others)``."""
        others = outside["log_tokens"].shape[0]
        alike = quantizations(self.scale, outside, self.quantization, pt) * pt.ones((others, self.own.shape[0]))
        weight = (alike / pt.sqrt(self.own)) @ self.vectors
        near = runs(self.scale, self.run, outside, pt).reshape((self.blocks, self.length, -1))
        return weight.T[:, None, None, :] * pt.einsum("mte,mi->ite", near, self.turn)[None]

    def solve(self, columns: Any) -> Any:
        """Whiten columns of ``(eigenvalues, blocks, runs of a block, columns)``."""
        return solve_triangular(self.factor, columns, lower=True, b_ndim=2)


def _near(cells: Cells, name: str, scale: Mapping[str, Any]) -> Any:
    where = cells[f"log_{name}"]
    return matern((where[:, None] - where[None, :]) / scale[f"length_{name}"], pt)


def _over_problem(one: Any, columns: Any) -> Any:
    return (one * columns).sum(axis=(1, 2))


def _half_log(factor: Any) -> Any:
    return -pt.log(pt.diagonal(factor, axis1=-2, axis2=-1)).sum()
