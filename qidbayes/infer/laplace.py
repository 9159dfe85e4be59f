"""The mode of a posterior and its curvature there: where chains start, and in which directions they step."""

from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax import numpy as jnp
from scipy.optimize import minimize

type Gradient = Callable[[jax.Array, Sequence[jax.Array]], tuple[jax.Array, jax.Array]]
"""Takes a position, shape ``(numbers,)``, and the data; returns the negative log density and its gradient."""

_STEP = 1e-3
_FLATTEST, _STEEPEST = 0.3, 1e8
"""Curvatures are taken as within these: a direction that the data say nothing of has its prior's, 1 to 4."""


def laplace(gradient: Gradient, start: np.ndarray, data: Sequence[jax.Array]) -> tuple[np.ndarray, np.ndarray]:
    """Return the mode m and a matrix R such that m + R·x, with x standard normal, is about as the posterior.

    Parameters
    ----------
    gradient
        Of the negative log density.
    start
        Where the search starts; shape ``(numbers,)``.
    data
        What the gradient takes beside the position.

    Returns
    -------
    numpy.ndarray, numpy.ndarray
        Shapes ``(numbers,)`` and ``(numbers, numbers)``. The curvature is that of differences of the gradient.
    """

    def at(position: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = gradient(jnp.asarray(position), data)
        return float(value), np.asarray(slope, dtype=float)

    mode = minimize(at, start, jac=True, method="L-BFGS-B", options={"maxiter": 300, "maxcor": 30}).x
    steps = _STEP * np.eye(len(mode))
    curvature = np.stack([(at(mode + step)[1] - at(mode - step)[1]) / (2 * _STEP) for step in steps])
    values, directions = np.linalg.eigh((curvature + curvature.T) / 2)
    return mode, directions / np.sqrt(np.clip(values, _FLATTEST, _STEEPEST))
