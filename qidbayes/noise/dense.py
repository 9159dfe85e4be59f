"""Symmetric positive definite matrices without further structure, by LAPACK: a half of the work of any other matrix."""

import numpy as np


def inverse(matrices: np.ndarray) -> np.ndarray:
    """Return the inverses of a stack of matrices; shape ``(…, rows, rows)``.

    Raises
    ------
    numpy.linalg.LinAlgError
        If one is not positive definite.

    Examples
    --------
    >>> inverse(np.array([[[2.0, 0.0], [0.0, 4.0]]])).tolist()
    [[[0.5, 0.0], [0.0, 0.25]]]
    """
    from scipy.linalg import lapack  # imported here, since a fit that only answers mostly does without

    found = np.empty(matrices.shape)
    for one, into in zip(matrices, found, strict=True):
        # Of a symmetric matrix the transpose is in the order that LAPACK takes.
        factor, failed = lapack.dpotrf(one.T, lower=1, clean=1)
        if failed:
            raise np.linalg.LinAlgError("matrix is not positive definite")
        lower, _ = lapack.dpotri(factor, lower=1)
        into[:] = lower + np.tril(lower, -1).T
    return found
