"""Columns that are not the schema's: numbers stay, for laws that want them; the rest is named and left out."""

import difflib
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from qidbayes.errors import TableWarning
from qidbayes.table import units
from qidbayes.table.columns import NAMES, OTHER_UNITS
from qidbayes.table.problems import Problems

_KNOWN = (*NAMES, *(column.name for column in OTHER_UNITS))
_NAME = re.compile("[a-z][a-z0-9_]{1,30}")
_TAKEN = {  # by questions and their answers
    "queries", "response", "kind", "ci_prob", "published", "vocabulary", "between", "memory", "max_qid", "picks",
    "draws", "random_seed", "median", "lower", "upper", "mean", "sd", "never", "held", "not_fitted",
    "worse_than_random", "row",
}  # fmt: skip
_TYPO = 0.82  # difflib's similarity, from which a name is a known one misspelt
_INDEX = "__index_level_"  # what pandas and Arrow call an index without a name
_SHOWN = 8


def meant(name: str) -> str | None:
    """Return what to give in the place of a column that was probably meant to be one of the schema's.

    Examples
    --------
    >>> meant("tokns"), meant("N"), meant("calibration_tokens"), meant("note")
    ("did you mean 'tokens'?", "non-embedding parameters go into 'n_params'", None, None)
    """
    if name in _KNOWN:
        return None
    if told := units.hint(name):
        return told
    near = difflib.get_close_matches(name.strip().lower(), _KNOWN, n=1, cutoff=_TYPO)
    return f"did you mean {near[0]!r}?" if near else None


def is_further(name: str) -> bool:
    """Return whether a column of numbers beyond the schema is called so that a law can name it.

    Examples
    --------
    >>> is_further("qat_tokens"), is_further("median"), is_further("QAT tokens")
    (True, False, False)
    """
    return bool(_NAME.fullmatch(name)) and name not in _TAKEN


def unknown(frame: pl.DataFrame) -> list[str]:
    """Return the columns that are not the schema's; an index without a name is none."""
    return [name for name in frame.columns if name not in _KNOWN and not name.startswith(_INDEX)]


def columns(frame: pl.DataFrame, problems: Problems) -> tuple[list[pl.Series], list[str]]:
    """Return the further columns of a `stripped` frame that hold numbers, as floats, and the names of the others.

    A field that is empty or not a number (NaN) is null; an infinite one is a problem.
    """
    kept, aside = [], []
    for name in unknown(frame):
        numbers = _numbers(frame[name])
        if numbers is None or numbers.null_count() == numbers.len():
            aside.append(name)
            continue
        problems.add(numbers.is_infinite(), name, lambda _: "an infinite number is not accepted; give a finite one")
        kept.append(numbers)
    return kept, aside


def tell(where: str, aside: Sequence[str]) -> None:
    """Name the columns that were left out."""
    if aside:
        some = ", ".join(repr(name) for name in aside[:_SHOWN]) + (", …" if len(aside) > _SHOWN else "")
        warnings.warn(
            f"{where}: kept aside: {some} ({len(aside)} columns that hold no numbers and are none of a table's)"
            if len(aside) > 1
            else f"{where}: kept aside: {some}, which holds no numbers and is no column of a table",
            TableWarning,
            skip_file_prefixes=(str(Path(__file__).parents[1]),),
        )


def _numbers(given: pl.Series) -> pl.Series | None:
    if given.dtype.is_numeric():
        return given.cast(pl.Float64, strict=False).fill_nan(None)
    if given.dtype != pl.String:
        return None
    found = given.cast(pl.Float64, strict=False)
    return None if found.null_count() > given.null_count() else found.fill_nan(None)
