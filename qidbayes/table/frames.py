"""Tables in whatever form a user has them: a frame of any library, a dict, a file, the name of a shipped table."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import polars as pl

from qidbayes.errors import InputError
from qidbayes.process import note


class ArrowStream(Protocol):
    """A frame that hands over its columns as Arrow does: pandas', pyarrow's, DuckDB's, …"""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Return the columns as a PyCapsule."""


type Frame = pl.DataFrame | pl.LazyFrame | ArrowStream | Mapping[str, Any]
"""What `as_frame` takes."""
type Table = Frame | str | os.PathLike[str]
"""What is taken wherever a measurement table is: a frame, a dict of columns, a file, or the name of a shipped table."""

_FORMS = "a frame of polars, pandas or pyarrow, or a dict of columns"


class _Stream:
    """Shows polars the Arrow stream of a frame, and nothing else: of pandas it would want more."""

    def __init__(self, frame: Any) -> None:
        self._frame = frame

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._frame.__arrow_c_stream__(requested_schema)


def as_frame(given: Frame, what: str) -> pl.DataFrame:
    """Return a frame of any library as polars' own.

    Parameters
    ----------
    given
        A `polars.DataFrame` or `LazyFrame`; anything with the Arrow or the dataframe protocol, such as pandas' and
        pyarrow's; or a dict of columns, in which one value stands for all rows.
    what
        What messages call it.

    Raises
    ------
    InputError
        If it is none of these, or its columns are of mixed types or lengths.

    Examples
    --------
    >>> as_frame({"model": "mine", "bits": [3, 4]}, "table").rows()
    [('mine', 3), ('mine', 4)]
    """
    note()
    if isinstance(given, pl.DataFrame):
        return given
    try:
        if isinstance(given, pl.LazyFrame):
            return given.collect()
        if isinstance(given, Mapping):
            return pl.DataFrame({str(name): _values(column) for name, column in given.items()}, strict=False)
        if hasattr(given, "__arrow_c_stream__"):
            return _from_arrow(given)
        if hasattr(given, "__dataframe__"):
            return _interchanged(given)
    # Every library has its own errors for columns of mixed types, and most are of these kinds.
    except (pl.exceptions.PolarsError, TypeError, ValueError, NotImplementedError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{what}: cannot be read as columns ({said}); give {_FORMS}, each of one type") from error
    raise InputError(f"{what} must be {_FORMS}, not {type(given).__name__}")


def _values(column: Any) -> Any:
    """Return a column as polars reads it: a sequence of any kind, or one value for all rows."""
    return column.tolist() if isinstance(column, np.ndarray) and column.ndim < 2 else column


def _from_arrow(given: Any) -> pl.DataFrame:
    try:
        return pl.DataFrame(_Stream(given))
    except ImportError:  # pandas needs pyarrow for it, which this package does not
        if not hasattr(given, "to_dict"):
            raise InputError(f"{type(given).__name__} needs pyarrow to hand over its columns; install it") from None
        columns = given.to_dict("list")
        return pl.DataFrame({str(name): _known(column) for name, column in columns.items()}, strict=False)


def _known(column: Sequence[Any]) -> list[Any]:
    return [None if isinstance(value, float) and np.isnan(value) else value for value in column]


def _interchanged(given: Any) -> pl.DataFrame:
    """Read what speaks the older dataframe protocol alone, through pyarrow."""
    try:
        from pyarrow.interchange import from_dataframe
    except ImportError:
        raise InputError(f"{type(given).__name__} is read through pyarrow; install it, or give {_FORMS}") from None
    return pl.DataFrame(_Stream(from_dataframe(given)))
