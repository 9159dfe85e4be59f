"""Counts the way people say them: `7B` parameters, `100T` tokens, `8GB` of memory."""

import math
import re
from typing import Any

from qidbayes.errors import InputError

_FACTORS = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}
_COUNT = re.compile(r"\s*([0-9]+(?:[_,][0-9]{3})*(?:\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]{1,3})?\s*([kmbgt]?)\s*", re.I)
_BYTES = {"kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30, "tib": 2.0**40}


def parse_count(text: str) -> float:
    """Read a positive count: plain digits, scientific notation or a k/M/B/T suffix.

    Raises
    ------
    InputError
        If the text is not a positive, finite count.

    Examples
    --------
    >>> parse_count("7B"), parse_count("1.5T"), parse_count("2e11"), parse_count("300_000")
    (7000000000.0, 1500000000000.0, 200000000000.0, 300000.0)
    """
    match = _COUNT.fullmatch(text)
    if match:
        digits, exponent, suffix = match.groups()
        value = float(re.sub("[_,]", "", digits) + (exponent or "")) * _FACTORS[suffix.lower()]
        if 0 < value < math.inf:
            return value
    raise InputError(f"{text!r} is not a count; write it like 7B, 1.5T, 300M, 2e11 or 160000000")


def format_count(value: float) -> str:
    """Write a count with a k/M/B/T suffix and at most three significant digits.

    Examples
    --------
    >>> format_count(405e9), format_count(1.0999e12), format_count(2.083e15), format_count(float("inf"))
    ('405B', '1.1T', '2,080T', '∞')
    """
    if math.isnan(value):
        return "n/a"
    if math.isinf(value):
        return "∞"
    for factor, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        # Rounding comes first so that 999.96B reads 1T and not 1e+03B.
        rounded = float(f"{value:.3g}")
        if abs(rounded) >= factor:
            scaled = rounded / factor
            if scaled >= 1e6:
                break
            return f"{scaled:,.0f}{suffix}" if scaled >= 1000 else f"{scaled:.3g}{suffix}"
    return f"{value:.3g}"


def parse_bytes(text: str) -> float:
    """Read a size in bytes, which must name its unit: GB is 10⁹, GiB 2³⁰.

    Raises
    ------
    InputError
        If the text is not a positive, finite size.

    Examples
    --------
    >>> parse_bytes("8GB"), parse_bytes("1.5 GiB")
    (8000000000.0, 1610612736.0)
    """
    match = re.fullmatch(r"\s*([0-9]+\.?[0-9]*|\.[0-9]+)\s*([kmgt]i?b)\s*", text, re.I)
    value = float(match[1]) * _BYTES[match[2].lower()] if match else 0.0
    if not 0 < value < math.inf:
        raise InputError(f"{text!r} is not a size in bytes; write it like 8GB, 500MB or 24GiB")
    return value


def format_bytes(value: float) -> str:
    """Write a size in bytes in powers of ten.

    Examples
    --------
    >>> format_bytes(8e9), format_bytes(1.5 * 2**30)
    ('8GB', '1.61GB')
    """
    for factor, suffix in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= factor:
            return f"{value / factor:.3g}{suffix}"
    return f"{value:.3g}B"


def format_value(value: Any, name: str = "", *, count: bool = False) -> str:
    """Write a value of a column as people read it.

    Parameters
    ----------
    value
        Of any type that a frame holds.
    name
        The column, which may ask for a form of its own, as `r_hat` does.
    count
        Whether it is one that people say as 7B.

    Examples
    --------
    >>> format_value(7e9, count=True), format_value(0.123456), format_value(True), format_value(1.0, "r_hat")
    ('7B', '0.1235', 'yes', '1.000')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if count and isinstance(value, int | float):
        return format_count(float(value))
    if name == "memory":
        return format_bytes(value)
    if not isinstance(value, float):
        return str(value)
    if math.isinf(value):
        return "∞"
    return f"{value:.3f}" if name == "r_hat" else f"{value:.0f}" if name in ("ess_bulk", "ess_tail") else f"{value:.4g}"
