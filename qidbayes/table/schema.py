"""A frame becomes a measurement table, or is refused with every reason named."""

import re
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from qidbayes.errors import InputError
from qidbayes.table import cells, further, losses, pairs, units
from qidbayes.table.columns import COLUMNS, NAMES, OTHER_UNITS, SCHEMA_VERSION, Column
from qidbayes.table.old_types import with_old_types
from qidbayes.table.problems import Problems, refuse
from qidbayes.table.tidy import stripped
from qidbayes.units import parse_count

__all__ = ["COLUMNS", "NAMES", "SCHEMA_VERSION", "read_column", "validate"]

_SPOKEN = re.compile(r"[0-9]{1,9}(\.[0-9]{1,12})?\s*[kmbgt]", re.I)
_SHOWN = 8
_ROUNDING = 1e-12  # of the count: 1.1 is not quite 1.1 in binary
_COMMA = re.compile(r"[-+]?[0-9.]*,[0-9.,]*(e[-+]?[0-9]+)?", re.I)  # a decimal comma, or thousands


def validate(frame: pl.DataFrame, where: str, rows: Sequence[int] | None = None) -> pl.DataFrame:
    """Return `frame` as a measurement table: every column of the schema, typed and in order, or refuse it.

    Of `loss_16bit`, `loss` and `qid` (nats per token; qid = loss − loss_16bit) any two give the third. A row that has
    `loss` alone takes the 16-bit loss from the row of method `none` beside it: of the same model, revision, data set
    and context. `ppl_16bit` and `ppl` are turned into losses, and so are `bits_per_byte_16bit` and `bits_per_byte` with
    `n_eval_tokens` and `n_eval_bytes`. Text is stripped, methods get their one name (`qidbayes.methods`), counts may be
    typed like 7B, and an empty field is a missing one. Further columns of numbers stay, after those of the schema;
    others are named in a `TableWarning` and left out.

    Parameters
    ----------
    frame
        At least `model`, `n_params`, `tokens` (counts; empty where nobody tells), `method`, `bits`, and `qid` or both
        losses; rows of method `none` need `loss_16bit` alone.
    where
        What messages call the table: its file, as a rule. Its stem stands in for a missing `suite`.
    rows
        What messages call each row; 1, 2, … when left out.

    Raises
    ------
    InputError
        Naming the row, the column, the value and what would be accepted, for up to ten problems.

    Examples
    --------
    >>> point = {"model": "mine", "n_params": 1e9, "tokens": 2e11, "method": "gptq", "bits": 4, "qid": 0.1}
    >>> validate(pl.DataFrame(point), "runs.csv").select("suite", "n_params", "tokens", "qid", "status").row(0)
    ('runs', 1000000000, 200000000000, 0.1, 'ok')
    """
    _check_header(frame, where)
    if frame.is_empty():
        raise InputError(f"{where}: no rows; give at least one measurement")
    problems = Problems(where, rows if rows is not None else range(1, frame.height + 1))
    frame = stripped(frame)
    table = pl.DataFrame([_complete_column(frame, column, where, problems) for column in COLUMNS])
    others = [read_column(frame, column, problems) for column in OTHER_UNITS if column.name in frame.columns]
    table = with_old_types(table, where)
    table = losses.complete(pairs.paired(units.converted(table, others, problems)), problems)
    kept, aside = further.columns(frame, problems)
    cells.check_once(table.with_columns(kept), problems)
    problems.raise_if_any()
    further.tell(where, aside)
    return table.with_columns(kept)


def _check_header(frame: pl.DataFrame, where: str) -> None:
    # A misspelt column passed over in silence would be lost data.
    lines = [f"column {name!r} is unknown; {meant}" for name in frame.columns if (meant := further.meant(name))]
    missing = [column for column in COLUMNS if column.required and column.name not in frame.columns]
    if missing and (unknown := further.unknown(frame)):
        some = ", ".join(map(repr, unknown[:_SHOWN])) + (", …" if len(unknown) > _SHOWN else "")
        lines.append(f"column {some} is unknown; the columns are {', '.join(NAMES)}")
    for column in missing:
        empty = ", or leave its fields empty where nobody tells" if column.unknown else ""
        lines.append(f"column {column.name!r} is missing; give {column.accepts}{empty}")
    if lines:
        refuse(where, lines)


