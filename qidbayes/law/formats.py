"""How well a number format holds Gaussian data: the covariate of law `capacity`."""

import math

import numpy as np

from qidbayes.errors import InputError

_MOST_BITS = 12
_SCALES = np.geomspace(1e-4, 4.0, 400)


def gaussian_mse(
    bits: float | None = None, *, exponent_bits: int | None = None, mantissa_bits: int | None = None
) -> float:
    """Return a format's mean squared error on a standard normal, rounded to the nearest at the best scale.

    Parameters
    ----------
    bits
        Of a symmetric integer format: 2**bits levels, equally far apart; log2(3) is ternary. At most 12.
    exponent_bits, mantissa_bits
        Of a floating-point format in their place, beside a sign: with subnormal numbers, and without infinities.

    Raises
    ------
    InputError
        If neither or both are given, or a width is out of range.

    Notes
    -----
    arXiv:2506.01863 takes this error for what a format can hold (its GMSE).

    Examples
    --------
    >>> round(gaussian_mse(4), 5), round(gaussian_mse(exponent_bits=2, mantissa_bits=1), 5)
    (0.01154, 0.01268)
    """
    levels = _levels(bits, exponent_bits, mantissa_bits)
    errors = np.array([_error(levels * scale) for scale in _SCALES])
    near = int(np.argmin(errors))
    low, high = np.log(_SCALES[max(near - 1, 0)]), np.log(_SCALES[min(near + 1, len(_SCALES) - 1)])
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(lambda s: _error(levels * math.exp(s)), bounds=(low, high), method="bounded")
    return float(found.fun)


def _levels(bits: float | None, exponent_bits: int | None, mantissa_bits: int | None) -> np.ndarray:
    if (bits is None) == (exponent_bits is None and mantissa_bits is None):
        raise InputError("give either bits, or exponent_bits and mantissa_bits")
    if bits is not None:
        if not 1 <= bits <= _MOST_BITS:
            raise InputError(f"bits must be from 1 to {_MOST_BITS}, not {bits!r}")
        count = round(2**bits)
        return np.arange(count) - (count - 1) / 2
    e, m = exponent_bits, mantissa_bits
    if not (isinstance(e, int) and isinstance(m, int) and e >= 0 and m >= 0 and 1 <= e + m < _MOST_BITS):
        raise InputError(f"exponent_bits and mantissa_bits must be whole numbers, 1 to 11 together; got {e!r}, {m!r}")
    fractions = np.arange(2**m) / 2**m
    normal = ((1.0 + fractions) * 2.0**power for power in range(1, 2**e))
    positive = np.concatenate([fractions * 2.0, *normal])
    positive = positive / positive.max()
    return np.unique(np.concatenate([-positive, positive]))


def _error(levels: np.ndarray) -> float:
    """Return E (x − nearest level)² of a standard normal x, by its moments between the midpoints."""
    from scipy.special import ndtr

    edges = np.concatenate([[-np.inf], (levels[1:] + levels[:-1]) / 2, [np.inf]])
    density = np.exp(-0.5 * edges**2) / math.sqrt(2 * math.pi)
    times = np.where(np.isfinite(edges), np.nan_to_num(edges, posinf=0.0, neginf=0.0) * density, 0.0)
    mass, first = np.diff(ndtr(edges)), -np.diff(density)
    second = mass - np.diff(times)
    return float((second - 2 * levels * first + levels**2 * mass).sum())
