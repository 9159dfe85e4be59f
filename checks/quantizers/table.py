"""The rows of results.csv."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import TypedDict


class Row(TypedDict):
    """One comparison. What `ours`, `theirs` and `difference` are depends on `check`: README.md says."""

    check: str
    oracle: str
    model: str
    setting: str
    ours: str
    theirs: str
    difference: str
    tolerance: str
    agrees: str


def numbers_row(
    check: str, oracle: str, model: str, setting: str, ours: float, theirs: float, tolerance: float, digits: int = 5
) -> Row:
    """A row that agrees if two numbers lie no further apart than `tolerance`."""
    return Row(
        check=check,
        oracle=oracle,
        model=model,
        setting=setting,
        ours=f"{ours:.{digits}f}",
        theirs=f"{theirs:.{digits}f}",
        difference=f"{theirs - ours:.{digits}f}",
        tolerance=f"{tolerance:.{digits}f}",
        agrees="yes" if abs(theirs - ours) <= tolerance else "no",
    )


def missing_row(check: str, oracle: str, model: str, setting: str, why: str = "") -> Row:
    """A row for what an oracle did not answer."""
    return Row(
        check=check,
        oracle=oracle,
        model=model,
        setting=setting,
        ours="",
        theirs=why,
        difference="",
        tolerance="",
        agrees="did not run",
    )


def write_table(rows: Iterable[Row], path: Path) -> None:
    """Write the table, a line a row."""
    with path.open("w", newline="") as table:
        writer = csv.DictWriter(table, fieldnames=Row.__annotations__, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
