"""`qidbayes fit` loses no fit of another table, and refuses before it samples."""

import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from faults.artifacts import fit as made_fit

import qidbayes as qb
from qidbayes.cli import cli
from qidbayes.cli.fit import _keep_others
from qidbayes.resources import shipped
from qidbayes.table import table_hash

pytestmark = pytest.mark.filterwarnings("ignore::qidbayes.errors.DiagnosticsWarning")
LAW = 'discrepancy = "none"'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a law without a discrepancy, two tables, and a fit of the first under the law's name."""
    monkeypatch.chdir(tmp_path)
    text = (shipped("models") / "unified.toml").read_text()
    Path("unified.toml").write_text(text.replace("[noise]\n", f"[noise]\n{LAW}\n"))
    table = qb.load_table("pythia").filter(tokens=41943040000).head(12)
    qb.write_table(table, "first.csv")
    qb.write_table(table.with_columns(qid=table["qid"] * 1.5, loss=None), "second.csv")
    made = made_fit()
    attributes = {**made.attributes, "table_hash": table_hash(qb.read_table("first.csv"))}
    replace(made, attributes=attributes).save("unified.nc")
    return tmp_path


def fit(*arguments: str) -> Result:
    few = ["--draws", "20", "--tune", "100", "--chains", "1", "--seed", "0"]
    return CliRunner().invoke(cli, ["fit", *arguments, "--law", "unified.toml", *few])


def test_a_fit_of_another_table_stays(folder: Path) -> None:
    before = Path("unified.nc").read_bytes()
    shutil.copy("unified.nc", "other.nc")
    Path("link.nc").symlink_to("other.nc")
    started = time.monotonic()
    for arguments in (["second.csv"], ["first.csv", "--bits", "3"], ["second.csv", "-o", "link.nc"]):
        done = fit(*arguments)
        assert isinstance(done.exception, qb.InputError)
        assert "holds a fit of law 'unified' to another table (12 rows, of " in str(done.exception)
        assert "--force" in str(done.exception)
    assert time.monotonic() - started < 5  # nothing was compiled
    assert Path("unified.nc").read_bytes() == Path("other.nc").read_bytes() == before


def test_what_is_no_fit_stays(folder: Path) -> None:
    for content in (b"somebody's notes", Path("unified.nc").read_bytes()[:-7], b""):
        Path("unified.nc").write_bytes(content)
        with pytest.raises(qb.InputError, match=r"is not a saved fit.*--force"):
            raise fit("first.csv").exception or AssertionError
        assert Path("unified.nc").read_bytes() == content


def test_a_place_that_cannot_be_written_to_is_told_first(folder: Path) -> None:
    Path("kept.nc").write_bytes(Path("unified.nc").read_bytes())
    Path("kept.nc").chmod(0o444)
    started = time.monotonic()
    for path in ("kept.nc", "first.csv/below.nc"):
        with pytest.raises(qb.InputError, match="cannot be written"):
            raise fit("first.csv", "-o", path).exception or AssertionError
    assert time.monotonic() - started < 5


def test_the_same_table_and_force_overwrite(folder: Path) -> None:
    same = qb.read_table("first.csv")
    _keep_others(Path("unified.nc"), same.reverse())
    assert fit("second.csv", "--force").exit_code in (0, 1)
    found = qb.load_fit("unified.nc")
    assert found.stats["lp"].shape == (1, 20)
    assert found.attributes["table_hash"] == table_hash(qb.read_table("second.csv")) != table_hash(same)


def test_quick_leaves_the_discrepancy_out_and_says_so(folder: Path) -> None:
    few = ["--draws", "20", "--tune", "100", "--chains", "1", "--seed", "0"]
    done = CliRunner().invoke(cli, ["fit", "first.csv", "--law", "per-bit", "--quick", "-o", "quick.nc", *few])
    assert done.exit_code in (0, 1), done.output
    assert qb.load_fit("quick.nc").law.noise.discrepancy == "none"
    assert "quick: this fit takes the equation at its word" in " ".join(done.stderr.split())