def _complete_column(frame: pl.DataFrame, column: Column, where: str, problems: Problems) -> pl.Series:
    """Return the schema's typed column: null, or its default, where there was nothing that could be used."""
    default = Path(where).stem if column.name == "suite" else column.default
    if column.name not in frame.columns:
        return _same(column, default, frame.height)
    raw = _plain(frame[column.name], column, problems)
    values = _read(raw, column, problems)
    if column.required and not column.unknown and raw.null_count():
        problems.add(raw.is_null(), column.name, lambda _: f"empty; give {column.accepts}")
    return values.fill_null(default) if default is not None and values.null_count() else values


def _same(column: Column, value: str | None, height: int) -> pl.Series:
    return pl.Series(column.name, [value], dtype=column.dtype).new_from_index(0, height)


def read_column(frame: pl.DataFrame, column: Column, problems: Problems) -> pl.Series:
    """Return a column of a `stripped` frame as the schema types it: null where empty or, noted, not accepted.

    Raises
    ------
    InputError
        If the column is of a type that cannot hold such values.
    """
    return _read(_plain(frame[column.name], column, problems), column, problems)


def _read(raw: pl.Series, column: Column, problems: Problems) -> pl.Series:
    if raw.null_count() == raw.len():  # most columns of most tables
        return _same(column, None, raw.len())
    values = _to_count(raw, column.spoken) if column.dtype == pl.Int64 else raw.cast(column.dtype, strict=False)
    unread = raw.is_not_null() & values.is_null() if values.null_count() > raw.null_count() else None
    values = column.tidy(values) if column.tidy else values
    refused = ~column.accepted(values)  # null where there is no value
    if unread is None and not refused.any():
        return values
    refused = refused.fill_null(False) if unread is None else refused.fill_null(False) | unread
    problems.add(refused, column.name, lambda i: f"{raw[i]!r} is not accepted; give {_accepted(column, raw[i])}")
    return values.set(refused, None)


def _accepted(column: Column, given: object) -> str:
    if column.dtype != pl.String and isinstance(given, str) and _COMMA.fullmatch(given):
        return f"{column.accepts}; write it with a decimal point and without separators of thousands"
    return column.accepts


def _plain(raw: pl.Series, column: Column, problems: Problems) -> pl.Series:
    """Return a column as it came, whole numbers as text where text is wanted; refuse types that hold neither."""
    if raw.dtype == pl.String:
        return raw
    if column.dtype == pl.String and raw.dtype.is_integer():  # such as the steps that name a run's revisions
        return raw.cast(pl.String)
    if not raw.dtype.is_numeric() or column.dtype == pl.String:
        raise InputError(f"{problems.where}: column {column.name!r} holds {raw.dtype}; give {column.accepts}")
    return raw


def _to_count(raw: pl.Series, spoken: bool) -> pl.Series:
    """Read whole numbers, also when written as 1e9, 1000000000.0 or 1B; null for anything else."""
    number = raw.cast(pl.Float64, strict=False)
    if spoken and raw.dtype == pl.String and number.null_count() > raw.null_count():
        number = number.fill_null(_said(raw))
    whole = number.set(number != number.floor(), None).cast(pl.Int64, strict=False)
    if raw.dtype == pl.String or raw.dtype.is_integer():
        # A float holds integers only up to 2^53, so plain digits are read as they are.
        return raw.cast(pl.Int64, strict=False).fill_null(whole)
    return whole


def _said(raw: pl.Series) -> pl.Series:
    """Return the counts that are typed as people say them, 1.3B; null for anything else."""
    known = {text: _count(text) for text in raw.drop_nulls().unique()}
    return pl.Series([None if text is None else known[text] for text in raw], dtype=pl.Float64)


def _count(text: str) -> float | None:
    if not _SPOKEN.fullmatch(text):
        return None
    count = parse_count(text)
    return round(count) if abs(count - round(count)) < _ROUNDING * count else count
