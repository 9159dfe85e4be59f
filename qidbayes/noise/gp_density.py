"""The density of a law's residuals under the discrepancy of `qidbayes.noise.kernels`, which it integrates out.

Block by block (see `qidbayes.infer.reduced`). A block's grid is taken in factors (`qidbayes.noise.kronecker`); the
places beside it follow given the grid, as a plain multivariate normal.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from qidbayes.noise.grid import QUANTIZATION, RUN, Shape
from qidbayes.noise.kernels import covariance
from qidbayes.noise.kronecker import Factored, forward, inner, named

_APART = 1e-9
"""Small beside the variance of any measurement, large beside the rounding of its eigenvalues."""


@dataclass(frozen=True)
class Part:
    """What the density knows of a block but its `arrays`.

    Attributes
    ----------
    grid
        The shape of its grid.
    copies
        How many copies it has.
    taken
        How many of them its places are of: all, or 1 if they are the mean of all.
    deviations
        How many columns d_i enter as they are; None if their products do.
    """

    grid: Shape
    copies: int
    taken: int
    deviations: int | None

    @property
    def size(self) -> int:
        """The places of one copy."""
        return self.grid.runs * self.grid.quantizations - self.grid.holes + self.grid.others


class Parted(Protocol):
    """What says which parts a density has: places, or a description of them without a number."""

    @property
    def parts(self) -> tuple[Part, ...] | None: ...


def log_density(
    residual: Any,
    variance: Any,
    scale: Mapping[str, Any],
    sigma: Any,
    where: Parted,
    data: Mapping[str, Any],
    ops: Any,
) -> Any:
    """Return the log density of all rows.

    Parameters
    ----------
    residual, variance
        Shape ``(places,)``: what the law leaves over, and the mean variance that the rows' measurement has there.
        Within a grid, the places of one quantization get the mean of their variances.
    scale
        See `covariance`.
    sigma
        The standard deviation of a row's own error.
    where
        The parts, whose places follow each other.
    data
        The `arrays` of `Reduced`, as the model's data.
    ops
        The array library: NumPy or PyTensor.
    """
    own = (sigma**2 + variance) / data["count"]
    found: Any = _within(data["within"], sigma**2, ops.log) if "within" in data else 0.0
    start = 0
    for i, part in enumerate(where.parts or ()):
        at = {name.split("_", 1)[1]: values for name, values in data.items() if name.startswith(f"block{i}_")}
        taken, size = part.taken, part.size
        # A block's places follow each other: a slice has a cheaper derivative than an index.
        members = slice(start, start + taken * size)
        start += taken * size
        # Places that are the mean of copies count for all of them.
        left = residual[members].reshape((taken, size)) * np.sqrt(part.copies / taken)
        if part.deviations:
            left = ops.concatenate([left, at["deviations"]])
        square, log_determinant = _of_block(
            left, own[members].reshape((taken, size)).mean(axis=0), scale, part.grid, at, ops
        )
        found = found - 0.5 * (square + part.copies * (log_determinant + size * np.log(2.0 * np.pi)))
    return found


def _within(statistics: Any, variance: Any, log: Callable[[Any], Any]) -> Any:
    """Return the log density of the rows of a place around their mean."""
    own, freedom, square, log_count = (statistics[i] for i in range(4))
    own = own + variance
    return -0.5 * (freedom * log(2.0 * np.pi * own) + square / own + log_count).sum()


def _of_block(
    residual: Any, own: Any, scale: Mapping[str, Any], grid: Shape, at: Mapping[str, Any], ops: Any
) -> tuple[Any, Any]:
    """Return Σ r'C⁻¹r over the rows of the residuals, ``(columns, places)``, and log |C|."""
    others = grid.others
    square, log_determinant = 0.0, 0.0
    over, left = residual[:, at["rest"]].T, ops.zeros((others, others))
    if others:
        beside = named((*RUN, *QUANTIZATION), at["beside"])
        left = covariance(scale, beside, beside, ops) * ops.ones((others, others)) + ops.diag(own[at["rest"]])
    if grid.runs:
        known = at["known"] if grid.holes else np.ones(1)
        count = known.sum(axis=0) if grid.holes else np.full(grid.quantizations, grid.runs)
        of_width = (own[at["rows"]] * known).sum(axis=0) / count
        factored = Factored(grid, at, of_width, scale, ops, _APART)
        inside = factored.rotate(residual[:, at["rows"]] * known)
        solved = factored.solve(inside)
        square, log_determinant = (inside * solved).sum(), factored.log_determinant
        if "scatter" in at:
            square = square + factored.trace(at["scatter"])
        if others:
            cross = factored.cross(beside)
            left = left - inner(cross, factored.solve(cross), ops)
            over = over - inner(cross, solved, ops)
    if others:
        factor = ops.linalg.cholesky(left)
        square = square + (forward(factor, over, ops) ** 2).sum()
        log_determinant = log_determinant + 2.0 * ops.log(ops.diagonal(factor)).sum()
    return square, log_determinant
