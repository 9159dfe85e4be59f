"""What reaches a terminal, a spreadsheet and a program of text that stands in somebody else's file."""

import csv
import io
import json
import re
import warnings
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner
from faults.artifacts import fit as made_fit
from terminal import on_a_terminal

import qidbayes as qb
from qidbayes.cli import cli
from qidbayes.cli.output import echo_frame, write_csv
from qidbayes.errors import (
    AssumptionWarning,
    DataWarning,
    DiagnosticsWarning,
    ExtrapolationWarning,
    SlowWarning,
    UnfittedWarning,
    printable,
)
from qidbayes.reports.html import table as page_table
from qidbayes.resources import shipped

pytestmark = pytest.mark.filterwarnings("ignore::qidbayes.errors.DiagnosticsWarning")
HOSTILE = "m\x1b[2J\x1b]0;title\x07\x9b31m\u202elaw\u2066\u200f\x00\x7f\r\x85end"
PLAIN = "m[2J]0;title31mlawend"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def rows(**columns: str) -> str:
    point = {"model": "m", "n_params": "1e9", "tokens": "2e11", "method": "gptq", "bits": "4", "qid": "0.1"} | columns
    file = io.StringIO()
    writer = csv.DictWriter(file, list(point))
    writer.writeheader()
    writer.writerow(point)
    return file.getvalue()


def test_every_control_is_taken_out_and_nothing_else() -> None:
    everything = "".join(map(chr, (*range(0x3000), *range(0x1F300, 0x1F700))))
    assert printable(everything) == OBEYED.sub("", everything)
    assert len(everything) - len(printable(everything)) == 32 - 2 + 33 + 3 + 5 + 4


def test_no_table_or_message_moves_a_terminal(tmp_path: Path) -> None:
    """Each command on a terminal of its own, with a table, a law and a fit made by somebody else."""
    (tmp_path / "theirs.csv").write_text(rows(model=HOSTILE.replace("\x00", ""), source=HOSTILE.replace("\x00", "")))
    (tmp_path / "wrong.csv").write_text(rows(model=HOSTILE))
    title = json.dumps(HOSTILE)[1:-1].replace("\x7f", "\\u007f")
    law = (shipped("models") / "per-bit.toml").read_text().replace("title", f'title = "{title}" #', 1)
    (tmp_path / "law.toml").write_text(law)
    fit = made_fit()
    doubts = replace(fit.diagnostics, doubts=(HOSTILE,))
    replace(fit, law=replace(fit.law, title=HOSTILE), diagnostics=doubts).save(tmp_path / "fit.nc")
    for arguments in (
        ["tables", "theirs.csv"],
        ["tables", "theirs.csv", "--format", "csv"],
        ["tables", "wrong.csv"],
        ["laws", "law.toml"],
        ["summary", "fit.nc"],
        ["tokens", "fit.nc", "--model", HOSTILE.replace("\x00", "")],
    ):
        shown = on_a_terminal(arguments, tmp_path)
        assert re.search(r"\[2J(\\x1b)?\]0;t", shown), (arguments, shown)
        # What click and rich add themselves: colours, and the line ends of a terminal.
        ours = re.sub(r"\x1b\[[0-9;]*m|\x1b\[\?25[hl]|\r\n", "", shown)
        assert not OBEYED.search(ours.replace("\n", "")), (arguments, ours)


def test_errors_and_warnings_of_python_too() -> None:
    assert str(qb.InputError(f"{HOSTILE}: no")) == f"{PLAIN}: no"
    for category in (
        AssumptionWarning,
        DataWarning,
        DiagnosticsWarning,
        ExtrapolationWarning,
        SlowWarning,
        UnfittedWarning,
    ):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            warnings.warn(HOSTILE, category, stacklevel=1)
        assert str(told[0].message) == PLAIN


def test_json_is_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = HOSTILE.replace("\x00", "")
    Path("theirs.csv").write_text(rows(source=name), newline="")
    (row,) = json.loads(CliRunner().invoke(cli, ["tables", "theirs.csv", "--format", "json"]).stdout)
    assert row["source"] == name


def test_csv_is_text_to_a_spreadsheet_and_read_back_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    formula = '=HYPERLINK("http://x";"y")'
    Path("theirs.csv").write_text(rows(model=formula, source="-1+1", qid="-0.1", loss_16bit="2"))
    shown = CliRunner().invoke(cli, ["tables", "theirs.csv", "--format", "csv"]).stdout
    (row,) = csv.DictReader(io.StringIO(shown))
    assert (row["model"], row["source"], row["qid"]) == ("'" + formula, "'-1+1", "-0.1")
    Path("again.csv").write_text(shown)
    assert qb.read_table("again.csv").equals(qb.read_table("theirs.csv"))
    frame = pl.DataFrame({"model": [formula], "qid": [-0.1]})
    write_csv(frame, Path("answers.csv"))
    assert next(csv.DictReader(io.StringIO(Path("answers.csv").read_text())))["model"] == "'" + formula
    assert 'data-csv="model,qid\n&quot;&#x27;=HYPERLINK(' in page_table(frame)


def test_an_answer_beyond_what_anybody_trains_on_is_told_so_in_a_table_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    frame = pl.DataFrame({"n_params": [7e9], "tokens": [2e15], "upper": [2.5e20], "lower": [9e14]})
    echo_frame(frame, "table", counts=("upper", "lower"))
    printed = capsys.readouterr().out
    assert "2,000T" in printed  # which was asked for
    assert ">1,000T" in printed and "900T" in printed and "e+20" not in printed
    echo_frame(frame, "csv", counts=("upper", "lower"))
    assert "2.5e+20" in capsys.readouterr().out
