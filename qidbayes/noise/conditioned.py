"""What the fitted rows say of the discrepancy at new measurements."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qidbayes.noise.grid import QUANTIZATION, RUN, Block, Grid
from qidbayes.noise.kernels import Cells, covariance, prior_variance
from qidbayes.noise.kronecker import Factored, inner, named

_AT_ONCE = 4_000_000  # numbers in one matrix of the fitted rows and the new measurements: 32 MB


@dataclass(frozen=True)
class FittedResiduals:
    """What the fitted rows say of a Gaussian process; see `qidbayes.noise.model.Conditioned`.

    Attributes
    ----------
    scale
        For each name, one number a draw; shape ``(draws,)``.
    residual
        What the law leaves over of the log response of the fitted rows; shape ``(draws, rows)``.
    variance
        The variance of each row's own error; shape ``(draws, rows)``. As in the fit, the rows of one quantization in a
        grid get the mean of theirs.
    members
        The blocks of the rows, which share nothing with each other (`qidbayes.noise.grid.partition`).
    """

    scale: Mapping[str, np.ndarray]
    residual: np.ndarray
    variance: np.ndarray
    members: Sequence[Block]

    def draws(self) -> Iterator["ConditionedDraw"]:
        """Yield the fitted rows under one draw after the other."""
        for draw in range(len(self.residual)):
            here = {name: float(values[draw]) for name, values in self.scale.items()}
            yield ConditionedDraw(here, self.residual[draw], self.variance[draw], self.members)

    def at(self, asked: Cells) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance of the process at each new measurement; shapes ``(draws, new measurements)``."""
        draws, rows = self.residual.shape
        width = len(asked["log_params"])
        mean, left = np.empty((draws, width)), np.empty((draws, width))
        step = _AT_ONCE // max(1, rows)
        for draw, given in enumerate(self.draws()):
            for first in range(0, width, step):
                part = slice(first, first + step)
                mean[draw, part], left[draw, part] = given.at({name: values[part] for name, values in asked.items()})
        return mean, np.maximum(left, 0.0)

    def blocks(self, asked: Cells, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and covariance of the process at blocks of new measurements, each block for itself.

        Shapes ``(draws, blocks, measurements)`` and ``(draws, blocks, measurements, measurements)``.
        """
        width = len(asked["log_params"]) // count
        mean, taken = (np.stack(parts) for parts in zip(*(g.together(asked, count) for g in self.draws()), strict=True))
        scale = {name: values[:, None, None] for name, values in self.scale.items()}
        left = np.empty(taken.shape)
        for i in range(count):
            part = {name: values[i * width : (i + 1) * width] for name, values in asked.items()}
            left[:, i] = covariance(scale, part, part, np) - taken[:, i]
        return mean, left

    def between(self, asked: Cells, one: Cells) -> np.ndarray:
        """Return the covariance of new measurements with one of them, the mean over the draws; ``(measurements,)``."""
        return np.asarray(np.mean([given.between(asked, one) for given in self.draws()], axis=0))


class ConditionedDraw:
    """The fitted rows under one draw, block after block: what they say of one measurement adds up."""

    def __init__(
        self, scale: Mapping[str, float], residual: np.ndarray, variance: np.ndarray, blocks: Sequence[Block]
    ) -> None:
        self.scale = scale
        self.blocks = [ConditionedBlock(scale, residual[b.members], variance[b.members], b.grid) for b in blocks]

    def together(self, asked: Cells, blocks: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean at blocks of new measurements, and the covariance that the fitted rows take off in each."""
        shape = (blocks, len(asked["log_params"]) // blocks)
        mean, known = np.zeros(shape), np.zeros((*shape, shape[1]))
        for block in self.blocks:
            of_block, taken = block.together(asked, shape)
            mean, known = mean + of_block, known + taken
        return mean, known

    def between(self, asked: Cells, one: Cells) -> np.ndarray:
        """Return the covariance of new measurements with one of them; shape ``(new measurements,)``."""
        found = covariance(self.scale, asked, one, np) * np.ones((len(asked["log_params"]), 1))
        return np.asarray(found[:, 0] - sum(block.between(asked, one) for block in self.blocks))

    def at(self, asked: Cells) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance at new measurements; shape ``(new measurements,)``."""
        mean, known = np.zeros(len(asked["log_params"])), np.zeros(len(asked["log_params"]))
        for block in self.blocks:
            of_block, taken = block.at(asked)
            mean, known = mean + of_block, known + taken
        return mean, prior_variance(self.scale) - known


class ConditionedBlock:
    """The rows of one block under one draw: first its grid, then those beside it given the grid."""

    def __init__(self, scale: Mapping[str, float], residual: np.ndarray, variance: np.ndarray, where: Grid) -> None:
        self.scale = scale
        self.grid: Factored | None = None
        self.outside = named((*RUN, *QUANTIZATION), where.beside)
        over = residual[where.rest]
        left = covariance(scale, self.outside, self.outside, np) * np.ones((len(over), len(over)))
        left = left + np.diag(variance[where.rest])
        if where.rows.size:
            known = where.rows >= 0
            own = (variance[where.rows] * known).sum(axis=0) / known.sum(axis=0)
            self.grid = Factored(where.shape, where.arrays, own, scale, np)
            self.solved = self.grid.solve(self.grid.rotate((residual[where.rows] * known)[None]))
            cross = self.grid.cross(self.outside)
            self.weights = self.grid.solve(cross)
            left = left - inner(cross, self.weights, np)
            over = over - inner(cross, self.solved, np)[:, 0]
        self.left, self.over = left, np.linalg.solve(left, over)

    def together(self, asked: Cells, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        shared = self._beside(asked)
        mean, known = np.zeros(shape), np.zeros((*shape, shape[1]))
        if self.grid:
            cross = self.grid.cross(asked)
            mean = inner(cross, self.solved, np)[:, 0].reshape(shape)
            known = _products(cross, self.grid.solve(cross), shape)
            shared = shared - inner(self.weights, cross, np)
        taken = _products(shared, np.linalg.solve(self.left, shared), shape)
        return mean + (self.over @ shared).reshape(shape), known + taken

    def between(self, asked: Cells, one: Cells) -> np.ndarray:
        found, reach, own = 0.0, self._beside(asked), self._beside(one)
        if self.grid:
            cross, of_one = self.grid.cross(asked), self.grid.cross(one)
            found = inner(cross, self.grid.solve(of_one), np)[:, 0]
            reach, own = reach - inner(self.weights, cross, np), own - inner(self.weights, of_one, np)
        return np.asarray(found + (reach.T @ np.linalg.solve(self.left, own))[:, 0])

    def at(self, asked: Cells) -> tuple[np.ndarray, np.ndarray]:
        shared, mean, known = self._beside(asked), 0.0, 0.0
        if self.grid:
            cross = self.grid.cross(asked)
            mean = (cross * self.solved).sum(axis=(0, 1, 2))
            known = (cross * self.grid.solve(cross)).sum(axis=(0, 1, 2))
            shared = shared - inner(self.weights, cross, np)
        return mean + self.over @ shared, known + (shared * np.linalg.solve(self.left, shared)).sum(axis=0)

    def _beside(self, asked: Cells) -> np.ndarray:
        found = covariance(self.scale, self.outside, asked, np)
        return np.asarray(found * np.ones((len(self.over), len(asked["log_params"]))))


def _products(one: np.ndarray, other: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the inner products of columns with those of the same block; shape ``(blocks, columns, columns)``."""
    return np.asarray(one.reshape(-1, *shape).transpose(1, 2, 0) @ other.reshape(-1, *shape).transpose(1, 0, 2))
