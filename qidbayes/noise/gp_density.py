"""The density of a law's residuals under the Gaussian process of `qidbayes.noise.kernels`, which it integrates out.

Block by block (see `qidbayes.noise.grid`). A block's grid is taken in factors (`qidbayes.noise.kronecker`); the rows
beside it follow given the grid, as a plain multivariate normal.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qidbayes.noise.grid import QUANTIZATION, RUN, Shape
from qidbayes.noise.kernels import covariance
from qidbayes.noise.kronecker import Factored, forward, inner, named

_APART = 1e-9
"""Small beside the variance of any measurement, large beside the rounding of its eigenvalues."""


def log_density(
    residual: Any,
    variance: Any,
    scale: Mapping[str, Any],
    blocks: Sequence[Shape],
    data: Mapping[str, Any],
    xp: Any,
) -> Any:
    """Return the log density of all rows.

    Parameters
    ----------
    residual, variance
        Shape ``(rows,)``, in the order of a `Partition`: what the law leaves over, and the variance of each row's own
        error. Within a grid, the rows of one quantization get the mean of theirs.
    scale
        See `covariance`.
    blocks, data
        The `shapes` and the `arrays` of the `Partition`.
    xp
        The array library: NumPy or PyTensor.
    """
    found: Any = 0.0
    start = 0
    for i, grid in enumerate(blocks):
        at = {name.split("_", 1)[1]: values for name, values in data.items() if name.startswith(f"block{i}_")}
        members = slice(start, start + grid.size)  # a slice has a cheaper derivative than an index
        start += grid.size
        square, log_determinant = _of_block(residual[members][None], variance[members], scale, grid, at, xp)
        found = found - 0.5 * (square + log_determinant + grid.size * np.log(2.0 * np.pi))
    return found


def _of_block(
    residual: Any, own: Any, scale: Mapping[str, Any], grid: Shape, at: Mapping[str, Any], xp: Any
) -> tuple[Any, Any]:
    """Return r'C⁻¹r of the residuals, ``(1, rows)``, and log |C|."""
    others = grid.others
    square, log_determinant = 0.0, 0.0
    over, left = residual[:, at["rest"]].T, xp.zeros((others, others))
    if others:
        beside = named((*RUN, *QUANTIZATION), at["beside"])
        left = covariance(scale, beside, beside, xp) * xp.ones((others, others)) + xp.diag(own[at["rest"]])
    if grid.runs:
        known = at["known"] if grid.holes else np.ones(1)
        count = known.sum(axis=0) if grid.holes else np.full(grid.quantizations, grid.runs)
        of_width = (own[at["rows"]] * known).sum(axis=0) / count
        factored = Factored(grid, at, of_width, scale, xp, _APART)
        inside = factored.rotate(residual[:, at["rows"]] * known)
        solved = factored.solve(inside)
        square, log_determinant = (inside * solved).sum(), factored.log_determinant
        if others:
            cross = factored.cross(beside)
            left = left - inner(cross, factored.solve(cross), xp)
            over = over - inner(cross, solved, xp)
    if others:
        factor = xp.linalg.cholesky(left)
        square = square + (forward(factor, over, xp) ** 2).sum()
        log_determinant = log_determinant + 2.0 * xp.log(xp.diagonal(factor)).sum()
    return square, log_determinant
