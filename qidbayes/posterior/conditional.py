"""What the fitted rows say of the discrepancy at new measurements."""

from collections.abc import Mapping

import numpy as np

from qidbayes.posterior.discrepancy import Cells, covariance, prior_variance
from qidbayes.posterior.kronecker import Factored, Grid, inner

_AT_ONCE = 4_000_000  # numbers in one matrix of the fitted rows and the new measurements: 32 MB


def conditional(
    scale: Mapping[str, np.ndarray],
    residual: np.ndarray,
    variance: np.ndarray,
    fitted: Cells,
    where: Grid,
    asked: Cells,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the variance of the discrepancy at new measurements given the fitted rows.

    Parameters
    ----------
    scale
        For each name, one number a draw; shape ``(draws,)``.
    residual
        What the law leaves over of the fitted rows' log response; shape ``(draws, rows)``.
    variance
        The variance of each fitted row's own error; shape ``(draws, rows)``. As in the fit, the rows of one
        quantization in the grid get the mean of theirs.
    fitted, asked
        Where the fitted rows and the new measurements stand.
    where
        Which of the fitted rows form a grid.

    Returns
    -------
    mean, variance
        Shape ``(draws, new measurements)``. The variance is without the new measurement's own error.
    """
    draws, rows = residual.shape
    width = len(asked["log_params"])
    mean, left = np.empty((draws, width)), np.empty((draws, width))
    step = max(1, _AT_ONCE // rows)
    for draw in range(draws):
        here = {name: float(values[draw]) for name, values in scale.items()}
        given = _Given(here, residual[draw], variance[draw], fitted, where)
        for first in range(0, width, step):
            part = slice(first, first + step)
            mean[draw, part], left[draw, part] = given.at({name: values[part] for name, values in asked.items()})
    return mean, np.maximum(left, 0.0)


class _Given:
    """The fitted rows under one draw: first the grid, then the others given the grid."""

    def __init__(
        self, scale: Mapping[str, float], residual: np.ndarray, variance: np.ndarray, fitted: Cells, where: Grid
    ) -> None:
        self.scale = scale
        self.grid: Factored | None = None
        self.outside = {name: values[where.rest] for name, values in fitted.items()}
        over = residual[where.rest]
        left = covariance(scale, self.outside, self.outside, np) * np.ones((len(over), len(over)))
        left = left + np.diag(variance[where.rest])
        if where.rows.size:
            at = {name: values[where.rows] for name, values in fitted.items()}
            self.grid = Factored(where, at, variance[where.rows].mean(axis=0), scale, np)
            self.solved = self.grid.solve(self.grid.rotate(residual[where.rows]))
            self.weights = self.grid.solve(self.grid.cross(self.outside))
            left = left - inner(self.grid.cross(self.outside), self.weights, np)
            over = over - inner(self.grid.cross(self.outside), self.solved, np)[:, 0]
        self.left, self.over = left, np.linalg.solve(left, over)

    def at(self, asked: Cells) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance at new measurements; shape ``(new measurements,)``."""
        shared = covariance(self.scale, self.outside, asked, np) * np.ones((len(self.over), len(asked["log_params"])))
        mean, known = 0.0, 0.0
        if self.grid:
            cross = self.grid.cross(asked)
            mean = (cross * self.solved).sum(axis=(0, 1, 2))
            known = (cross * self.grid.solve(cross)).sum(axis=(0, 1, 2))
            shared = shared - inner(self.weights, cross, np)
        known = known + (shared * np.linalg.solve(self.left, shared)).sum(axis=0)
        return mean + self.over @ shared, prior_variance(self.scale) - known
