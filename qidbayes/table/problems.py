"""What is wrong with a table, gathered so that one message can say all of it."""

from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn

import polars as pl

from qidbayes.errors import InputError

SHOWN = 10


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
    """

    def __init__(self, where: str, rows: Sequence[int]) -> None:
        self.clean = pl.repeat(True, len(rows), eager=True)
        self._where = where
        self.rows = rows  # what the reader calls each row: its line in a CSV file
        self._count = 0
        self._found: list[tuple[int, str]] = []

    def add(self, refused: pl.Series, column: str, describe: Callable[[int], str]) -> None:
        """Note a problem in `column` for every row where `refused` is true; `describe` gets the row's index."""
        refused = refused.fill_null(False)
        self.clean = self.clean & ~refused
        self._count += int(refused.sum())
        # Describing more than can be shown would make a long hopeless file slow to refuse.
        for index in refused.arg_true().head(SHOWN):
            self._found.append((index, f"row {self.rows[index]}, column {column!r}: {describe(index)}"))

    def raise_if_any(self) -> None:
        """Raise what was found, in the order of the rows."""
        if self._found:
            ordered = sorted(self._found, key=lambda problem: problem[0])
            refuse(self._where, (line for _, line in ordered), self._count)
