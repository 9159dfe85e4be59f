"""What is wrong with a table, gathered so that one message can say all of it."""

from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn

import polars as pl

from qidbayes.errors import InputError

SHOWN = 10
"""Lines of a message."""
NAMED = 4
"""Rows that a line names."""
DESCRIBED = 100_000
"""Rows of which one check says what is wrong with them."""


def refuse(where: str, lines: Iterable[str], total: int | None = None) -> NoReturn:
    """Raise an `InputError` of one line a problem, at most ten, each led by the file's name as compilers do."""
    lines = list(lines)
    hidden = (total or len(lines)) - len(lines[:SHOWN])
    more = [f"and {hidden} more"] if hidden else []
    raise InputError("\n".join(f"{where}: {line}" for line in [*lines[:SHOWN], *more]))


class Problems:
    """The problems found so far in one table.

    Attributes
    ----------
    clean : polars.Series
        True for the rows in which nothing has been found yet.
    where, rows
        What messages call the table and its rows.
    """

    def __init__(self, where: str, rows: Sequence[int]) -> None:
        self.clean = pl.repeat(True, len(rows), eager=True)
        self.where = where
        self.rows = rows  # what the reader calls each row: its line in a CSV file
        self._undescribed = 0
        self._found: dict[str, list[int]] = {}  # a problem's text, and the rows that have it

    def add(self, refused: pl.Series, column: str, describe: Callable[[int], str]) -> None:
        """Note a problem in `column` for every row where `refused` is true; `describe` gets the row's index.

        Rows of which `describe` says the same share one line of the message.
        """
        if not refused.any():
            return
        refused = refused.fill_null(False)
        self.clean = self.clean & ~refused
        found = refused.arg_true()
        # Describing every row of a long hopeless file would make it slow to refuse.
        self._undescribed += len(found) - len(found.head(DESCRIBED))
        for index in found.head(DESCRIBED):
            self._found.setdefault(f"column {column!r}: {describe(index)}", []).append(index)

    def raise_if_any(self) -> None:
        """Raise what was found, in the order of the rows."""
        if self._found:
            lines = sorted(self._found.items(), key=lambda problem: problem[1][0])
            hidden = sum(len(rows) for _, rows in lines[SHOWN:]) + self._undescribed
            shown = [f"{self._named(rows)}, {text}" for text, rows in lines[:SHOWN]]
            refuse(self.where, shown, len(shown) + hidden)

    def _named(self, found: Sequence[int]) -> str:
        """Call rows by their names: one, a few, or the first and how many."""
        names = [str(self.rows[index]) for index in found]
        if len(names) == 1:
            return f"row {names[0]}"
        if len(names) <= NAMED:
            return f"rows {', '.join(names[:-1])} and {names[-1]}"
        return f"rows {', '.join(names[: NAMED - 1])} and {len(names) - NAMED + 1} more"
