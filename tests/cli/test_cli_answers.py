"""The commands that answer and advise: what they print, with which exit status, and what they import."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from command import run as in_process

import qidbayes as qb


@pytest.fixture(scope="module")
def saved(unified: qb.Fit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fits") / "unified.nc"
    unified.thinned(400).save(path)
    return path


def run(command: str, saved: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return in_process(command, str(saved), *arguments, cwd=saved.parent)


def process(command: str, saved: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own, and see that it imports nothing that it has no need of."""
    called = [sys.executable, "-X", "importtime", "-m", "qidbayes", command, str(saved), *arguments]
    done = subprocess.run(called, cwd=saved.parent, capture_output=True, text=True)
    lines = done.stderr.splitlines()
    imported = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in lines if line.startswith("import time:")}
    assert not imported & {"jax", "numpyro", "pymc", "pytensor", "torch", "transformers", "arviz"}
    done.stderr = "\n".join(line for line in lines if not line.startswith("import time:"))
    return done


def test_training_level_is_pythons(saved: Path) -> None:
    done = process("training-level", saved, "--qid", "0.05,0.23", "--bits", "4,3", "--params", "7B", "--format", "json")
    (row,) = json.loads(done.stdout)
    expected = qb.load_fit(saved).training_level([0.05, 0.23], n_params=7e9, bits=[4, 3])
    assert row == expected.row(0, named=True)
    people = run("training-level", saved, "--qid", "0.05", "--bits", "4", "--params", "7B").stdout
    assert "7B" in people
    assert "e+" not in people


def test_training_level_at_an_end_of_its_prior_warns(saved: Path) -> None:
    done = run("training-level", saved, "--qid", "1e-7", "--bits", "4", "--params", "7B")
    assert done.returncode == 0
    assert "warning: the answer depends on an end of the prior" in done.stderr
    assert "PriorEdgeWarning" not in done.stderr


def test_advise_exits_with_a_finding_where_no_width_will_do(saved: Path) -> None:
    asked = ["--params", "8B", "--tokens", "1T", "--max-qid"]
    # At .2 nats the probability of 4 bits is .999: 4.5 standard errors of 400 draws from the .95 that is asked for.
    done = process("advise", saved, *asked, "0.2", "--format", "csv")
    assert done.returncode == 0
    advised = {row["bits"]: row["advised"] for row in csv.DictReader(io.StringIO(done.stdout))}
    assert advised == {"2.0": "false", "3.0": "false", "4.0": "true"}
    none = run("advise", saved, *asked, "0.0001")
    assert none.returncode == 1
    assert "no width keeps QiD" in none.stderr
    assert "advised" in none.stdout


def test_advise_in_some_memory(saved: Path) -> None:
    done = process("advise", saved, "--memory", "8GB,24GiB", "--tokens", "1T", "--format", "json")
    rows = json.loads(done.stdout)
    assert [row["memory"] for row in rows] == [8e9] * 4 + [24 * 2**30] * 4
    assert sum(row["prob_best"] for row in rows) == pytest.approx(2.0)
    assert "25.8GB" in run("advise", saved, "--memory", "24GiB", "--tokens", "1T").stdout


def test_next_measurements_picks_from_a_shipped_plan(saved: Path) -> None:
    asked = ["spectra", "--params", "70B", "--tokens", "15T", "--bits", "4", "--picks", "2", "--format", "json"]
    rows = json.loads(process("next-measurements", saved, *asked).stdout)
    assert [row["model"].startswith("SpectraSuite/") for row in rows] == [True, True]
    assert rows[1]["sd"] < rows[0]["sd"]


def test_report_writes_a_page(saved: Path) -> None:
    done = process("report", saved, "-o", "page.html")
    assert (done.stdout, done.returncode) == ("", 0)
    assert (saved.parent / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("advise", ["--tokens", "1T"], "give either --params or --memory"),
        ("advise", ["--tokens", "1T", "--params", "8B"], "goes with --max-qid"),
        ("advise", ["--tokens", "1T", "--memory", "8"], "not a size in bytes"),
        ("next-measurements", ["spectra", "--params", "7B"], "give either tokens"),
        ("next-measurements", ["nowhere.toml", "--params", "7B", "--tokens", "1T"], "nowhere.toml"),
        ("training-level", ["--qid", "0.1,0.2", "--bits", "2,3,4", "--params", "7B"], "2 values for 3 measurements"),
        ("report", ["-o", "page.pdf"], "ends in .html"),
    ],
)
def test_mistakes_are_told_in_one_message(saved: Path, command: str, arguments: list[str], message: str) -> None:
    done = run(command, saved, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
