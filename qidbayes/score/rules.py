"""Rules that say which rows of a table are held out, read from text.

tokens > 100B                       one fold: these rows are held out
n_params > 2B and tokens > 50B      all conditions hold
method = awq seeing 6               six of the rows, drawn at random, are fitted after all
leave n_params                      a fold for each value, held out in turn
leave method seeing 18              the same, with eighteen rows of each fitted
rolling tokens                      the later half of the values in five blocks, each predicted from what is before it
"""

import operator as operators
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from qidbayes.errors import InputError
from qidbayes.units import format_count, parse_count

NUMBERS = ("n_params", "tokens", "bits", "bits_per_weight", "group_size", "learning_rate")
TEXTS = ("suite", "model", "revision", "method", "settings", "dataset")
BLOCKS = 5
"""How many times a rolling origin moves on, if there are values enough."""

_ACCEPTED = (
    "write a rule like 'tokens > 100B', 'n_params > 2B and tokens > 50B', 'method = awq', 'leave n_params' or "
    "'rolling tokens', and 'seeing 6' after it to fit six of its rows after all; "
    f"the columns are {', '.join((*NUMBERS, *TEXTS))}"
)
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operators.lt, "<=": operators.le, ">": operators.gt, ">=": operators.ge,
    "=": operators.eq, "==": operators.eq, "!=": operators.ne,
}  # fmt: skip
_SEEING = re.compile(r"(.*?)\s+seeing\s+([0-9]{1,9})", re.I | re.S)
_CONDITION = re.compile(r"\s*([a-z_]+)\s*(<=|>=|==|!=|=|<|>)\s*(\"[^\"]+\"|'[^']+'|[^\s<>=!]+)\s*", re.I)
_EVERY = re.compile(r"\s*(leave|rolling)\s+([a-z_]+)\s*", re.I)


@dataclass(frozen=True)
class Fold:
    """Which rows are held out and which are fitted.

    Attributes
    ----------
    split
        The rule, as it was written.
    name
        What is held out: the rule itself, or the value or block that it left out.
    train, held_out
        Rows of the table, as booleans; a row may be neither.
    """

    split: str
    name: str
    train: np.ndarray
    held_out: np.ndarray


def folds(table: pl.DataFrame, rule: str, random_seed: int = 0) -> list[Fold]:
    """Return the folds of a rule.

    Parameters
    ----------
    table
        A measurement table.
    rule
        As the head of this module shows. Sizes are counts as people say them: 100B tokens, 7B parameters.
    random_seed
        Decides which rows ``seeing N`` draws.

    Raises
    ------
    InputError
        If the rule cannot be read, names no column, or leaves nothing to fit or nothing to predict.

    Examples
    --------
    >>> from qidbayes.table import load_table
    >>> table = load_table("pythia")
    >>> [(fold.name, int(fold.held_out.sum())) for fold in folds(table, "tokens > 100B")]
    [('tokens > 100B', 108)]
    >>> [fold.name for fold in folds(table, "leave bits")]
    ['bits = 2', 'bits = 3', 'bits = 4']
    """
    seeing = _SEEING.fullmatch(rule.strip())
    text, count = (seeing[1], int(seeing[2])) if seeing else (rule, 0)
    every = _EVERY.fullmatch(text)
    if every and every[1].lower() == "leave":
        parts = _each(table, every[2].lower(), rule)
    elif every:
        parts = _rolling(table, every[2].lower(), rule)
    else:
        held = _where(table, text, rule)
        parts = [(" ".join(text.split()), ~held, held)]
    found = [_see(Fold(rule, *part), table, count, random_seed) for part in parts]
    for fold in found:
        if not fold.train.any() or not fold.held_out.any():
            rows = "every row" if not fold.train.any() else "no row"
            raise InputError(f"split {rule!r} holds out {rows} of the table's {table.height} ({fold.name})")
    return found


