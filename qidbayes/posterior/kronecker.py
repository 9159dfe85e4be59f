"""The discrepancy's covariance over measurements that form a full grid, in factors.

R·Q over a grid in which every run has the same quantizations is the Kronecker product R ⊗ Q. With the rows' own
variance d_q of quantization q and D^-½ Q D^-½ = V Λ V', rotating the measurements by D^-½ V leaves one problem of the
runs for each eigenvalue: covariance λ·R + I. The eigenvectors of R make that diagonal. Where the runs in turn are a
grid of models and training tokens, R's parts are Kronecker products too, and the eigenvectors of k(Δ log N) and of
k(Δ log D) do; what the checkpoints of a model share, and those of a suite, is one direction more of each (Sherman and
Morrison). So 360 rows cost the eigenvectors of matrices of 3, 6 and 20 rows.

As in `qidbayes.posterior.discrepancy`, the same functions serve PyTensor and NumPy.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from qidbayes.posterior.discrepancy import Cells, matern, quantizations, runs


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


def grid(cells: Mapping[str, np.ndarray], eligible: np.ndarray) -> Grid:
    """Find the cheapest grid among the largest of runs and quantizations, and of models, tokens and quantizations.

    Parameters
    ----------
    cells
        Where the rows stand.
    eligible
        Which rows may be part of it; shape ``(rows,)``.
    """
    at = list(zip(cells["log_bits"], cells["kind"], strict=True))
    codes = {place: code for code, place in enumerate(dict.fromkeys(at))}
    quantization = np.array([codes[place] for place in at])
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


class Factored:
    """D + R·Q over a grid, D the rows' own variance.

    Vectors over the grid are given rotated, with the axes ``(eigenvalues of Q, models, runs of a model)``; a grid of
    runs that is none of models counts as one model.
    """

    def __init__(
        self, where: Grid, at: Cells, own: Any, scale: Mapping[str, Any], ops: Any, apart: float = 0.0
    ) -> None:
        """Factor the covariance.

        Parameters
        ----------
        where
            The grid's shape.
        at
            Where its rows stand, arrays of shape ``(runs, quantizations)``.
        own
            The variance of the rows' own errors; shape ``(quantizations,)``.
        scale
            See `covariance`.
        ops
            The array library: NumPy or PyTensor.
        apart
            Tells equal eigenvalues apart where derivatives are asked: their vectors have none otherwise.
        """
        self.apart = apart
        count, width = where.rows.shape
        self.blocks = max(1, where.models)
        self.length = count // self.blocks
        self.own, self.scale, self.ops = own, scale, ops
        self.run = {name: values[:, 0] for name, values in at.items()}
        self.quantization = {name: values[0] for name, values in at.items()}
        alike = quantizations(scale, self.quantization, self.quantization, ops) * ops.ones((width, width))
        alike = alike / ops.sqrt(own[:, None] * own[None, :])
        values, self.vectors = self._eigenvectors(alike, width)
        if where.models:
            token = {name: values[: self.length] for name, values in self.run.items()}
            model = {name: values[:: self.length] for name, values in self.run.items()}
            of_model, self.turn = self._eigenvectors(self._near(model, "params"), self.blocks)
            of_token, self.along = self._eigenvectors(self._near(token, "tokens"), self.length)
            spread = scale["smooth_sd"] ** 2 * of_model[:, None] * of_token[None, :]
            spread = spread + scale.get("checkpoint_sd", 0.0) ** 2
            self.model, self.suite = (values * scale.get(f"{group}_sd", 0.0) ** 2 for group in ("model", "suite"))
        else:
            spread, self.along = self._eigenvectors(runs(scale, self.run, self.run, ops), count)
            spread, self.turn, self.model, self.suite = spread[None], ops.eye(1), 0.0 * values, 0.0 * values
        self.variance = values[:, None, None] * spread[None] + 1.0
        # The directions shared by a model's runs and by a suite's models, and what they have of each problem.
        self.of_run, self.of_model = self.along.sum(axis=0), self.turn.sum(axis=0)
        share = (self.of_run**2 / self.variance).sum(axis=2)
        self.growth = 1.0 + self.model[:, None] * share
        self.outer = 1.0 + self.suite * (self.of_model**2 * share / self.growth).sum(axis=1)

    @property
    def log_determinant(self) -> Any:
        """The log determinant of the whole covariance."""
        log = self.ops.log
        found = log(self.variance).sum() + log(self.growth).sum() + log(self.outer).sum()
        return found + self.blocks * self.length * log(self.own).sum()

    def rotate(self, residual: Any) -> Any:
        """Return residuals ``(runs, quantizations)`` as a column, ``(…, 1)``."""
        turned = self._turned((residual / self.ops.sqrt(self.own)) @ self.vectors)
        return turned.transpose((2, 0, 1))[..., None]

    def cross(self, others: Cells) -> Any:
        """Return the covariance with other measurements, a column each; ``(…, others)``."""
        count = others["log_tokens"].shape[0]
        alike = quantizations(self.scale, others, self.quantization, self.ops)
        alike = alike * self.ops.ones((count, self.own.shape[0]))
        weight = (alike / self.ops.sqrt(self.own)) @ self.vectors
        return weight.T[:, None, None, :] * self._turned(runs(self.scale, self.run, others, self.ops))[None]

    def solve(self, columns: Any) -> Any:
        """Return the inverse times rotated columns."""
        over = columns / self.variance[..., None]
        direction = (self.of_run / self.variance)[..., None]
        of_model = (self.of_run[:, None] * over).sum(axis=2) / self.growth[..., None]
        of_suite = (self.of_model[:, None] * of_model).sum(axis=1) * (self.suite / self.outer)[:, None]
        # What the suite takes of each model's shared direction, and what the model itself does.
        taken = of_suite[:, None] * (self.of_model / self.growth)[..., None] + self.model[:, None, None] * of_model
        return over - direction * taken[:, :, None]

    def _turned(self, of_runs: Any) -> Any:
        """Return ``(runs, columns)`` as ``(models, runs of a model, columns)`` in the eigenvectors of R."""
        of_model = self.turn.T @ of_runs.reshape((self.blocks, -1))
        return self.along.T @ of_model.reshape((self.blocks, self.length, -1))

    def _eigenvectors(self, matrix: Any, size: int) -> Any:
        return self.ops.linalg.eigh(matrix + np.diag(self.apart * np.arange(size)))

    def _near(self, cells: Cells, name: str) -> Any:
        where = cells[f"log_{name}"]
        return matern((where[:, None] - where[None, :]) / self.scale[f"length_{name}"], self.ops)


def inner(one: Any, other: Any, ops: Any) -> Any:
    """Return the inner products of rotated columns; shape ``(columns of one, columns of other)``."""
    return ops.einsum("jite,jitf->ef", one, other)
