"""Bring values that are written in several ways into one spelling."""

import numpy as np
import polars as pl

from qidbayes.methods import SYNONYMS

_DIGITS = 6  # what a number in single precision keeps of a decimal


def stripped(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a frame with its texts (also categories) as plain text without spaces around it, null where empty.

    Examples
    --------
    >>> stripped(pl.DataFrame({"model": [" 7B", "  ", None], "bits": [2, 3, 4]})).rows()
    [('7B', 2), (None, 3), (None, 4)]
    """
    texts = [
        name for name, kind in frame.schema.items() if isinstance(kind, pl.String | pl.Categorical | pl.Enum | pl.Null)
    ]
    return frame.with_columns(pl.col(texts).cast(pl.String).str.strip_chars().replace("", None))


def method(names: pl.Series) -> pl.Series:
    """Return methods by the one name that each has: ``GPTQ`` is ``gptq``, and so is ``auto-gptq``."""
    return names.str.to_lowercase().replace(SYNONYMS)


def per_channel(sizes: pl.Series) -> pl.Series:
    """Return group sizes with null for −1, which GPTQ's own files say for one group per output channel."""
    return sizes.set((sizes == -1).fill_null(False), None)


def decimal(widths: pl.Series) -> pl.Series:
    """Return numbers as the short decimals they were before they passed through single precision.

    Examples
    --------
    >>> decimal(pl.Series([1.5800000429153442, 1.58, 1.584962500721156])).to_list()
    [1.58, 1.58, 1.584962500721156]
    """
    known = widths.drop_nulls().unique()
    return widths.replace_strict(old=known, new=[_decimal(width) for width in known], return_dtype=pl.Float64)


def _decimal(value: float) -> float:
    short = float(f"{value:.{_DIGITS}g}")
    with np.errstate(over="ignore", under="ignore"):
        return short if np.float32(short) == np.float32(value) else value
