"""Names on the command line: completed, and where they are misspelt, told what they are near to."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

import qidbayes as qb
from qidbayes.cli import cli
from qidbayes.law import law_names
from qidbayes.resources import shipped
from qidbayes.table import list_tables


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["ftt"], "No such command 'ftt'; did you mean 'fit'?"),
        (["Summary"], "did you mean 'summary'?"),
        (["zzz"], "No such command 'zzz'; `qidbayes --help` lists them."),
        (["plot", "projecton", "x.nc"], "Did you mean 'projection'?"),
        (["--hlp"], "No such option"),
        (["laws", "--toml"], "--toml needs the NAME of a law"),
        (["laws", "size", "--toml", "--latex"], "give either --latex or --toml"),
        (["laws", "size", "--toml", "--format", "csv"], "--toml prints a file, which --format csv has no place for"),
        (["tokens", "x.nc", "--bits", "4-2"], "such as 2,3,4 or 2-4"),
        (["tokens", "x.nc", "--bits", "1-1000000000"], "such as 2,3,4 or 2-4"),
        (["tokens", "x.nc", "--bits", "0-2"], "such as 2,3,4 or 2-4"),
    ],
)
def test_a_slip_is_told_what_was_meant(arguments: list[str], says: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2 and says in done.stderr, done.stderr


def test_a_prior_says_what_it_is_near_to() -> None:
    with pytest.raises(qb.InputError, match=r"prior 'Lognormal' is not known .did you mean 'LogNormal'"):
        qb.Prior("Lognormal", mu=0, sigma=1)


def test_widths_may_be_from_and_to() -> None:
    listed, ranged = (
        run("tokens", "--published", "per-bit", "--bits", bits, "--format", "csv").stdout for bits in ("2,3,4", "2-4")
    )
    assert listed == ranged and listed.count("\n") == 1 + 4 * 4 * 3
    mixed = run(
        "tokens", "--published", "unified", "--bits", "2-3,1.58", "--qid", "0.2", "--params", "1B", "--format", "csv"
    )
    assert [line.split(",")[2] for line in mixed.stdout.splitlines()[1:]] == ["2.0", "3.0", "1.58"]


@pytest.mark.parametrize("name", law_names())
def test_a_laws_file_is_printed_as_it_stands(name: str, tmp_path: Path) -> None:
    printed = run("laws", name, "--toml").stdout
    assert printed == (shipped("models") / f"{name}.toml").read_text().rstrip("\n") + "\n"
    (tmp_path / f"{name}.toml").write_text(printed)
    assert qb.load_law(tmp_path / f"{name}.toml") == qb.load_law(name)


def completed(words: list[str], begun: str) -> list[str]:
    return [item.value for item in ShellComplete(cli, {}, "qidbayes", "_").get_completions(words, begun)]


def test_completion_knows_laws_tables_and_saved_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mine.nc", "mine.csv", "mine.toml", "notes.txt"):
        Path(name).touch()
    Path("more").mkdir()
    Path("more/other.nc").touch()
    assert completed(["laws"], "") == [*law_names(), "mine.toml", "more/"]
    assert completed(["fit", "pythia", "--law"], "un") == ["unified"]
    assert completed(["tables"], "")[:-2] == list_tables()["name"].to_list()
    assert completed(["fit"], "pythia/") == [n for n in list_tables()["name"] if n.startswith("pythia/")]
    for command in ("summary", "tokens", "project", "advise", "training-level", "report", "next-measurements"):
        assert completed([command], "m") == ["mine.nc", "more/"], command
    assert completed(["summary"], "more/") == ["more/other.nc"]
    assert completed(["summary"], f"{tmp_path}/mi") == [f"{tmp_path}/mine.nc"]
    assert completed(["plot"], "loss-") == ["loss-quantized", "loss-16bit"]
    assert completed(["plot", "projection"], "mi") == ["mine.nc"]
    assert completed(["backtest", "pythia", "--fit"], "mi") == ["mine.nc"]


def test_a_shell_is_answered_without_what_is_heavy() -> None:
    words = {"_QIDBAYES_COMPLETE": "bash_complete", "COMP_WORDS": "qidbayes laws un", "COMP_CWORD": "2"}
    command = "import sys; from qidbayes.cli import cli; sys.argv[0] = 'qidbayes'\ntry: cli(prog_name='qidbayes')\n"
    command += "finally: print(sorted({'polars', 'numpy', 'jax'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", command], env=os.environ | words, capture_output=True, text=True)
    assert done.stdout == "plain,unified\n[]\n", done.stderr


def test_doctor_tells_versions_device_cache_and_extras() -> None:
    done = run("doctor", "--format", "csv")
    told = dict(line.split(",", 1) for line in done.stdout.splitlines()[1:])
    assert done.exit_code == 0
    assert told["qidbayes"] == qb.__version__ and re.match(r"3\.\d+\.\d+ on ", told["Python"])
    assert told["polars"].count(".") >= 1 and told["device of fits"].startswith(("cpu", "cuda", "gpu"))
    assert {"cache", "extra measure", "extra ray", "jax", "pymc"} <= set(told) and "torch" not in told


def test_doctor_tells_what_an_extra_would_add(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata as metadata

    from qidbayes.cli import doctor

    def version(name: str) -> str:
        if name in ("torch", "scipy"):
            raise metadata.PackageNotFoundError(name)
        return metadata.version(name)

    monkeypatch.setattr(doctor, "version", version)
    done = run("doctor")
    assert done.exit_code == 1 and re.search(r"scipy +missing", done.stdout)
    assert re.search(r"extra measure +pip install 'qidbayes\[measure\]' would add .*torch", done.stdout)
