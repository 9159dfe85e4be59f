"""The discrepancy's covariance over measurements that form a full grid, in factors.

R·Q over a grid in which every run has the same quantizations is the Kronecker product R ⊗ Q. With the rows' own
variance d_q of quantization q and D^-½ Q D^-½ = V Λ V', rotating the measurements by D^-½ V leaves one problem of the
runs for each eigenvalue: covariance λ·R + I. The eigenvectors of R make that diagonal. Where the runs in turn are a
grid of models and training tokens, R's parts are Kronecker products too, and the eigenvectors of k(Δ log N) and of
k(Δ log D) do; what the checkpoints of a model share, and those of a suite, is one direction more of each (Sherman and
Morrison). So 360 rows cost the eigenvectors of matrices of 3, 6 and 20 rows. Where the runs are no such grid, those of
one place (N, D) and model differ by their checkpoints' effects alone, and R's eigenvectors are sought among the others.

Holes are taken out of a full grid. With S the inverse of its covariance and E the unit vectors of the holes, what was
measured has the inverse S − S·E (E'S·E)⁻¹ E'S, whatever stands in the holes, and the determinant of the full grid's
covariance times that of E'S·E.

As in `qidbayes.noise.kernels`, the same functions serve PyTensor and NumPy.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from qidbayes.noise.grid import QUANTIZATION, RUN, Shape
from qidbayes.noise.kernels import Cells, matern, places, quantizations, runs


class Factored:
    """D + R·Q over a grid, D the rows' own variance.

    Vectors over the grid are given rotated, with the axes ``(eigenvalues of Q, models, runs of a model)``; a grid of
    runs that is none of models counts as one model.
    """

    def __init__(
        self, where: Shape, at: Mapping[str, Any], own: Any, scale: Mapping[str, Any], ops: Any, apart: float = 0.0
    ) -> None:
        """Factor the covariance.

        Parameters
        ----------
        where
            The grid's shape.
        at
            The grid's `arrays`.
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
        count, width = where.runs, where.quantizations
        self.blocks = max(1, where.models)
        self.length = count // self.blocks
        self.own, self.scale, self.ops = own, scale, ops
        self.run = named(RUN, at["run"])
        self.quantization = named(QUANTIZATION, at["quantization"])
        alike = quantizations(scale, self.quantization, self.quantization, ops) * ops.ones((width, width))
        alike = alike / ops.sqrt(own[:, None] * own[None, :])
        values, self.vectors = self._eigenvectors(alike, width)
        checkpoint = scale.get("checkpoint_sd", 0.0) ** 2
        if where.models:
            token = {name: values[: self.length] for name, values in self.run.items()}
            model = {name: values[:: self.length] for name, values in self.run.items()}
            of_model, self.turn = self._eigenvectors(self._near(model, "params"), self.blocks)
            of_token, self.along = self._eigenvectors(self._near(token, "tokens"), self.length)
            spread = scale["smooth_sd"] ** 2 * of_model[:, None] * of_token[None, :] + checkpoint
            self.model, self.suite = (values * scale.get(f"{group}_sd", 0.0) ** 2 for group in ("model", "suite"))
        else:
            spots = named(RUN[:3], at["spots"])
            between = at["to_spot"] @ places(scale, spots, spots, ops) @ at["to_spot"].T
            between = between + scale.get("model_sd", 0.0) ** 2 * at["same"]
            spread, along = self._eigenvectors(between, where.rank)
            first, others = at["basis"][:, : where.rank], at["basis"][:, where.rank :]
            spread = ops.concatenate([spread, ops.zeros(count - where.rank)]) + checkpoint
            self.along = ops.concatenate([first @ along, others], axis=1)
            spread, self.turn, self.model, self.suite = spread[None], ops.eye(1), 0.0 * values, 0.0 * values
        self.variance = values[:, None, None] * spread[None] + 1.0
        # The directions shared by a model's runs and by a suite's models, and what they have of each problem.
        self.of_run, self.of_model = self.along.sum(axis=0), self.turn.sum(axis=0)
        share = (self.of_run**2 / self.variance).sum(axis=2)
        self.growth = 1.0 + self.model[:, None] * share
        self.outer = 1.0 + self.suite * (self.of_model**2 * share / self.growth).sum(axis=1)
        log = ops.log
        found = log(self.variance).sum() + log(self.growth).sum() + log(self.outer).sum()
        self.log_determinant = found + count * log(self.own).sum()
        """The log determinant of the covariance of what was measured."""
        self.gaps: Any = None
        if where.holes:
            unit = self._unit(at["holes"][0], at["holes"][1])
            solved = self._full(unit)
            factor = ops.linalg.cholesky(inner(unit, solved, ops))
            self.log_determinant = self.log_determinant + 2.0 * log(ops.diagonal(factor)).sum()
            self.gaps = forward(factor, solved.reshape((-1, where.holes)).T, ops)

    def rotate(self, residual: Any) -> Any:
        """Return residuals ``(columns, runs, quantizations)`` as columns, ``(…, columns)``."""
        columns, _, width = residual.shape
        turned = (residual / self.ops.sqrt(self.own)) @ self.vectors
        turned = self._turned(turned.transpose((1, 2, 0)).reshape((self.blocks * self.length, -1)))
        return turned.reshape((self.blocks, self.length, width, columns)).transpose((2, 0, 1, 3))

    def cross(self, others: Cells) -> Any:
        """Return the covariance with other measurements, a column each; ``(…, others)``."""
        count = others["log_tokens"].shape[0]
        alike = quantizations(self.scale, others, self.quantization, self.ops)
        alike = alike * self.ops.ones((count, self.own.shape[0]))
        weight = (alike / self.ops.sqrt(self.own)) @ self.vectors
        return weight.T[:, None, None, :] * self._turned(runs(self.scale, self.run, others, self.ops))[None]

    def solve(self, columns: Any) -> Any:
        """Return the inverse times rotated columns, whatever these have in the holes."""
        found = self._full(columns)
        if self.gaps is None:
            return found
        flat = columns.reshape((self.gaps.shape[1], -1))
        return found - (self.gaps.T @ (self.gaps @ flat)).reshape(found.shape)

    def _full(self, columns: Any) -> Any:
        """Return the same for a grid without holes."""
        over = columns / self.variance[..., None]
        direction = (self.of_run / self.variance)[..., None]
        of_model = (self.of_run[:, None] * over).sum(axis=2) / self.growth[..., None]
        of_suite = (self.of_model[:, None] * of_model).sum(axis=1) * (self.suite / self.outer)[:, None]
        # What the suite takes of each model's shared direction, and what the model itself does.
        taken = of_suite[:, None] * (self.of_model / self.growth)[..., None] + self.model[:, None, None] * of_model
        return over - direction * taken[:, :, None]

    def _unit(self, run: Any, quantization: Any) -> Any:
        """Return rotated columns that are 1 at one measurement each."""
        weight = self.vectors[quantization] / self.ops.sqrt(self.own[quantization])[:, None]
        of_run = self.turn[run // self.length].T[:, None, :] * self.along[run % self.length].T[None, :, :]
        return weight.T[:, None, None, :] * of_run[None]

    def _turned(self, of_runs: Any) -> Any:
        """Return ``(runs, columns)`` as ``(models, runs of a model, columns)`` in the eigenvectors of R."""
        of_model = self.turn.T @ of_runs.reshape((self.blocks, -1))
        return self.along.T @ of_model.reshape((self.blocks, self.length, -1))

    def _eigenvectors(self, matrix: Any, size: int) -> Any:
        return self.ops.linalg.eigh(matrix + np.diag(self.apart * (np.arange(size) - 0.5 * (size - 1))))

    def _near(self, cells: Cells, name: str) -> Any:
        where = cells[f"log_{name}"]
        return matern((where[:, None] - where[None, :]) / self.scale[f"length_{name}"], self.ops)


def named(names: tuple[str, ...], values: Any) -> dict[str, Any]:
    """Return the rows of an array by name."""
    return {name: values[i] for i, name in enumerate(names)}


def forward(factor: Any, columns: Any, ops: Any) -> Any:
    """Return the inverse of a lower triangular factor times columns."""
    if ops is np:
        return np.linalg.solve(factor, columns)
    return ops.linalg.solve_triangular(factor, columns, lower=True, b_ndim=2)


def inner(one: Any, other: Any, ops: Any) -> Any:
    """Return the inner products of rotated columns; shape ``(columns of one, columns of other)``."""
    return ops.einsum("jite,jitf->ef", one, other)
