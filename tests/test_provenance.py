"""Every committed table of results says which command, commit, version, day and machine it comes from."""

import csv
import hashlib
import re
import sys
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


@pytest.mark.parametrize("table", TABLES)
def test_a_command_makes_it_anew(rows: dict[str, dict[str, str]], table: str) -> None:
    program, _, what = rows[table]["command"].partition(" ")
    paper = (ROOT / "runs" / "paper.sh").read_text()
    if program == "make":
        assert what in re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    else:
        assert program == "python" and (ROOT / what.split()[0]).is_file()
    # What holds of the software, and not of the laws, is no result of the paper's.
    assert table.startswith(("checks/fuzz/", "checks/elsewhere/")) or re.search(rf"{what}[ \n]", paper)


def test_every_picture_is_drawn_by_something_and_shown_somewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT / "docs"), *sys.path])
    figures = __import__("figures")
    by_commands = {Path(figures.output(command)).name for command in figures.commands()}
    scripts = "".join(path.read_text() for path in (ROOT / "benchmarks").glob("*.py"))
    pages = "".join(path.read_text() for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
    for picture in (ROOT / "docs" / "images").iterdir():
        assert picture.name in by_commands or picture.name in scripts, f"nothing draws {picture.name}"
        assert picture.name in pages, f"no page shows {picture.name}"
