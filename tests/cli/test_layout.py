"""Tables on terminals: whatever the width, no name, number or text is cut."""

import csv
import io
import re
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner
from faults.artifacts import fit as made_fit
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len
from terminal import on_a_terminal, python_on_a_terminal

from qidbayes.cli import cli
from qidbayes.cli.layout import Column, draw

pytestmark = pytest.mark.filterwarnings("ignore::qidbayes.errors.DiagnosticsWarning")
WIDTHS = (60, 80, 120)
NAMES = ("name", "law", "median", "lower", "upper", "mean", "sd", "source", "what", "model", "some_long_heading", "x")
WORD = st.text("abcdefgxyz*()0123456789.×漢", min_size=1, max_size=14)
TEXT = st.lists(WORD, max_size=12).map(" ".join)
NUMBER = st.floats(1e-9, 1e9).map("{:.4g}".format)


@st.composite
def tables(draw: st.DrawFn) -> list[Column]:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=8, unique=True))
    rows = draw(st.integers(0, 4))
    numeric = [draw(st.booleans()) for _ in names]
    cells = [tuple(draw(NUMBER if number else TEXT) for _ in range(rows)) for number in numeric]
    return [Column(*parts) for parts in zip(names, cells, numeric, strict=True)]


@given(tables(), st.integers(45, 200))
@example(
    [Column(name, cells, True) for name, cells in (("lower", ("2", "3")), ("mean", ("0.5",) * 2), ("sd", ("1",) * 2))],
    45,
)
def test_nothing_is_cut_nor_wider_than_the_terminal(columns: list[Column], width: int) -> None:
    shown = draw(columns, width)
    assert all(cell_len(line) <= width for line in shown.splitlines())
    missing = re.search(r"Not shown, for want of room: (.*)\. A\s+wider", " ".join(shown.split()))
    gone = missing[1].split(", ") if missing else []
    assert not {"name", "law", "median", "lower", "upper", "what", "model"} & set(gone)
    kept = [column for column in columns if column.name not in gone]
    for column in kept:
        assert not column.numeric or set(column.texts) <= set(re.split(r"[\s,;]+", shown))  # whole, on one line
    once = [set(column.texts) if len(set(column.texts)) == 1 else column.texts for column in kept]
    assert Counter(re.sub(r"\s", "", "".join(map("".join, once)))) <= Counter(shown)  # every character of every cell


def test_a_table_with_room_is_as_in_a_pipe() -> None:
    columns = [Column("name", ("beta", "a_longer_name"), False), Column("median", ("0.46", "5.6"), True)]
    expected = " name            median\n ──────────────────────\n beta              0.46\n a_longer_name      5.6"
    assert draw(columns) == draw(columns, 80) == draw(columns, 23) == expected
    assert draw(columns, 22) == expected.replace("  median", " median").replace("─" * 22, "─" * 21).replace(
        "  0.46", " 0.46"
    ).replace("      5.6", "     5.6")


def test_what_leaves_first_and_what_is_said_of_it() -> None:
    names = ("median", "lower", "upper", "mean", "sd", "some_factor", "held")
    columns = [Column(name, ("1.234", "5.678"), True) for name in names]
    assert "Not shown" not in draw(columns, 80)
    assert " Not shown, for want of room: mean, sd." in draw(columns, 40)
    same = [*columns, Column("tokens", ("100T", "100T"), True)]
    for width in (44, 80, 200):
        assert draw(same, width).splitlines()[0] == " In every row: tokens 100T"
        assert draw(same, width).count("tokens") == 1
    assert "In every row" not in draw(same)  # in a pipe every column is in its place


def test_what_is_the_same_in_one_row_or_in_every_column_stays() -> None:
    one = [Column("tokens", ("100T",), True), Column("bits", ("4",), True)]
    assert draw(one, 80) == draw(one)
    twice = [Column("tokens", ("100T", "100T"), True), Column("bits", ("4", "4"), True)]
    assert draw(twice, 80) == draw(twice)


def test_headings_are_broken_only_where_room_is_short() -> None:
    columns = [Column("text", ("some words " * 3, "x"), False)]
    columns += [Column(name, ("0.1", "0.2"), True) for name in ("n_params", "worse_than_random", "prob_best")]
    assert draw(columns, 64).splitlines()[:3] == [
        "                                              worse_",
        "                                               than_",
        " text                               n_params  random  prob_best",
    ]


def test_a_projection_keeps_both_its_bands() -> None:
    names = ("n_params", "tokens", "bits", "loss_16bit", "n_params_beyond", "tokens_beyond", "mean", "sd", "median")
    names += ("lower", "upper", "worse_than_random", "walk_lower", "walk_upper")
    shown = draw([Column(name, ("0.08201", "0.2588"), True) for name in names], 80)
    missing = "Not shown, for want of room: mean, sd, n_params_beyond, tokens_beyond, loss_16bit."
    assert missing in " ".join(shown.split())


