"""The list of mutants (checks/mutants) is in step with the code, and its runner tells what tests find."""

import csv
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parents[1] / "checks" / "mutants" / "run.py"
_SPEC = importlib.util.spec_from_file_location("mutants_runner", RUN)
assert _SPEC and _SPEC.loader
runner = sys.modules["mutants_runner"] = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(runner)

MUTANTS = runner.load(RUN.parent / "mutants.toml")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_its_text_is_there_once_and_so_are_its_tests(mutant: "runner.Mutant") -> None:
    mutant.check(RUN.parents[2])
    assert mutant.file.startswith("qidbayes/") and mutant.hurts and mutant.tests


def test_what_is_not_in_step_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\ny = 1\n")
    (tmp_path / "test_a.py").write_text("def test_x(): pass\n")
    good = {"file": "a.py", "hurts": "nobody", "tests": ("test_a.py::test_x",)}
    for change, message in (
        ({"find": "= 1", "put": "= 2"}, "has its text 2 times"),
        ({"find": "= 3", "put": "= 2"}, "has its text 0 times"),
        ({"find": "x = 1", "put": "x = 1"}, "changes nothing"),
        ({"find": "x = 1", "put": "x ="}, "would be no Python"),
        ({"find": "x = 1", "put": "x = 2", "tests": ("test_b.py",)}, r"no test test_b\.py"),
        ({"find": "x = 1", "put": "x = 2", "tests": ("test_a.py::test_y",)}, r"no test test_a\.py::test_y"),
    ):
        with pytest.raises(runner.ListError, match=message):
            runner.Mutant("one", **{**good, **change}).check(tmp_path)
    runner.Mutant("one", **{**good, "find": "x = 1", "put": "x = 2"}).check(tmp_path)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository of one function, which a test half covers."""
    (tmp_path / "checks" / "mutants").mkdir(parents=True)
    (tmp_path / "half.py").write_text("def half(x):\n    return x / 2\n\ndef other(x):\n    return x + 1\n")
    (tmp_path / "test_half.py").write_text("from half import half\n\ndef test_half():\n    assert half(4) == 2\n")
    common = 'file = "half.py"\nhurts = "all"\ntests = ["test_half.py"]\n'
    (tmp_path / "checks" / "mutants" / "mutants.toml").write_text(
        f"[found]\nfind = 'x / 2'\nput = 'x / 3'\n{common}[unseen]\nfind = 'x + 1'\nput = 'x + 2'\n{common}"
    )
    for command in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "all"],
    ):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return tmp_path


def test_killed_and_survived_are_told_apart_and_the_tree_is_left_alone(tree: Path) -> None:
    before = (tree / "half.py").read_bytes()
    done = _run(tree, "--output", str(tree / "found.csv"))
    assert done.returncode == 1, done.stderr
    assert "1 of 2 killed\n  unseen was not" in done.stdout
    with (tree / "found.csv").open() as file:
        rows = {row["mutant"]: row for row in csv.DictReader(file)}
    assert {name: row["result"] for name, row in rows.items()} == {"found": "killed", "unseen": "survived"}
    assert all(len(row["commit"]) >= 7 and row["date"] and row["processor"] for row in rows.values())
    assert (tree / "half.py").read_bytes() == before


def test_tests_that_fail_by_themselves_say_nothing(tree: Path) -> None:
    (tree / "half.py").write_text("def half(x):\n    return x / 2.5\n\ndef other(x):\n    return x + 1\n")
    (tree / "checks" / "mutants" / "mutants.toml").write_text(
        "[unseen]\nfile = 'half.py'\nhurts = 'all'\ntests = ['test_half.py']\nfind = 'x + 1'\nput = 'x + 2'\n"
    )
    done = _run(tree)
    assert done.returncode == 2
    assert "tests fail without any mutant" in done.stderr


def _run(tree: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(RUN), "--root", str(tree), "--jobs", "1", *options]
    quick = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, env=quick, capture_output=True, text=True, check=False)
