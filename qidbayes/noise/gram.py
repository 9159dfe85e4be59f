"""Inner products of columns over a table, C⁻¹ between them, and log |C|: what integrating constants out of a law takes.

If the law is linear in constants that are normal, the density of the rows needs, beside the residuals r, the columns H
of the constants' effects: r'C⁻¹r, H'C⁻¹r and H'C⁻¹H. As `qidbayes.noise.gp_density` has it, block by block; but here on
NumPy, for many draws of the process's numbers at once, and without a derivative.
"""

from collections.abc import Mapping

import numpy as np

from qidbayes.noise.dense import Among, solved_by_factor
from qidbayes.noise.grid import QUANTIZATION, RUN, Block, Grid, Partition
from qidbayes.noise.kernels import covariance
from qidbayes.noise.kronecker import Factored, inner, named

_AT_ONCE = 250_000
"""Numbers in one array of draws, rows and columns: 2 MB, so that it stays near the processor."""
_DENSE_UP_TO = 2_000
"""Rows of a block without a grid of models that are taken as they are: a grid of runs saves less than it costs."""


class Gram:
    """The inner products over the rows of a table.

    Parameters
    ----------
    where
        The blocks of rows.
    variance
        The variance of each row's own error beside sigma²; shape ``(rows,)``.
    """

    def __init__(self, where: Partition, variance: np.ndarray) -> None:
        self._blocks = [_kind_of(block)(block.grid, variance[block.members]) for block in where.blocks]
        self._members = [block.members for block in where.blocks]
        self.cost = sum(block.cost for block in self._blocks)
        """Roughly, the operations of one draw: of factors, eigenvectors and kernels."""
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
        shape = self._where
        sides = float(shape.models or shape.rank) ** 3 + float(shape.runs / max(1, shape.models)) ** 3
        cubes = float(shape.holes) ** 3 + float(shape.others) ** 3
        self.memory = 32.0 * (shape.others**2 + (shape.holes + shape.others) * shape.runs * shape.quantizations)
        self.cost = 25.0 * sides + cubes + (shape.holes + shape.others + 1.0) ** 2 * (shape.runs * shape.quantizations)

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
    """A block as it is."""

    def __init__(self, grid: Grid, variance: np.ndarray) -> None:
        own = variance.copy()
        for width in grid.rows.T:  # within a grid, the rows of one quantization have the mean of theirs
            measured = width[width >= 0]
            own[measured] = own[measured].mean()
        self._own = own
        self.memory = 32.0 * float(len(own)) ** 2
        self.cost = float(len(own)) ** 3 + 100.0 * len(own) ** 2
        self._among = Among(named((*RUN, *QUANTIZATION), _cells(grid)))

    def __call__(self, columns: np.ndarray, scale: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        draws = len(scale["sigma"])
        found, log_determinant = np.empty((draws, columns.shape[-1], columns.shape[-1])), np.empty(draws)
        for draw in range(draws):
            one = {name: float(values[draw]) for name, values in scale.items()}
            matrix = self._among.covariance(one)
            matrix.flat[:: len(matrix) + 1] += self._own + one["sigma"] ** 2
            reduced, log_determinant[draw] = solved_by_factor(matrix, columns[draw if len(columns) > 1 else 0])
            found[draw] = reduced.T @ reduced
        return found, log_determinant


def _kind_of(block: Block) -> type[_OfGrid | _Dense]:
    grid = block.grid
    several = grid.rows.size and (grid.models or len(block.members) > _DENSE_UP_TO)
    cheaper = grid.rows.shape[1] > 1 and not len(grid.rest) and not grid.holes.size
    return _OfGrid if several or (grid.rows.size and cheaper) else _Dense


def _of_process(scale: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: values for name, values in scale.items() if name != "sigma"}


def _cells(grid: Grid) -> np.ndarray:
    """Return where all rows of a block stand, in their order; shape ``(7, rows)``."""
    measured = grid.rows >= 0
    found = np.empty((len(RUN) + len(QUANTIZATION), int(measured.sum()) + len(grid.rest)))
    run, width = np.nonzero(measured)
    found[:, grid.rows[measured]] = np.concatenate([grid.run[:, run], grid.quantization[:, width]])
    found[:, grid.rest] = grid.beside
    return found
