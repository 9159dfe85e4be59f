"""Covariances without structure that helps: as one matrix, by LAPACK, which does a symmetric one at half the price.

Of numbers in ascending order Matérn's kernel of smoothness 5/2 is a product of two narrow matrices above the diagonal:
with a ≥ b in units of the length over the root of 5,

    (1 + a − b + (a − b)²/3)·exp(b − a) = u(a)·v(b)        u(a) = exp(−a)·(1 + a + a²/3, −1 − 2a/3, 1/3)
                                                           v(b) = exp(b)·(1, b, b²)

so that one call of a matrix routine stands for an exponential of every pair.
"""

from collections.abc import Mapping

import numpy as np

from qidbayes.noise.kernels import SIMILARITY, Coordinates, between_tokens, matern, quantization_kernel

# SciPy is imported where it is used, since a fit that only answers mostly does without.

_PANEL = 64
"""Rows that are filled at a time, so that they stay near the processor."""
_FAR = 300.0
"""From the middle, in the units above: beyond it the exponentials overflow."""


class Among:
    """The covariance of measurements among themselves; see `qidbayes.noise.kernels`.

    They are taken in the order of the axis, tokens or sizes, on which more of them differ. What else they differ in is
    worked out between the locations (suite, other axis, model, bits, kind) that occur.

    Attributes
    ----------
    order
        Numbers of the measurements in that order.
    """

    def __init__(self, coordinates: Coordinates) -> None:
        distinct = {name: np.unique(coordinates[f"log_{name}"]).size for name in ("tokens", "params")}
        self._axis, self._other = sorted(distinct, key=lambda name: -distinct[name])
        self.order = np.argsort(coordinates[f"log_{self._axis}"], kind="stable")
        ordered = {name: np.asarray(values)[self.order] for name, values in coordinates.items()}
        self._at, self._tokens = ordered[f"log_{self._axis}"], ordered["log_tokens"]
        names = ("suite", f"log_{self._other}", "model", "log_bits", "kind")
        locations, location = np.unique(np.stack([ordered[name] for name in names]), axis=1, return_inverse=True)
        self._locations, self._location = dict(zip(names, locations, strict=True)), location.reshape(-1)
        kinds, kind = np.unique(locations[-2:], axis=1, return_inverse=True)
        self._kinds, self._kind = dict(zip(names[-2:], kinds, strict=True)), kind.reshape(-1)
        self._alike = {
            g: (self._locations[g][:, None] == self._locations[g][None, :]) * 1.0 for g in ("suite", "model")
        }
        codes = ordered["checkpoint"]
        self._checkpoints = np.nonzero(np.triu(codes[:, None] == codes[None, :]))

    def covariance(self, scale: Mapping[str, float]) -> np.ndarray:
        """Return R·Q given one number of each name, in `order`; shape ``(measurements, measurements)``.

        What is below the diagonal has no meaning.
        """
        suite, model = self._alike["suite"], self._alike["model"]
        other = self._locations[f"log_{self._other}"]
        near = matern((other[:, None] - other[None, :]) / scale[f"length_{self._other}"], np)
        shared = scale["suite_sd"] ** 2 * suite + scale.get("model_sd", 0.0) ** 2 * model
        between = np.ones((len(self._kind), len(self._kind)))
        if SIMILARITY in scale:
            between = _spread(quantization_kernel(scale, self._kinds, self._kinds, np), self._kind)
        tables = [scale["smooth_sd"] ** 2 * near * suite * between, shared * between]
        if "walk_sd" in scale:
            tables.append(scale["model_tokens_sd"] ** 2 * model * between)
            tables.append(0.5 * scale["walk_sd"] ** 2 * (suite + model) * between)
        at = (self._at - self._at.mean()) * (np.sqrt(5.0) / scale[f"length_{self._axis}"])
        rows = len(at)
        found = np.empty((rows, rows))
        for first in range(0, rows, _PANEL):
            part, later = slice(first, first + _PANEL), slice(first, None)
            panel = found[part, later]
            spread = (table[self._location[part]].take(self._location[later], axis=1) for table in tables)
            np.multiply(_along(at[part], at[later]), next(spread), out=panel)
            panel += next(spread)
            if "walk_sd" in scale:
                for with_walk in between_tokens(self._tokens[part], self._tokens[later], np):
                    panel += with_walk * next(spread)
        if "checkpoint_sd" in scale:
            i, j = self._checkpoints
            found[i, j] += scale["checkpoint_sd"] ** 2 * between[self._location[i], self._location[j]]
        return found


def _spread(values: np.ndarray, location: np.ndarray) -> np.ndarray:
    return values.take(location, axis=0).take(location, axis=1)


def _along(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return Matérn's kernel where b is not below a; see the module's text for the units."""
    if max(np.abs(a).max(), np.abs(b).max()) > _FAR:
        return np.asarray(matern((a[:, None] - b[None, :]) / np.sqrt(5.0), np))
    before = np.stack([np.ones_like(a), a, a**2], axis=1) * np.exp(a)[:, None]
    after = np.stack([1.0 + b + b**2 / 3.0, -1.0 - 2.0 * b / 3.0, np.full_like(b, 1.0 / 3.0)]) * np.exp(-b)
    return np.asarray(before @ after)


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