def _where(table: pl.DataFrame, text: str, rule: str) -> np.ndarray:
    held = np.ones(table.height, dtype=bool)
    for part in re.split(r"\s+and\s+", text.strip(), flags=re.I):
        match = _CONDITION.fullmatch(part)
        if not match:
            raise InputError(f"split {rule!r}: {part!r} is not a condition; {_ACCEPTED}")
        column, operator, value = match[1].lower(), match[2], match[3].strip("\"'")
        if column == "method":
            value = value.lower()  # as tables have it
        if column in TEXTS and operator not in ("=", "==", "!="):
            raise InputError(f"split {rule!r}: {column} is text and has no order; use = or !=")
        values = _column(table, column, rule)
        if column == "group_size" and value == "-1":  # per channel, where tables have nothing
            held &= _compare(values.fill_null(-1.0), operator, -1.0)
        else:
            held &= _compare(values, operator, value if column in TEXTS else _number(value, rule))
    return held


def _number(text: str, rule: str) -> float:
    try:
        return parse_count(text)
    except InputError as error:
        raise InputError(f"split {rule!r}: {error}") from None


def _compare(values: pl.Series, operator: str, bound: str | float) -> np.ndarray:
    found = _OPERATORS[operator](values, bound)
    return np.asarray(found.fill_null(False).to_numpy())


def _each(table: pl.DataFrame, column: str, rule: str) -> list[tuple[str, np.ndarray, np.ndarray]]:
    values = _column(table, column, rule)
    distinct = _several(values, 2, column, rule)
    held = [(f"{column} = {_text(column, value)}", (values == value).fill_null(False).to_numpy()) for value in distinct]
    return [(name, ~rows, rows) for name, rows in held]


def _rolling(table: pl.DataFrame, column: str, rule: str) -> list[tuple[str, np.ndarray, np.ndarray]]:
    if column in TEXTS:
        raise InputError(f"split {rule!r}: {column} is text and has no order to roll along; {_ACCEPTED}")
    values = _column(table, column, rule)
    distinct = _several(values, 4, column, rule)
    later = distinct[len(distinct) // 2 :]
    parts = []
    for block in np.array_split(later, min(BLOCKS, len(later))):
        name = f"{column} {_text(column, block[0])}" + (f" to {_text(column, block[-1])}" if len(block) > 1 else "")
        parts.append(
            (
                name,
                (values < block[0]).fill_null(False).to_numpy(),
                values.is_between(block[0], block[-1]).fill_null(False).to_numpy(),
            )
        )
    return parts


def _several(values: pl.Series, least: int, column: str, rule: str) -> list[float | str]:
    distinct = values.drop_nulls().unique().sort().to_list()
    if len(distinct) < least:
        raise InputError(f"split {rule!r} needs {least} values of {column}, and the table has {len(distinct)}")
    return distinct


def _column(table: pl.DataFrame, column: str, rule: str) -> pl.Series:
    if column not in (*NUMBERS, *TEXTS):
        raise InputError(f"split {rule!r}: there is no column {column!r}; {_ACCEPTED}")
    values = table[column]
    return values.cast(pl.Float64) if column in NUMBERS else values


def _text(column: str, value: float | str) -> str:
    if isinstance(value, str):
        return value
    return format_count(value) if column in ("n_params", "tokens") else f"{value:g}"


def _see(fold: Fold, table: pl.DataFrame, count: int, random_seed: int) -> Fold:
    """Move rows drawn at random from those held out to those fitted."""
    if not count:
        return fold
    usable = np.flatnonzero(fold.held_out & (table["status"] == "ok").to_numpy())
    if count >= len(usable):
        raise InputError(f"split {fold.split!r}: {fold.name} has {len(usable)} rows; see fewer than that")
    seen = np.zeros(table.height, dtype=bool)
    seen[np.random.default_rng([random_seed, count]).choice(usable, count, replace=False)] = True
    return Fold(fold.split, fold.name, fold.train | seen, fold.held_out & ~seen)


def every_fold(table: pl.DataFrame, rules: str | Sequence[str], random_seed: int = 0) -> list[Fold]:
    """Return the folds of one or several rules, in their order."""
    rules = [rules] if isinstance(rules, str) else list(rules)
    if not rules:
        raise InputError(f"no split given; {_ACCEPTED}")
    if len(set(rules)) < len(rules):
        raise InputError(f"a split is given twice: {', '.join(rules)}")
    return [fold for rule in rules for fold in folds(table, rule, random_seed)]
