"""Every committed table of results says which command, commit, version, day and machine it comes from."""

import csv
import hashlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TABLES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("benchmarks", "checks")
    for path in (ROOT / folder).rglob("*.csv")
    if "ranks" not in path.parts and path.name != "provenance.csv"
)


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, str]]:
    with (ROOT / "checks" / "provenance.csv").open(newline="") as file:
        return {row["table"]: row for row in csv.DictReader(file)}


def test_every_table_has_a_row_and_every_row_a_table(rows: dict[str, dict[str, str]]) -> None:
    assert len(TABLES) > 15
    assert sorted(rows) == TABLES


@pytest.mark.parametrize("table", TABLES)
def test_the_row_is_whole_and_of_this_table(rows: dict[str, dict[str, str]], table: str) -> None:
    row = rows[table]
    assert all(row.values())
    digest = hashlib.sha256((ROOT / table).read_bytes()).hexdigest()
    assert digest == row["sha256"], f"{table} was made anew: run python checks/provenance.py COMMAND {table}"
