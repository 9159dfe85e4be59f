"""What the rows of a large block say of new measurements under one draw, in the order of an axis, for each question."""

from collections.abc import Mapping

import numpy as np

from qidbayes.noise.kernels import Coordinates, covariance
from qidbayes.noise.state_space import StateSpace


class Filtered:
    """The rows of a block under one draw.

    Parameters
    ----------
    along
        The rows along an axis.
    coordinates
        Where they stand.
    scale
        One number of each name.
    residual, variance
        What the law leaves over of their log response, and the variance of their errors; shape ``(rows,)``.
    """

    def __init__(
        self,
        along: StateSpace,
        coordinates: Coordinates,
        scale: Mapping[str, float],
        residual: np.ndarray,
        variance: np.ndarray,
    ) -> None:
        self._along, self._coordinates, self._scale = along, coordinates, scale
        self._residual, self._variance = residual[:, None], variance

    def at(self, asked: Coordinates) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean at new measurements and the variance that the rows take off; shapes ``(1, measurements)``."""
        products = self._products(self._residual, self._cross(asked))
        return products[:1, 1:], np.diag(products)[None, 1:]

    def together(self, asked: Coordinates, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean at blocks of new measurements and the covariance that the rows take off in each."""
        products = self._products(self._residual, self._cross(asked))
        width = (len(products) - 1) // count
        known = products[1:, 1:].reshape(count, width, count, width)[np.arange(count), :, np.arange(count)]
        return products[0, 1:].reshape(1, count, width), known[None]

    def between(self, asked: Coordinates, one: Coordinates) -> np.ndarray:
        """Return what the rows take off of the covariance with one measurement; shape ``(1, measurements)``."""
        return self._products(self._cross(one), self._cross(asked))[:1, 1:]

    def _cross(self, asked: Coordinates) -> np.ndarray:
        found = covariance(self._scale, self._coordinates, asked, np)
        return np.asarray(found * np.ones((len(self._residual), len(asked["log_params"]))))

    def _products(self, *columns: np.ndarray) -> np.ndarray:
        return self._along.products(np.concatenate(columns, axis=1), self._variance, self._scale)[0]
