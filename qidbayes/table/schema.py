"""A frame becomes a measurement table, or is refused with every reason named."""

import difflib
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from qidbayes.errors import DataWarning, InputError, nearest
from qidbayes.table import cells, losses, units
from qidbayes.table.columns import COLUMNS, NAMES, OTHER_UNITS, SCHEMA_VERSION, Column
from qidbayes.table.problems import Problems, refuse

__all__ = ["COLUMNS", "NAMES", "SCHEMA_VERSION", "validate"]

_FURTHER = re.compile("[a-z][a-z0-9_]{1,30}")
_TAKEN = {  # by questions and their answers
    "queries", "response", "kind", "ci_prob", "published", "vocabulary", "between", "memory", "max_qid", "picks",
    "draws", "random_seed", "median", "lower", "upper", "mean", "sd", "never", "held", "not_fitted",
    "worse_than_random", "row",
}  # fmt: skip
_MISSPELT = 0.82  # how like a column of the schema a name may be before it is taken for a slip of the pen
_COMMA = re.compile(r"[-+]?[0-9.]*,[0-9.,]*(e[-+]?[0-9]+)?", re.I)  # a decimal comma, or thousands


def validate(frame: pl.DataFrame, where: str, rows: Sequence[int] | None = None) -> pl.DataFrame:
    """Return `frame` as a measurement table: every column of the schema, typed and in order, or refuse it.

    Of `loss_16bit`, `loss` and `qid` (nats per token; qid = loss − loss_16bit) any two give the third. `ppl_16bit` and
    `ppl` are turned into losses, and so are `bits_per_byte_16bit` and `bits_per_byte` with `n_eval_tokens` and
    `n_eval_bytes`. Text is stripped, methods are put in lower case, and an empty cell is a missing one. Further columns
    of numbers, such as `qat_tokens`, are kept behind the schema's, as floats, for laws to name; a `DataWarning` says
    which. Rows that differ in one of them are different cells.

    Parameters
    ----------
    frame
        At least `model`, `n_params`, `tokens` (counts), `method`, `bits`, and `qid` or both losses; rows of method
        `none` need `loss_16bit` alone.
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
    table = pl.DataFrame([_read_column(frame, column, where, problems) for column in COLUMNS])
    further = [_numbers(frame[name]) for name in _further(frame)]
    others = [_read_column(frame, column, where, problems) for column in OTHER_UNITS if column.name in frame.columns]
    table = losses.complete(units.converted(table, others, problems), problems).with_columns(further)
    cells.check_once(table, problems)
    problems.raise_if_any()
    if further and not set(NAMES) <= set(frame.columns):  # a table that was read says it once
        names = ", ".join(column.name for column in further)
        warnings.warn(
            f"{where}: kept beside the columns of a table, for laws that name them: {names}",
            DataWarning,
            skip_file_prefixes=(str(Path(__file__).parents[1]),),
        )
    return table


def _known() -> tuple[str, ...]:
    return (*NAMES, *(column.name for column in OTHER_UNITS))


def _further(frame: pl.DataFrame) -> list[str]:
    """Return the columns beyond the schema that hold numbers under a name that a law can use."""
    known = _known()
    beyond = [name for name in frame.columns if name not in known and is_further(name) and not units.hint(name)]
    return [name for name in beyond if not misspelt(name) and _are_numbers(frame[name])]


def is_further(name: str) -> bool:
    """Return whether a column of numbers beyond the schema may be called so, that a law can name it."""
    return bool(_FURTHER.fullmatch(name)) and name not in _TAKEN


def misspelt(name: str) -> bool:
    """Return whether a name is so like one of the schema's that it must be meant for that.

    Examples
    --------
    >>> misspelt("learningrate"), misspelt("qat_tokens")
    (True, False)
    """
    return bool(difflib.get_close_matches(name, _known(), n=1, cutoff=_MISSPELT))


def _are_numbers(raw: pl.Series) -> bool:
    if raw.dtype != pl.String:
        return raw.dtype.is_numeric() and not raw.cast(pl.Float64).is_infinite().any()
    text = raw.drop_nulls().str.strip_chars()
    text = text.filter(text != "")
    return bool(text.len()) and bool(text.cast(pl.Float64, strict=False).is_finite().fill_null(False).all())


def _numbers(raw: pl.Series) -> pl.Series:
    text = raw.str.strip_chars() if raw.dtype == pl.String else raw
    return text.cast(pl.Float64, strict=False).fill_nan(None)


def _check_header(frame: pl.DataFrame, where: str) -> None:
    lines = []
    known, further = _known(), _further(frame)
    for name in frame.columns:
        if name not in known and name not in further:
            # A misspelt column passed over in silence would be lost data.
            lines.append(f"column {name!r} is unknown; {units.hint(name) or _nearest(name, known)}")
    for column in COLUMNS:
        if column.required and column.name not in frame.columns:
            lines.append(f"column {column.name!r} is missing; give {column.accepts}")
    if lines:
        refuse(where, lines)


def _nearest(name: str, known: Sequence[str]) -> str:
    near = nearest(name.strip().lower(), known)
    return f"did you mean {near!r}?" if near else f"the columns are {', '.join(NAMES)}"


def _read_column(frame: pl.DataFrame, column: Column, where: str, problems: Problems) -> pl.Series:
    """Return the schema's typed column: null, or its default, where there was nothing that could be used."""
    default = Path(where).stem if column.name == "suite" else column.default
    if column.name not in frame.columns:
        return pl.repeat(default, frame.height, dtype=column.dtype, eager=True).alias(column.name)
    raw = _plain(frame[column.name], column, where)
    values = _to_count(raw) if column.dtype == pl.Int64 else raw.cast(column.dtype, strict=False)
    refused = raw.is_not_null() & values.is_null()
    values = column.tidy(values) if column.tidy else values
    refused |= (~column.accepted(values)).fill_null(False)
    problems.add(refused, column.name, lambda i: f"{raw[i]!r} is not accepted; give {_accepted(column, raw[i])}")
    if column.required:
        problems.add(raw.is_null(), column.name, lambda _: f"empty; give {column.accepts}")
    values = values.set(refused, None)
    return values if default is None else values.fill_null(default)


def _accepted(column: Column, given: object) -> str:
    if column.dtype != pl.String and isinstance(given, str) and _COMMA.fullmatch(given):
        return f"{column.accepts}; write it with a decimal point and without separators of thousands"
    return column.accepts


def _plain(raw: pl.Series, column: Column, where: str) -> pl.Series:
    """Return the column as it came, its text stripped and null where empty; refuse types that hold neither."""
    if isinstance(raw.dtype, pl.String | pl.Categorical | pl.Enum | pl.Null):
        text = raw.cast(pl.String).str.strip_chars()
        return text.set(text == "", None)
    if column.dtype == pl.String and raw.dtype.is_integer():  # such as the steps that name a run's revisions
        return raw.cast(pl.String)
    if not raw.dtype.is_numeric() or column.dtype == pl.String:
        raise InputError(f"{where}: column {column.name!r} holds {raw.dtype}; give {column.accepts}")
    return raw


def _to_count(raw: pl.Series) -> pl.Series:
    """Read whole numbers, also when written as 1e9 or 1000000000.0; null for anything else."""
    number = raw.cast(pl.Float64, strict=False)
    whole = number.set(number != number.floor(), None).cast(pl.Int64, strict=False)
    if raw.dtype == pl.String or raw.dtype.is_integer():
        # A float holds integers only up to 2^53, so plain digits are read as they are.
        return raw.cast(pl.Int64, strict=False).fill_null(whole)
    return whole
