"""Inner products of columns over a table, C⁻¹ between them, and log |C|: what integrating constants out of a law takes.

If the law is linear in constants that are normal, the density of the rows needs, beside the residuals r, the columns H
of the constants' effects: r'C⁻¹r, H'C⁻¹r and H'C⁻¹H. As `qidbayes.noise.gp_density` has it, block by block; but here on
NumPy, for many draws of the process's numbers at once, and without a derivative.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from qidbayes.noise.dense import Among, solved_by_factor
from qidbayes.noise.grid import QUANTIZATION, RUN, Grid, Partition
from qidbayes.noise.kernels import Coordinates, covariance
from qidbayes.noise.kronecker import Factored, inner, named
from qidbayes.noise.state_space import cheapest

_AT_ONCE = 250_000
"""Numbers in one array of draws, rows and columns: 2 MB, so that it stays near the processor."""
_ALIKE = 1e-9
"""Variances of one width that differ by less, as a share or by themselves, are equal but for rounding."""


class _Solver(Protocol):
    """One way to take the rows of a block."""

    cost: float
    memory: float

    def __call__(self, columns: np.ndarray, scale: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return what `Gram` does, of the block."""


class Gram:
    """The inner products over the rows of a table.

    Parameters
    ----------
    where
        The blocks of rows.
    coordinates
        Where the rows stand.
    variance
        The variance of each row's own error beside sigma²; shape ``(rows,)``.
    """

    def __init__(self, where: Partition, coordinates: Coordinates, variance: np.ndarray) -> None:
        self._members = [block.members for block in where.blocks]
        self._blocks = [
            _cheapest(
                block.grid,
                {name: values[block.members] for name, values in coordinates.items()},
                variance[block.members],
            )
            for block in where.blocks
        ]
        self.cost = sum(block.cost for block in self._blocks)
        """Roughly, the operations of one draw, in those of a Cholesky factor: rows³ of one matrix."""
        self.memory = max((block.memory for block in self._blocks), default=0.0)
        """Roughly, the bytes of one draw."""

    def __call__(self, columns: np.ndarray, scale: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return the inner products, ``(draws, columns, columns)``, and log |C|, ``(draws,)``; NaN if C has no factor.

        Parameters
        ----------
        columns
            Shape ``(draws or 1, rows, columns)``.
        scale
            The numbers of the noise by name; shape ``(draws,)`` each.
        """
        draws, width = len(scale["sigma"]), columns.shape[-1]
        found, log_determinant = np.zeros((draws, width, width)), np.zeros(draws)
        for block, members in zip(self._blocks, self._members, strict=True):
            step = max(1, _AT_ONCE // (len(members) * width))
            for first in range(0, draws, step):
                part = slice(first, first + step)
                some = {name: values[part] for name, values in scale.items()}
                of_part = columns[part if len(columns) > 1 else slice(None), members]
                products, log_of_part = block(of_part, some)
                found[part] += products
                log_determinant[part] += log_of_part
        return found, log_determinant


class _OfGrid:
    """A block with a grid, and the rows beside it given the grid."""

    def __init__(self, grid: Grid, variance: np.ndarray) -> None:
        self._where, self._arrays, self._rest = grid.shape, grid.arrays, grid.rest
        self._rows, self._known = np.maximum(grid.rows, 0), (grid.rows >= 0).astype(float)
        self._of_width = (variance[self._rows] * self._known).sum(axis=0) / self._known.sum(axis=0)
        self._beside, self._own = named((*RUN, *QUANTIZATION), grid.beside), variance[grid.rest]
        self.cost, self.memory = cost_of_grid(grid), 32.0 * (self._where.others**2 + _columns(grid))

    def __call__(self, columns: np.ndarray, scale: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        sigma = np.square(scale["sigma"])[:, None]
        grid = Factored(self._where, self._arrays, self._of_width + sigma, _of_process(scale), np)
        inside = columns[:, self._rows].transpose(0, 3, 1, 2) * self._known
        rotated = grid.rotate(np.broadcast_to(inside, (len(sigma), *inside.shape[1:])))
        solved = grid.solve(rotated)
        found, log_determinant = inner(rotated, solved, np), grid.log_determinant
        if len(self._rest):
            wide = {name: values[:, None, None] for name, values in _of_process(scale).items()}
            cross = grid.cross(self._beside)
            left = covariance(wide, self._beside, self._beside, np) * np.ones((len(self._rest), len(self._rest)))
            left = left - inner(cross, grid.solve(cross), np)
            np.einsum("dii->di", left)[...] += self._own + sigma
            over = columns[:, self._rest] - inner(cross, solved, np)
            for draw, (matrix, one) in enumerate(zip(left, over, strict=True)):
                reduced, log_of_rest = solved_by_factor(matrix, one)
                found[draw] += reduced.T @ reduced
                log_determinant[draw] += log_of_rest
        return found, log_determinant


class _Dense:
    """A block as one matrix."""

    def __init__(self, coordinates: Coordinates, variance: np.ndarray) -> None:
        self._among = Among(coordinates)
        self._own = variance[self._among.order]
        self.memory = 32.0 * float(len(variance)) ** 2
        self.cost = cost_of_matrix(len(variance))

    def __call__(self, columns: np.ndarray, scale: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        draws = len(scale["sigma"])
        found, log_determinant = np.empty((draws, columns.shape[-1], columns.shape[-1])), np.empty(draws)
        for draw in range(draws):
            one = {name: float(values[draw]) for name, values in scale.items()}
            matrix = self._among.covariance(one)
            matrix.flat[:: len(matrix) + 1] += self._own + one["sigma"] ** 2
            of_draw = columns[draw if len(columns) > 1 else 0, self._among.order]
            reduced, log_determinant[draw] = solved_by_factor(matrix, of_draw)
            found[draw] = reduced.T @ reduced
        return found, log_determinant


def _cheapest(grid: Grid, coordinates: Coordinates, variance: np.ndarray) -> _Solver:
    """Return the way that costs least. All give the same numbers, so that a grid goes only where errors are equal."""
    along = None if grid.slopes else cheapest(coordinates, variance)  # slopes that wander have no part in its state
    costs = [cost_of_matrix(len(variance)), along.cost if along else np.inf]
    costs.append(cost_of_grid(grid) if grid.rows.size and _equal(grid, variance) else np.inf)
    best = int(np.argmin(costs))
    if best == 1 and along:
        return along
    return _Dense(coordinates, variance) if best == 0 else _OfGrid(grid, variance)


def cost_of_matrix(rows: int) -> float:
    """Return what one matrix costs: its Cholesky factor, and the kernels of every pair."""
    return float(rows) ** 3 + 100.0 * rows**2


def cost_of_grid(grid: Grid) -> float:
    """Return what a grid costs in the same operations: eigenvectors of its sides, and its holes and the rows beside."""
    runs, gaps = len(grid.rows), float(grid.holes.shape[1] + len(grid.rest))
    locations = runs if grid.slopes else np.unique(grid.run[:3], axis=1).shape[1] + np.unique(grid.run[3]).size
    sides = grid.models**3 + (runs / grid.models) ** 3 if grid.models else float(min(runs, locations)) ** 3 + runs**2
    found = 25.0 * sides + 4.0 * gaps**3 + 4.0 * gaps**2 * grid.rows.size + 1e3 * gaps + 25.0 * grid.rows.shape[1] ** 3
    return float(found)


def _columns(grid: Grid) -> float:
    return float((grid.holes.shape[1] + len(grid.rest)) * grid.rows.size)


def _equal(grid: Grid, variance: np.ndarray) -> bool:
    """Return whether the rows of each width have one variance, as the factors of a grid take for granted."""
    of_width = (variance[width[width >= 0]] for width in grid.rows.T)
    return all(np.allclose(values, values.mean(), rtol=_ALIKE, atol=_ALIKE) for values in of_width if len(values))


def _of_process(scale: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: values for name, values in scale.items() if name != "sigma"}
