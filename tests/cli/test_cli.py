"""The command line: what goes where, and with which exit status."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from command import run
from plain import plain_file

import qidbayes as qb

HEAVY = {
    "arviz",
    "arviz_stats",
    "jax",
    "matplotlib",
    "netCDF4",
    "numpy",
    "numpyro",
    "pandas",
    "polars",
    "pymc",
    "pytensor",
}
HEAVY |= {"scipy", "xarray"}


def imported(importtime: str) -> set[str]:
    """Return the packages in the report of ``python -X importtime``."""
    return {line.rsplit("|", 1)[1].strip().split(".")[0] for line in importtime.splitlines() if "|" in line}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fits")
    law = plain_file("unified", folder).name
    done = run("fit", "pythia", "--law", law, "--seed", "3", "-o", "unified.nc", cwd=folder)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "saved in unified.nc" in done.stderr
    return folder / "unified.nc"


def test_help_imports_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "qidbayes", "--help"], capture_output=True, text=True
    )
    assert "Commands:" in done.stdout
    assert "click" in imported(done.stderr) and not imported(done.stderr) & HEAVY


def test_a_question_to_a_saved_fit_imports_no_sampler(saved: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "qidbayes", "tokens", str(saved)], capture_output=True, text=True
    )
    imported = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert "polars" in imported and "numpy" in imported
    assert not imported & {
        "arviz",
        "arviz_stats",
        "jax",
        "matplotlib",
        "numpyro",
        "pandas",
        "pymc",
        "pytensor",
        "scipy",
    }


def test_every_command_has_help() -> None:
    listed = run("--help").stdout.split("Commands:")[1].split()
    commands = (
        "advise",
        "backtest",
        "compare",
        "demo",
        "fit",
        "laws",
        "next-measurements",
        "plot",
        "project",
        "report",
        "summary",
    )
    for command in (*commands, "tables", "tokens", "training-level"):
        assert command in listed
        done = run(command, "--help")
        assert done.returncode == 0 and "Usage:" in done.stdout, command


def test_the_old_name_of_a_command_says_the_new_one() -> None:
    done = run("design", "--help")
    assert done.returncode == 0 and "Pick the cells of each PLAN" in done.stdout
    assert done.stderr == "qidbayes: design is now next-measurements\n"
    assert "design" not in run("--help").stdout.split("Commands:")[1].split()


def test_answers_are_the_same_as_from_python(saved: Path) -> None:
    done = run("tokens", str(saved), "--params", "7B,70B", "--bits", "3,4", "--qid", "0.2", "--format", "json")
    expected = qb.load_fit(saved).tokens_to_threshold([0.2], n_params=[7e9, 70e9], bits=[3.0, 4.0])
    found = pl.DataFrame(json.loads(done.stdout))
    assert found.columns == ["qid", "n_params", "bits", "tokens", "lower", "upper", "never"]
    assert set(found.columns) == set(expected.columns)
    assert found["upper"].to_list() == pytest.approx(expected["upper"].to_list())


def test_project_marks_what_is_worse_than_random(saved: Path) -> None:
    done = run("project", str(saved), "--params", "7B", "--bits", "2,4", "--format", "csv")
    worse = [float(row["worse_than_random"]) for row in csv.DictReader(io.StringIO(done.stdout))]
    assert worse[0] > 0.9 and worse[1] < 0.1


def test_a_backtest_is_kept_in_the_fit_and_told_by_project(saved: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.nc"
    kept.write_bytes(saved.read_bytes())
    done = run("backtest", "pythia", "--fit", str(kept), "--split", "tokens > 100B", "--jobs", "1", "-o",
               str(tmp_path / "found"), "--format", "csv")  # fmt: skip
    assert done.returncode == 0, done.stderr
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    assert row["points"] == "108"
    assert {path.name for path in (tmp_path / "found").iterdir()} == {"scores.csv", "points.csv", "backtest.png"}
    asked = ("--params", "7B", "--bits", "4", "--tokens", "100B,350B,100T", "--format", "csv")
    inside, near, far = csv.DictReader(io.StringIO(run("project", str(kept), *asked).stdout))
    assert (inside["tokens_beyond"], inside["bits_beyond"], inside["held"], inside["held_of"]) == (
        "1.0",
        "1.0",
        "",
        "0",
    )
    assert float(near["tokens_beyond"]) == pytest.approx(350e9 / 205520896000)
    # Half of the 108 are up to twice as late as the last fitted, the others up to four times.
    points = pl.read_csv(tmp_path / "found" / "points.csv").filter(pl.col("tokens_beyond") <= 2)
    held = points["pit"].round(4).is_between(0.05, 0.95).mean()
    assert (int(near["held_of"]), float(near["held"])) == (points.height, pytest.approx(held))
    checkpoints = points.unique(["model", "revision"])
    assert (int(near["held_checkpoints"]), int(near["held_runs"])) == (checkpoints.height, points["model"].n_unique())
    table = run("project", str(kept), *asked[:-2]).stdout
    assert f"{held:.2f} ± {float(near['held_se']):.2f} of {points.height} points of {checkpoints.height} ch" in table
    assert (far["held"], far["held_of"]) == ("", "0")
    other = run("backtest", "spectra", "--fit", str(kept), cwd=tmp_path)
    assert other.returncode == 2 and "was not fitted to the whole of spectra" in other.stderr


def test_published_constants_answer_without_a_fit() -> None:
    done = run("tokens", "--published", "per-bit", "--params", "1B", "--qid", "0.2", "--bits", "4", "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    assert float(row["tokens"]) == pytest.approx(1442.4e9, rel=2e-3)  # the paper's Table 1


def test_summary_says_not_identified_in_the_place_of_a_number(tmp_path: Path) -> None:
    law = plain_file("unified", tmp_path).name
    done = run("fit", "pythia", "--law", law, "--bits", "4", "--seed", "1", "-o", "four.nc", cwd=tmp_path)
    assert done.returncode == 0 and "gamma is not identified" in done.stderr
    shown = run("summary", "four.nc", cwd=tmp_path)
    (line,) = [line for line in shown.stdout.splitlines() if line.startswith(" gamma")]
    assert "not identified" in line and "5." not in line


def test_a_fit_whose_diagnostics_fail_is_saved_and_exits_1(tmp_path: Path) -> None:
    done = run("fit", "pythia", "--draws", "20", "--tune", "100", "--chains", "2", "--seed", "0", cwd=tmp_path)
    assert done.returncode == 1 and "FAILED: ess_bulk" in done.stderr
    assert "FAILED" in run("summary", "unified.nc", cwd=tmp_path).stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["fit", "nothing"], "unknown table 'nothing'"),
        (["fit", "pythia", "--law", "unifed"], "did you mean 'unified'"),
        (["fit", "pythia", "--bits", "5"], "there are 2.0, 3.0, 4.0"),
        (["fit", "pythia", "-o", "fit.pkl"], "end its name in .nc"),
        (["fit", "pythia", "--chains", "0"], "chains must be a whole number of at least 1"),
        (["summary", "nothing.nc"], "there is no such file"),
        (["tokens", "unified.nc", "--published", "per-bit"], "give either a saved FIT or --published LAW"),
        (["tokens", "--published", "tokens"], "gives beta but not b"),
        (["tokens", "--published", "per-bit", "--bits", "5"], "knows bits 2, 3, 4; not 5"),
        (["project", "--published", "per-bit", "--params", "7X"], "write it like 7B"),
        (["laws", "--latex"], "needs the NAME"),
        (["laws", "bits", "--latex", "--format", "json"], "which --format json has no place for"),
        (["plot", "projections", "x.nc"], "is not one of"),
        (["backtest", "pythia", "--split", "token > 1B"], "there is no column 'token'; write a rule like"),
        (["backtest", "pythia", "--baseline", "guess"], "choose from independent, least-squares"),
        (["compare", "pythia", "--law", "unified"], "give at least two laws"),
        (["tabels"], "No such command"),
    ],
)
def test_a_mistake_exits_2_with_what_would_be_accepted(arguments: list[str], says: str, tmp_path: Path) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    assert says in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == "" and not list(tmp_path.iterdir())


def test_a_closed_pipe_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", "qidbayes", "tables"], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert "Traceback" not in done.stderr


def test_the_checkout_has_a_cli_of_its_own() -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "cli.py", "laws", "bits", "--latex"], cwd=root, capture_output=True, text=True
    )
    assert done.stdout.strip() == r"\Delta_q\mathrm{Loss} = \frac{c}{P^{\gamma}}"