def test_a_row_that_has_no_room_is_a_block_with_every_column() -> None:
    columns = [Column("name", ("beta",), False), Column("what", ("growth with training tokens " * 3,), False),
               Column("source", ("Eq. 8",), False)]  # fmt: skip
    columns += [Column("held", ("0.9",), True), Column("prob", ("0.95",), True)]
    assert draw(columns, 40).splitlines() == [
        " name    beta",
        " what    growth with training tokens",
        "         growth with training tokens",
        "         growth with training tokens",
        " source  Eq. 8",
        " held    0.9",
        " prob    0.95",
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fits")
    made_fit().save(folder / "fit.nc")
    return folder


COMMANDS = {
    "laws": ("law", "response", "equation"),
    "tables": ("name", "bits", "what"),
    "tables pythia/awq-bnb": ("model", "tokens", "method", "qid"),
    "summary fit.nc": ("name", "median", "lower", "upper", "r_hat"),
    "project fit.nc": ("bits", "median", "lower", "upper", "worse_than_random"),
    "project fit.nc --params 7B --bits 4": ("median", "lower", "upper", "mean", "sd", "tokens_beyond"),
    "tokens fit.nc": ("qid", "n_params", "bits", "tokens", "lower", "upper"),
    "advise fit.nc --memory 8GB,24GB --tokens 1T": ("memory", "bits", "n_params", "median", "lower", "upper"),
    "advise --params 8B --max-qid 0.1 --settings bartowski/Q4_K_M": ("settings", "bits", "median", "lower", "advised"),
    "training-level fit.nc --qid 0.05,0.2 --bits 4,3 --params 7B": ("n_params", "median", "lower", "upper"),
    "measure pythia-full --dry-run": ("model", "checkpoints", "cells"),
}


@pytest.mark.parametrize("width", WIDTHS)
def test_every_answer_is_whole_on_a_terminal(width: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for command, wanted in COMMANDS.items():
        piped = CliRunner().invoke(cli, command.split()).stdout
        shown = re.sub(r"\x1b\[[0-9;]*m", "", on_a_terminal(command.split(), folder, width))
        assert "…" not in shown, (command, shown)
        assert all(cell_len(line) <= width for line in shown.splitlines()), (command, shown)
        assert "_beyond 1;" not in shown and not re.search(r"_beyond 1\n", shown), (command, shown)
        for name in wanted:
            for cell in cells(piped, name):
                words = re.split(r"[ /]+", cell)  # where a text may go on in the next line
                assert all(re.search(rf"(?<![\w.]){re.escape(word)}(?![\w.])", shown) for word in words if word), (
                    command, width, name, cell, shown,
                )  # fmt: skip


def cells(piped: str, name: str) -> list[str]:
    """Return a column of a table as a pipe has it: all is where its heading is."""
    lines = piped.splitlines()
    rule = next(i for i, line in enumerate(lines) if set(line.strip()) == {"─"})
    heading = lines[rule - 1]
    rows = [re.split(r" {3,}", line.strip()) for line in lines[rule + 1 :]]
    names = re.split(r" {3,}", heading.strip())
    return [row[names.index(name)] for row in rows if len(row) == len(names)]


def test_the_reader_of_pipes_reads_them() -> None:
    """What the test above holds terminals against is the frame, as CSV has it."""
    rows = csv.DictReader(io.StringIO(CliRunner().invoke(cli, ["laws", "--format", "csv"]).stdout))
    piped = CliRunner().invoke(cli, ["laws"]).stdout
    assert [row["law"] for row in rows if row["published"]] == cells(piped, "law")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("command", ["laws unified", "project fit.nc --params seven", "project none.nc"])
def test_texts_and_errors_break_between_words(command: str, width: int, folder: Path) -> None:
    shown = re.sub(r"\x1b\[[0-9;]*m", "", on_a_terminal(command.split(), folder, width))
    assert all(cell_len(line) <= width for line in shown.splitlines())
    wide = re.sub(r"\x1b\[[0-9;]*m", "", on_a_terminal(command.split(), folder, 400))
    assert shown.split() == wide.split()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("how", ["say(text, err=True)", "echo_frame(polars.DataFrame({'x': [1]}), 'table', text)"])
def test_what_is_said_beside_a_table_breaks_between_words(how: str, width: int, tmp_path: Path) -> None:
    text = "warning: " + " ".join(f"word-{i}" for i in range(40))
    script = f"import polars; from qidbayes.cli.output import echo_frame, say; text = {text!r}; {how}"
    shown = re.sub(r"\x1b\[[0-9;]*m", "", python_on_a_terminal(["-c", script], tmp_path, width))
    assert shown.split()[: len(text.split())] == text.split()
    assert all(cell_len(line) <= width for line in shown.splitlines())
