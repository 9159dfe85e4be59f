"""What is asked about: every combination of the values given, or the rows of a frame."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import polars as pl

from qidbayes.errors import InputError
from qidbayes.law.law import COVARIATES, Law, column_of
from qidbayes.posterior.constants import Curve, dimensions
from qidbayes.table.columns import COLUMNS
from qidbayes.table.groups import columns, labels
from qidbayes.table.question import as_in_tables, per_channel_as_rows

# 7 in the place of 7e9 is no size that a table may hold, nor one to ask about.
_COUNTS = {s: column for column in COLUMNS for s, name in COVARIATES.items() if s in "ND" and name == column.name}


@dataclass(frozen=True)
class Query:
    """The questions, one a row, and the arrays a `Curve` takes for them."""

    frame: pl.DataFrame
    log_covariates: Mapping[str, np.ndarray]
    index: Mapping[str, np.ndarray]


def combinations(values: Mapping[str, Any]) -> pl.DataFrame:
    """Return a frame with every combination of the values, the last name varying fastest.

    Examples
    --------
    >>> combinations({"n_params": 7e9, "bits": [3, 4]}).rows()
    [(7000000000.0, 3), (7000000000.0, 4)]
    """
    frame = pl.DataFrame()
    for name, given in values.items():
        one = isinstance(given, str | Real)
        if not one and not isinstance(given, Sequence | np.ndarray | pl.Series):
            raise InputError(f"{name} must be a number, or a list of them; got {type(given).__name__}")
        column = pl.DataFrame({name: [given] if one else list(given)}, strict=False)
        if not column.height:
            raise InputError(f"{name}: no values; give at least one")
        frame = frame.join(column, how="cross") if frame.width else column
    return as_in_tables(frame)


def build(
    curve: Curve,
    queries: pl.DataFrame | None,
    values: Mapping[str, Any],
    leave_out: str | None = None,
    extra: Sequence[str] = (),
) -> Query:
    """Return the questions as a `Query`, checked against what the law needs.

    Parameters
    ----------
    curve
        What will answer.
    queries
        A frame with one question a row; its further columns are kept.
    values
        Otherwise, values whose combinations are the questions; None is left out.
    leave_out
        The covariate that is solved for, and so not given.
    extra
        Columns, beside what the law needs, that the question may name.

    Raises
    ------
    InputError
        If something the law needs is missing, out of range or of an unknown group, or something is given that the law
        does not depend on.
    """
    law = curve.law
    needed = needs(law, leave_out)
    given = {name: value for name, value in values.items() if value is not None}
    if queries is not None and given:
        raise InputError("give either a frame of queries or values, not both")
    if queries is None:
        whole_rows = ("row_length",) if "group_size" in needed else ()
        refuse_unused(law, given, (*needed, *whole_rows, *extra))
    frame = as_in_tables(queries) if queries is not None else combinations(given)
    frame = curve.completed(per_channel_as_rows(frame) if "group_size" in needed else frame)
    if curve.untold and "tokens" in needed and "tokens" not in frame.columns:
        frame = frame.with_columns(pl.lit(None, dtype=pl.Float64).alias("tokens"))
    missing = [name for name in needed if name not in frame.columns]
    if missing:
        raise InputError(f"law {law.name!r} also needs {', '.join(missing)}")
    asked = [symbol for symbol in law.covariates if column_of(symbol) != leave_out]
    untold = curve.untold(frame) if curve.untold and "D" in asked and frame["tokens"].null_count() else None
    with np.errstate(divide="ignore"):  # of 0 the logarithm is -inf
        log_covariates = {
            s: untold
            if s == "D" and untold is not None
            else np.log(positive(frame, column_of(s), or_zero=s not in "NDP"))
            for s in asked
        }
    # Frames of training_level's search hold any tokens.
    _refuse_other_units(log_covariates, "ND" if queries is None else "N")
    index = {}
    for dim in set(dimensions(law).values()):
        index[dim] = curve.group_index(dim, labels(frame, dim.split(":")).to_list())
    for symbol, log_values in log_covariates.items():
        zero = log_values == -np.inf
        if zero.any() and leave_out is None:
            found = curve.log_response(log_covariates, index)
            if not np.isfinite(found[:, zero]).all():
                raise InputError(f"{column_of(symbol)} must be positive: law {law.name!r} has no value where it is 0")
    return Query(frame, log_covariates, index)


def _refuse_other_units(log_covariates: Mapping[str, np.ndarray], symbols: str) -> None:
    for symbol in symbols:
        column = _COUNTS[symbol]
        found = np.exp(log_covariates.get(symbol, np.empty(0)))
        small = ~column.accepted(pl.Series((found * (1 + 1e-9)).reshape(-1))).to_numpy()
        if small.any():
            raise InputError(f"{column.name}: {found.reshape(-1)[small][0]:g} is not accepted; give {column.accepts}")


def refuse_unused(law: Law, given: Iterable[str], taken: Sequence[str]) -> None:
    """Refuse a value that the law does not take: it would be taken to matter."""
    unused = [name for name in given if name not in taken]
    if unused:
        raise InputError(
            f"law {law.name!r} does not depend on {unused[0]!r}; it takes {', '.join(dict.fromkeys(taken))}"
        )


def needs(law: Law, leave_out: str | None = None) -> list[str]:
    """Return the columns a question to a law must have."""
    wanted = [*(column_of(symbol) for symbol in law.covariates), *columns(law.by)]
    return [name for name in dict.fromkeys(wanted) if name != leave_out]


def positive(frame: pl.DataFrame, column: str, *, or_zero: bool = False) -> np.ndarray:
    """Return a column as floats, refusing what is not a positive, finite number; 0 is let through if asked for."""
    try:
        found = frame[column].cast(pl.Float64).to_numpy()
    except pl.exceptions.PolarsError:
        raise InputError(f"{column} must be numbers, not {frame.schema[column]}") from None
    wrong = ~(np.isfinite(found) & ((found > 0) | (or_zero & (found == 0))))
    if wrong.any():
        raise InputError(f"{column} must be positive and finite; got {found[wrong][0]:g}")
    return found
