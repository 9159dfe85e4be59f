"""The discrepancy's covariance over measurements that form a full grid, in factors.

R·Q over a grid in which every run has the same quantizations is the Kronecker product R ⊗ Q. With the rows' own
variance d_q of quantization q and D^-½ Q D^-½ = V Λ V', rotating the measurements by D^-½ V leaves one problem of the
runs for each eigenvalue: covariance λ·R + I. The eigenvectors of R make that diagonal. Where the runs in turn are a
grid of models and training tokens, R's parts are Kronecker products too, and the eigenvectors of k(Δ log N) and of
k(Δ log D) do; what the checkpoints of a model share, and those of a suite, is one direction more of each (Sherman and
Morrison). So 360 rows cost the eigenvectors of matrices of 3, 6 and 20 rows. Where the runs are no such grid, those at
one (N, D) and of one model differ by their checkpoints' effects alone, and R's eigenvectors are sought among the rest.

Holes are taken out of a full grid. With S the inverse of its covariance and E the unit vectors of the holes, what was
measured has the inverse S − S·E (E'S·E)⁻¹ E'S, whatever stands in the holes, and the determinant of the full grid's
covariance times that of E'S·E.

As in `qidbayes.noise.kernels`, the same functions serve PyTensor and NumPy; on NumPy also many draws of the numbers at
once, by leading axes.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from qidbayes.noise.grid import QUANTIZATION, RUN, Shape
from qidbayes.noise.kernels import Coordinates, matern, quantization_kernel, run_kernel, same, suite_kernel, walk_kernel


class Factored:
    """D + R·Q over a grid, D the rows' own variance.

    Vectors over the grid are given rotated, with the axes ``(…, eigenvalues of Q, models, runs of a model)``; a grid of
    runs that is none of models counts as one model. The leading axes are those of the numbers.
    """

    def __init__(
        self, where: Shape, at: Mapping[str, Any], own: Any, scale: Mapping[str, Any], xp: Any, apart: float = 0.0
    ) -> None:
        """Factor the covariance.

        Parameters
        ----------
        where
            The grid's shape.
        at
            The grid's `arrays`.
        own
            The variance of the rows' own errors; shape ``(…, quantizations)``.
        scale
            See `covariance`; each of shape ``(…)``.
        xp
            The array library: NumPy or PyTensor.
        apart
            Tells equal eigenvalues apart where derivatives are asked: their vectors have none otherwise.
        """
        self.apart = apart
        count, width = where.runs, where.quantizations
        self.blocks = max(1, where.models)
        self.length = count // self.blocks
        self.own, self.xp, self.of_models = own, xp, bool(where.models)
        self.scale = {name: _wide(values, 2, xp) for name, values in scale.items()}
        self.lead = tuple(own.shape[:-1]) if xp is np else ()
        self.run = named(RUN, at["run"])
        self.quantization = named(QUANTIZATION, at["quantization"])
        alike = quantization_kernel(self.scale, self.quantization, self.quantization, xp) * xp.ones((width, width))
        alike = alike / xp.sqrt(own[..., :, None] * own[..., None, :])
        values, self.vectors = self._eigenvectors(alike, width)
        checkpoint = self._squared("checkpoint_sd")
        if where.models:
            self.token = {name: values[: self.length] for name, values in self.run.items()}
            self.one_model = {name: values[:: self.length] for name, values in self.run.items()}
            of_model, self.turn = self._eigenvectors(self._near(self.one_model, self.one_model, "params"), self.blocks)
            of_token, self.along = self._eigenvectors(self._near(self.token, self.token, "tokens"), self.length)
            spread = self._squared("smooth_sd") * of_model[..., :, None] * of_token[..., None, :] + checkpoint
            self.model, self.suite = (values * self._squared(f"{g}_sd")[..., 0] for g in ("model", "suite"))
        else:
            locations = named(RUN[:3], at["locations"])
            between = at["to_location"] @ suite_kernel(self.scale, locations, locations, xp) @ at["to_location"].T
            between = between + self._squared("model_sd") * at["same"]
            if "walk_sd" in self.scale:  # there every run is a direction of its own
                between = between + walk_kernel(self.scale, self.run, self.run, xp)
            spread, along = self._eigenvectors(between, where.rank)
            first, others = at["basis"][:, : where.rank], at["basis"][:, where.rank :]
            nothing = xp.zeros((*self.lead, count - where.rank))
            spread = xp.concatenate([spread, nothing], axis=-1)[..., None, :] + checkpoint
            if xp is np:
                others = np.broadcast_to(others, (*self.lead, *others.shape))
            self.along = xp.concatenate([first @ along, others], axis=-1)
            self.turn, self.model, self.suite = xp.ones((1, 1)), 0.0 * values, 0.0 * values
        self.variance = values[..., :, None, None] * spread[..., None, :, :] + 1.0
        # The directions shared by a model's runs and by a suite's models, and what they have of each problem.
        self.of_run, self.of_model = self.along.sum(axis=-2), self.turn.sum(axis=-2)
        share = (self.of_run[..., None, None, :] ** 2 / self.variance).sum(axis=-1)
        self.growth = 1.0 + self.model[..., None] * share
        self.outer = 1.0 + self.suite * (self.of_model[..., None, :] ** 2 * share / self.growth).sum(axis=-1)
        log = xp.log
        found = _total(log(self.variance), 3) + _total(log(self.growth), 2) + _total(log(self.outer), 1)
        self.log_determinant = found + count * _total(log(self.own), 1)
        """The log determinant of the covariance of what was measured."""
        self.gaps: Any = None
        if where.holes:
            unit = self._unit(at["holes"][0], at["holes"][1])
            solved = self._full(unit)
            factor = xp.linalg.cholesky(inner(unit, solved, xp))
            diagonal = np.diagonal(factor, axis1=-2, axis2=-1) if xp is np else xp.diagonal(factor)
            self.log_determinant = self.log_determinant + 2.0 * _total(log(diagonal), 1)
            self.gaps = forward(factor, solved.reshape((*self.lead, -1, where.holes)).mT, xp)

    def rotate(self, residual: Any) -> Any:
        """Return residuals ``(…, columns, runs, quantizations)`` as columns, ``(…, columns)``."""
        columns, _, width = residual.shape[-3:]
        turned = (residual / self.xp.sqrt(self.own)[..., None, None, :]) @ self.vectors[..., None, :, :]
        by_run = turned.swapaxes(-3, -2).swapaxes(-2, -1)
        turned = self._turned(by_run.reshape((*self.lead, self.blocks * self.length, -1)))
        split = turned.reshape((*self.lead, self.blocks, self.length, width, columns))
        return split.swapaxes(-3, -2).swapaxes(-4, -3)

    def reach(self, others: Coordinates) -> tuple[Any, Any]:
        """Return what the covariance with other measurements is the product of, a column each.

        Returns
        -------
        tuple
            Of the quantizations, ``(…, eigenvalues of Q, others)``, and of the runs, ``(…, models, runs of a model,
            others)``.
        """
        count = others["log_tokens"].shape[0]
        alike = quantization_kernel(self.scale, others, self.quantization, self.xp)
        alike = alike * self.xp.ones((count, self.own.shape[-1]))
        weight = (alike / self.xp.sqrt(self.own)[..., None, :]) @ self.vectors
        return weight.mT, self._of_models(others) if self.of_models else self._turned(
            run_kernel(self.scale, self.run, others, self.xp)
        )

    def _of_models(self, others: Coordinates) -> Any:
        """Return the runs' part where they are a grid of models of one suite, by kernels of models and of tokens."""
        first = {name: values[:1] for name, values in self.one_model.items()}
        suite = same(first, others, "suite", self.xp)[..., None, :]
        near = self._squared("smooth_sd")[..., None] * self._side("turn", self._near(self.one_model, others, "params"))
        near = near * self._side("along", self._near(self.token, others, "tokens"))
        shared = self.of_model[..., :, None, None] * self._squared("suite_sd")[..., None] * suite
        if "model_sd" in self.scale:
            model = self._side("turn", same(self.one_model, others, "model", self.xp))
            shared = shared + self._squared("model_sd")[..., None] * model
        found = near * suite + shared * self.of_run[..., None, :, None]
        if "checkpoint_sd" in self.scale:
            one = same(self.run, others, "checkpoint", self.xp)
            if self.xp is not np or one.any():
                found = found + self._squared("checkpoint_sd")[..., None] * self._turned(one)
        return found

    def _side(self, which: str, columns: Any) -> Any:
        """Return columns over the models or the tokens in their eigenvectors; ``(…, models, 1, columns)`` or so."""
        if which == "turn":
            return (self.turn.mT @ columns)[..., :, None, :]
        return (self.along.mT @ columns)[..., None, :, :]

    def cross(self, others: Coordinates) -> Any:
        """Return the covariance with other measurements, a column each; ``(…, others)``."""
        weight, of_run = self.reach(others)
        return weight[..., :, None, None, :] * of_run[..., None, :, :, :]

    def solve(self, columns: Any) -> Any:
        """Return the inverse times rotated columns, whatever these have in the holes."""
        found = self._full(columns)
        if self.gaps is None:
            return found
        flat = columns.reshape((*self.lead, self.gaps.shape[-1], -1))
        return found - (self.gaps.mT @ (self.gaps @ flat)).reshape(found.shape)

    def _full(self, columns: Any) -> Any:
        """Return the same for a grid without holes."""
        over = columns / self.variance[..., None]
        direction = (self.of_run[..., None, None, :] / self.variance)[..., None]
        of_model = (self.of_run[..., None, None, :, None] * over).sum(axis=-2) / self.growth[..., None]
        of_suite = (self.of_model[..., None, :, None] * of_model).sum(axis=-2) * (self.suite / self.outer)[..., None]
        # What the suite takes of each model's shared direction, and what the model itself does.
        taken = of_suite[..., None, :] * (self.of_model[..., None, :] / self.growth)[..., None]
        taken = taken + self.model[..., None, None] * of_model
        return over - direction * taken[..., None, :]

    def products(self, columns: Any, weight: Any, of_run: Any) -> Any:
        """Return rotated columns' inner products with what `reach` returns; ``(…, columns, others)``, NumPy only."""
        flat = columns.reshape((*columns.shape[:-3], -1, columns.shape[-1])).mT  # (…, eigenvalues of Q, columns, runs)
        of_run = of_run.reshape((*self.lead, 1, -1, of_run.shape[-1]))
        return (weight[..., :, None, :] * (flat @ of_run)).sum(axis=-3)

    def known(self, weight: Any, of_run: Any) -> Any:
        """Return each column's inner product with the inverse times itself, given what `reach` returns; NumPy only."""
        wide, flat = 1.0 / self.variance, (*self.lead, -1, of_run.shape[-1])
        square = wide.reshape((*self.lead, wide.shape[-3], -1)) @ np.square(of_run).reshape(flat)
        found = (np.square(weight) * square).sum(axis=-2)
        direction = (self.of_run[..., None, None, :] * wide).swapaxes(-3, -2)
        of_model = (direction @ of_run).swapaxes(-3, -2) * weight[..., :, None, :]  # (…, eigenvalues, models, columns)
        of_suite = ((self.of_model[..., None, :] / self.growth)[..., None] * of_model).sum(axis=-2)
        found = found - (np.square(of_suite) * (self.suite / self.outer)[..., None]).sum(axis=-2)
        taken = (np.square(of_model) / self.growth[..., None]).sum(axis=-2)
        found = found - (taken * self.model[..., None]).sum(axis=-2)
        if self.gaps is not None:
            cross = weight[..., :, None, None, :] * of_run[..., None, :, :, :]
            found = found - np.square(self.gaps @ cross.reshape(flat)).sum(axis=-2)
        return found

    def _unit(self, run: Any, quantization: Any) -> Any:
        """Return rotated columns that are 1 at one measurement each."""
        weight = self.vectors[..., quantization, :] / self.xp.sqrt(self.own[..., quantization])[..., None]
        of_model = self.turn[..., run // self.length, :].mT
        of_run = of_model[..., :, None, :] * self.along[..., run % self.length, :].mT[..., None, :, :]
        return weight.mT[..., :, None, None, :] * of_run[..., None, :, :, :]

    def _turned(self, of_runs: Any) -> Any:
        """Return ``(…, runs, columns)`` as ``(…, models, runs of a model, columns)`` in the eigenvectors of R."""
        lead = tuple(of_runs.shape[:-2]) if self.xp is np else ()
        of_model = self.turn.mT @ of_runs.reshape((*lead, self.blocks, -1))
        lead = tuple(of_model.shape[:-2]) if self.xp is np else ()
        return self.along.mT[..., None, :, :] @ of_model.reshape((*lead, self.blocks, self.length, -1))

    def _eigenvectors(self, matrix: Any, size: int) -> Any:
        return self.xp.linalg.eigh(matrix + np.diag(self.apart * (np.arange(size) - 0.5 * (size - 1))))

    def _near(self, coordinates: Coordinates, others: Coordinates, name: str) -> Any:
        apart = coordinates[f"log_{name}"][:, None] - others[f"log_{name}"][None, :]
        return matern(apart / self.scale[f"length_{name}"], self.xp)

    def _squared(self, name: str) -> Any:
        """Return a number's square, 0 of one that is not part of the covariance; shape ``(…, 1, 1)``."""
        return self.scale[name] ** 2 if name in self.scale else np.zeros((1, 1))


def named(names: tuple[str, ...], values: Any) -> dict[str, Any]:
    """Return the rows of an array by name."""
    return {name: values[i] for i, name in enumerate(names)}


def forward(factor: Any, columns: Any, xp: Any) -> Any:
    """Return the inverse of a lower triangular factor times columns."""
    if xp is np:
        return np.linalg.solve(factor, columns)
    return xp.linalg.solve_triangular(factor, columns, lower=True, b_ndim=2)


def inner(one: Any, other: Any, xp: Any) -> Any:
    """Return the inner products of rotated columns; shape ``(…, columns of one, columns of other)``."""
    lead = tuple(one.shape[:-4]) if xp is np else ()
    size = one.shape[-4] * one.shape[-3] * one.shape[-2]
    left, right = (columns.reshape((*lead, size, columns.shape[-1])) for columns in (one, other))
    return left.mT @ right


def _wide(value: Any, axes: int, xp: Any) -> Any:
    """Return a number with so many axes of one more."""
    value = np.asarray(value) if xp is np else value
    return value[(..., *(None,) * axes)]


def _total(values: Any, axes: int) -> Any:
    """Return the sum over the last axes."""
    return values.sum(axis=tuple(range(-axes, 0)))
