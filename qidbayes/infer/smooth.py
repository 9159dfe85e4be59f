"""The density of a law's residuals under the discrepancy of `qidbayes.posterior.discrepancy`, which it integrates out.

The rows of a full grid are taken in factors (see `qidbayes.posterior.kronecker`); those outside it follow given the
grid, as a plain multivariate normal.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.tensor.linalg import cholesky, solve_triangular

from qidbayes.posterior.discrepancy import Cells, covariance
from qidbayes.posterior.kronecker import Factored, Grid, inner

_APART = 1e-8
"""Small beside the variance of any measurement, large beside the rounding of its eigenvalues."""


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
        at = {name: values[rows] for name, values in cells.items()}
        grid = Factored(where, at, variance[rows].mean(axis=0), scale, pt, _APART)
        inside = grid.rotate(residual[rows])
        solved = grid.solve(inside)
        found = found - 0.5 * grid.log_determinant - 0.5 * (inside * solved).sum()
        if others:
            cross = grid.cross(outside)
            left = left - inner(cross, grid.solve(cross), pt)
            over = over - inner(cross, solved, pt)[:, 0]
    if others:
        factor = cholesky(left)
        found = found - 0.5 * (solve_triangular(factor, over, lower=True, b_ndim=1) ** 2).sum()
        found = found - pt.log(pt.diagonal(factor)).sum()
    return found
