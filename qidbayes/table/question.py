"""Read the values of a question as a table's are read: names in lower case, group size −1 as per channel."""

import polars as pl

from qidbayes.errors import InputError
from qidbayes.table.columns import COLUMNS, Column
from qidbayes.units import parse_count


def as_in_tables(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a frame of questions with its values as tables hold them: methods in lower case, −1 as per channel.

    Counts may be typed as people say them: ``7B``.

    Raises
    ------
    InputError
        If a column that tables hold as text is of another type, a text is no count, or a group size is none.

    Examples
    --------
    >>> as_in_tables(pl.DataFrame({"method": "GPTQ", "group_size": -1, "revision": 1000, "tokens": "2T"})).row(0)
    ('gptq', None, '1000', 2000000000000.0)
    """
    return frame.with_columns(
        _as_in_tables(frame[column.name], column) for column in COLUMNS if column.name in frame.columns
    )


def per_channel_as_rows(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a frame in which a group that is a whole row, an empty `group_size`, is as long as `row_length` says.

    Examples
    --------
    >>> per_channel_as_rows(pl.DataFrame({"group_size": [64, None], "row_length": 4096.0}))["group_size"].to_list()
    [64, 4096]
    """
    if not {"group_size", "row_length"} <= set(frame.columns):
        return frame
    return frame.with_columns(pl.col("group_size").fill_null(pl.col("row_length").cast(pl.Int64, strict=False)))


def _as_in_tables(given: pl.Series, column: Column) -> pl.Series:
    if column.dtype == pl.String:
        text = _text(given, column)
        return column.tidy(text) if column.tidy else text
    if column.spoken and given.dtype == pl.String:
        return pl.Series(given.name, [_count(text, column) for text in given], dtype=pl.Float64)
    if column.tidy is None or not given.dtype.is_numeric():  # what is no number is refused where it is needed
        return given
    if column.dtype == pl.Float64:
        return column.tidy(given.cast(pl.Float64)) if given.dtype.is_float() else given
    found = column.tidy(given.fill_nan(None))
    wrong = found.filter(~column.accepted(found))
    if wrong.len():
        raise InputError(f"{column.name}: {wrong[0]:g} is not accepted; give {column.accepts}")
    return found


def _count(text: str | None, column: Column) -> float | None:
    try:
        return None if text is None else parse_count(text)
    except InputError as error:
        raise InputError(f"{column.name}: {error}") from None


def _text(given: pl.Series, column: Column) -> pl.Series:
    if isinstance(given.dtype, pl.String | pl.Categorical | pl.Enum | pl.Null) or given.dtype.is_integer():
        return given.cast(pl.String)
    if given.dtype.is_float():  # as the command line reads a name of digits
        return pl.Series(given.name, [None if v is None else f"{v:.15g}" for v in given], dtype=pl.String)
    raise InputError(f"{column.name} must be text, not {given.dtype}")
