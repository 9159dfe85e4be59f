"""What the fitted rows say of the discrepancy at new measurements.

The rows of a block (`qidbayes.noise.grid`) are taken up once for all draws, in stacked matrices, and asked often: what
does not depend on the question is kept (`Kept`), within bounds of memory.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qidbayes.noise.dense import inverse
from qidbayes.noise.filtered import Filtered
from qidbayes.noise.grid import QUANTIZATION, RUN, Grid
from qidbayes.noise.kernels import Coordinates, covariance, prior_variance
from qidbayes.noise.kronecker import Factored, inner, named
from qidbayes.noise.state_space import cheapest

_AT_ONCE = 1_000_000
"""Numbers in one array of draws, fitted rows and new measurements: 8 MB, so that it stays near the processor."""
_MOST = 1e9
"""Bytes that are kept of the blocks of one fit."""


@dataclass(frozen=True)
class FittedResiduals:
    """What the fitted rows say of a Gaussian process; see `qidbayes.noise.model.Conditioned`.

    Attributes
    ----------
    scale
        For each name, one number a draw; shape ``(draws,)``.
    members
        The blocks of the rows, which share nothing with each other (`qidbayes.noise.grid.partition`).
    """

    scale: Mapping[str, np.ndarray]
    members: Sequence["ConditionedBlock"]

    def at(self, asked: Coordinates) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance of the process at each new measurement; shapes ``(draws, new measurements)``."""
        before = prior_variance(self.scale, asked)
        shape = (len(before), len(asked["log_params"]))
        mean, known = np.zeros(shape), np.zeros(shape)
        for block in self.members:
            of_block, taken = block.at(asked)
            mean, known = mean + of_block, known + taken
        return mean, np.maximum(before - known, 0.0)

    def blocks(self, asked: Coordinates, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and covariance of the process at blocks of new measurements, each block for itself.

        Shapes ``(draws, blocks, measurements)`` and ``(draws, blocks, measurements, measurements)``.
        """
        width = len(asked["log_params"]) // count
        scale = _wide(self.scale)
        draws = len(self.scale["suite_sd"])
        mean, left = np.zeros((draws, count, width)), np.empty((draws, count, width, width))
        for i in range(count):
            part = {name: values[i * width : (i + 1) * width] for name, values in asked.items()}
            left[:, i] = covariance(scale, part, part, np)
        for block in self.members:
            of_block, taken = block.together(asked, count)
            mean, left = mean + of_block, left - taken
        return mean, left

    def between(self, asked: Coordinates, one: Coordinates) -> np.ndarray:
        """Return the covariance of new measurements with one of them, the mean over the draws; ``(measurements,)``."""
        found = (covariance(_wide(self.scale), asked, one, np) * np.ones((len(asked["log_params"]), 1))).mean(axis=0)
        return np.asarray(found[:, 0] - sum(block.between(asked, one) for block in self.members))


class ConditionedBlock:
    """The rows of one block under all draws.

    Parameters
    ----------
    scale
        For each name, one number a draw; shape ``(draws,)``.
    residual
        What the law leaves over of the log response of the block's rows; shape ``(draws, rows)``.
    variance
        The variance of each row's own error; shape ``(draws, rows)``. As in the fit, the rows of one quantization in a
        grid get the mean of theirs.
    where
        The block's grid.
    coordinates
        Where the rows stand.
    """

    def __init__(
        self,
        scale: Mapping[str, np.ndarray],
        residual: np.ndarray,
        variance: np.ndarray,
        where: Grid,
        coordinates: Coordinates,
    ) -> None:
        self._scale, self._residual, self._where, self._coordinates = scale, residual, where, coordinates
        self._variance = np.broadcast_to(variance, residual.shape)
        self._draws, rows = residual.shape
        # The inverse among the rows beside the grid, what they have of the grid, and what its holes take.
        others, gaps = len(where.rest), where.holes.shape[1]
        each = others**2 + (others + gaps + 3) * where.rows.size
        self.bytes = 8.0 * self._draws * each
        self._step = int(np.clip(_AT_ONCE // max(1, rows, each), 1, self._draws))
        self._kept: list[_Some] = []
        # What is too much to keep would be worked out for every question: cheaper in the order of an axis, if it can.
        self._along = cheapest(coordinates, np.zeros(rows)) if self.bytes > _MOST and not where.slopes else None
        if self._along:
            self.bytes = 16.0 * self._draws * rows

    def at(self, asked: Coordinates) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean at new measurements, and the variance that the rows take off; ``(draws, measurements)``."""
        count = len(asked["log_params"])
        mean, known = np.empty((self._draws, count)), np.empty((self._draws, count))
        for draws, some in self._parts():
            for part in self._chunks(count, 1):
                mean[draws, part], known[draws, part] = some.at(_cut(asked, part))
        return mean, known

    def together(self, asked: Coordinates, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean at blocks of new measurements, and the covariance that the rows take off in each."""
        width = len(asked["log_params"]) // count
        mean, known = np.empty((self._draws, count, width)), np.empty((self._draws, count, width, width))
        for draws, some in self._parts():
            for part in self._chunks(count, width):
                of_part = slice(part.start * width, part.stop * width)
                mean[draws, part], known[draws, part] = some.together(_cut(asked, of_part), part.stop - part.start)
        return mean, known

    def between(self, asked: Coordinates, one: Coordinates) -> np.ndarray:
        """Return what the rows take off of the covariance with one measurement, the mean over the draws."""
        count = len(asked["log_params"])
        found = np.zeros(count)
        for _, some in self._parts():
            for part in self._chunks(count, 1):
                found[part] += some.between(_cut(asked, part), one).sum(axis=0)
        return np.asarray(found / self._draws)

    def _parts(self) -> Iterator[tuple[slice, "_Some | Filtered"]]:
        """Yield some of the draws after the other, keeping what is worked out of them if it is not too much."""
        if self._along:
            for draw in range(self._draws):
                one = {name: float(values[draw]) for name, values in self._scale.items()}
                of_draw = slice(draw, draw + 1)
                yield of_draw, Filtered(self._along, self._coordinates, one, self._residual[draw], self._variance[draw])
            return
        for i, first in enumerate(range(0, self._draws, self._step)):
            draws = slice(first, min(first + self._step, self._draws))
            if i < len(self._kept):
                yield draws, self._kept[i]
                continue
            scale = {name: values[draws] for name, values in self._scale.items()}
            some = _Some(scale, self._residual[draws], self._variance[draws], self._where)
            if self.bytes <= _MOST:
                self._kept.append(some)
            yield draws, some

    def _chunks(self, count: int, width: int) -> Iterator[slice]:
        """Yield so many blocks of a width in parts that are not too large."""
        step = max(1, _AT_ONCE // (self._step * max(1, self._residual.shape[1]) * width))
        for first in range(0, count, step):
            yield slice(first, min(first + step, count))


class _Some:
    """The rows of a block under some of the draws: first its grid, then those beside it given the grid."""

    def __init__(
        self, scale: Mapping[str, np.ndarray], residual: np.ndarray, variance: np.ndarray, where: Grid
    ) -> None:
        self.scale = _wide(scale)
        self.grid: Factored | None = None
        self.outside = named((*RUN, *QUANTIZATION), where.beside)
        self.others = len(where.rest)
        over = residual[:, where.rest]
        if where.rows.size:
            known = where.rows >= 0
            own = (variance[:, where.rows] * known).sum(axis=-2) / known.sum(axis=0)
            self.grid = Factored(where.shape, where.arrays, own, scale, np)
            self.solved = self.grid.solve(self.grid.rotate((residual[:, where.rows] * known)[:, None]))
        if self.others:
            left = covariance(self.scale, self.outside, self.outside, np) * np.ones((self.others, self.others))
            np.einsum("dii->di", left)[...] += variance[:, where.rest]
            if self.grid:
                cross = self.grid.cross(self.outside)
                self.weights = self.grid.solve(cross)
                left = left - inner(cross, self.weights, np)
                over = over - inner(cross, self.solved, np)[..., 0]
            self.inverse = inverse(left)
            self.over = (self.inverse @ over[..., None])[..., 0]

    def at(self, asked: Coordinates) -> tuple[np.ndarray, np.ndarray]:
        mean: Any = 0.0
        known: Any = 0.0
        of_grid = None
        if self.grid:
            of_grid = self.grid.reach(asked)
            mean = self.grid.products(self.solved, *of_grid)[:, 0]
            known = self.grid.known(*of_grid)
        if self.others:
            shared = self._beside(asked)
            if self.grid and of_grid:
                shared = shared - self.grid.products(self.weights, *of_grid)
            mean = mean + (self.over[:, None, :] @ shared)[:, 0]
            known = known + (shared * (self.inverse @ shared)).sum(axis=1)
        return np.asarray(mean), np.asarray(known)

    def together(self, asked: Coordinates, count: int) -> tuple[np.ndarray, np.ndarray]:
        mean: Any = 0.0
        known: Any = 0.0
        cross = None
        width = len(asked["log_params"]) // count
        if self.grid:
            cross = self.grid.cross(asked)
            mean = inner(cross, self.solved, np)[..., 0]
            known = _products(cross, self.grid.solve(cross), count)
        if self.others:
            shared = self._beside(asked)
            if cross is not None:
                shared = shared - inner(self.weights, cross, np)
            mean = mean + (self.over[:, None, :] @ shared)[:, 0]
            known = known + _products(shared, self.inverse @ shared, count)
        return np.asarray(mean).reshape(-1, count, width), np.asarray(known)

    def between(self, asked: Coordinates, one: Coordinates) -> np.ndarray:
        found: Any = 0.0
        of_grid, of_one = None, None
        if self.grid:
            of_grid, of_one = self.grid.reach(asked), self.grid.cross(one)
            found = self.grid.products(self.grid.solve(of_one), *of_grid)[:, 0]
        if self.others:
            reach, own = self._beside(asked), self._beside(one)
            if self.grid and of_grid:
                reach = reach - self.grid.products(self.weights, *of_grid)
                own = own - inner(self.weights, of_one, np)
            found = found + (reach.mT @ (self.inverse @ own))[..., 0]
        return np.asarray(found)

    def _beside(self, asked: Coordinates) -> np.ndarray:
        found = covariance(self.scale, self.outside, asked, np)
        return np.asarray(found * np.ones((self.others, len(asked["log_params"]))))


class Kept:
    """Blocks that were taken up, by what they are of; the ones not asked for longest go first."""

    def __init__(self) -> None:
        self._blocks: dict[int, ConditionedBlock] = {}

    def block(self, key: int, make: Callable[[], ConditionedBlock]) -> ConditionedBlock:
        """Return the block of a key, made if it is not there."""
        found = self._blocks.pop(key, None) or make()
        self._blocks[key] = found
        while len(self._blocks) > 1 and sum(block.bytes for block in self._blocks.values()) > _MOST:
            del self._blocks[next(iter(self._blocks))]
        return found


def _wide(scale: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: values[:, None, None] for name, values in scale.items()}


def _cut(asked: Coordinates, part: slice) -> Coordinates:
    return {name: values[part] for name, values in asked.items()}


def _products(one: np.ndarray, other: np.ndarray, count: int) -> np.ndarray:
    """Return the inner products of columns with those of the same block; ``(draws, blocks, columns, columns)``."""
    shape = (len(one), int(np.prod(one.shape[1:-1])), count, -1)
    left, right = (columns.reshape(shape).swapaxes(1, 2) for columns in (one, other))
    return np.asarray(left.mT @ right)
