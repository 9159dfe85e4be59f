"""Covariances without structure that helps: as one matrix, by LAPACK, which does a symmetric one at half the price."""

from collections.abc import Mapping

import numpy as np

from qidbayes.noise.kernels import SIMILARITY, Cells, between_tokens, matern, quantizations

# SciPy is imported where it is used, since a fit that only answers mostly does without.


class Among:
    """The covariance of measurements among themselves; see `qidbayes.noise.kernels`.

    Its kernels are worked out between the sizes, tokens and quantizations that occur, and spread over the measurements.
    """

    def __init__(self, cells: Cells) -> None:
        self._near = [
            (f"length_{name}", *np.unique(cells[f"log_{name}"], return_inverse=True)) for name in ("params", "tokens")
        ]
        both = np.stack([cells["log_bits"], cells["kind"]])
        kinds, self._kind = np.unique(both, axis=1, return_inverse=True)
        self._kind = self._kind.reshape(-1)
        self._quantizations = dict(zip(("log_bits", "kind"), kinds, strict=True))
        self._wandering = between_tokens(self._near[1][1], self._near[1][1], np)
        suites = cells["suite"][:, None] == cells["suite"][None, :]
        self._apart = None if suites.all() else np.flatnonzero(~suites)
        self._same = {
            group: np.flatnonzero(cells[group][:, None] == cells[group][None, :]) for group in ("model", "checkpoint")
        }

    def covariance(self, scale: Mapping[str, float]) -> np.ndarray:
        """Return R·Q given one number of each name; shape ``(measurements, measurements)``."""
        found: np.ndarray | None = None
        for length, values, place in self._near:
            near = _spread(matern((values[:, None] - values[None, :]) / scale[length], np), place)
            found = near * scale["smooth_sd"] ** 2 if found is None else np.multiply(found, near, out=found)
        assert found is not None
        found += scale["suite_sd"] ** 2
        flat = found.reshape(-1)
        if "walk_sd" in scale:
            slope, walk = (_spread(values, self._near[1][2]) for values in self._wandering)
            walk *= 0.5 * scale["walk_sd"] ** 2
            found += walk
        if self._apart is not None:
            flat[self._apart] = 0.0
        if "walk_sd" in scale:
            pairs = self._same["model"]
            flat[pairs] += scale["model_tokens_sd"] ** 2 * slope.reshape(-1)[pairs] + walk.reshape(-1)[pairs]
        for group, pairs in self._same.items():
            if f"{group}_sd" in scale:
                flat[pairs] += scale[f"{group}_sd"] ** 2
        if SIMILARITY in scale:
            between = quantizations(scale, self._quantizations, self._quantizations, np)
            if len(between) > 1:
                found *= _spread(between, self._kind)
        return found


def _spread(values: np.ndarray, place: np.ndarray) -> np.ndarray:
    return values.take(place, axis=0).take(place, axis=1)


def solved_by_factor(matrix: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, float]:
    """Return L⁻¹·columns for the Cholesky factor L of a matrix, which is overwritten, and the log determinant of it.

    Both are NaN where the matrix is not positive definite to rounding.

    Examples
    --------
    >>> solved, log_determinant = solved_by_factor(np.diag([4.0, 1.0]), np.eye(2))
    >>> solved.tolist(), round(log_determinant, 3)
    ([[0.5, 0.0], [0.0, 1.0]], 1.386)
    """
    from scipy.linalg import blas, lapack

    # Of a symmetric matrix the transpose is in the order that LAPACK takes.
    factor, failed = lapack.dpotrf(matrix.T, lower=1, clean=0, overwrite_a=1)
    if failed:
        return np.full(columns.shape, np.nan), np.nan
    return blas.dtrsm(1.0, factor, columns, lower=1), 2.0 * float(np.log(factor.diagonal()).sum())


def inverse(matrices: np.ndarray) -> np.ndarray:
    """Return the inverses of a stack of matrices; shape ``(…, rows, rows)``.

    Raises
    ------
    numpy.linalg.LinAlgError
        If one is not positive definite.

    Examples
    --------
    >>> inverse(np.array([[[4.0, 0.0], [0.0, 16.0]]])).tolist()
    [[[0.25, 0.0], [0.0, 0.0625]]]
    """
    from scipy.linalg import lapack

    found = np.empty(matrices.shape)
    for one, into in zip(matrices, found, strict=True):
        factor, failed = lapack.dpotrf(one.T, lower=1, clean=1)
        if failed:
            raise np.linalg.LinAlgError("matrix is not positive definite")
        lower, _ = lapack.dpotri(factor, lower=1)
        into[:] = lower + np.tril(lower, -1).T
    return found
