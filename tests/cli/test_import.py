"""`qidbayes import`, `template` and `params`: from other programs' files to a table, without torch."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from command import run as in_process

import qidbayes as qb
from qidbayes.resources import shipped

RUNS = Path(__file__).parents[1] / "data" / "runs"
TINY = shipped("measurements") / "tiny"


def run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return in_process(*map(str, arguments), cwd=cwd)


def process(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own, and see that it imports nothing that it has no need of."""
    called = [sys.executable, "-X", "importtime", "-m", "qidbayes", *map(str, arguments)]
    done = subprocess.run(called, cwd=cwd, capture_output=True, text=True)
    lines = done.stderr.splitlines()
    imported = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in lines if line.startswith("import time:")}
    assert not imported & {"jax", "pymc", "torch", "pandas", "pyarrow"}
    done.stderr = "\n".join(line for line in lines if not line.startswith("import time:"))
    return done


def test_lm_eval_to_a_table(tmp_path: Path) -> None:
    options = ["--set", "n_params=595072", "--set", "tokens=1073741824", "--tokenizer", TINY / "tokenizer"]
    done = process("import", RUNS / "lm-eval", *options, "-o", "mine.parquet", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert "mine.parquet: 3 rows, 2 of them quantized" in done.stderr
    assert "taken as 16-bit runs, since nothing says otherwise" in done.stderr
    table = qb.read_table(tmp_path / "mine.parquet")
    assert table["suite"].to_list() == ["mine"] * 3 and table["qid_se"].null_count() == 1


def test_what_is_left_out_is_a_finding(tmp_path: Path) -> None:
    options = ["--set", "n_params=106M", "-o", "mine.csv"]
    done = process("import", RUNS / "llama.cpp", *options, cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.count("left out: ") == 2
    assert "training tokens are not known of SmolLM2-135M-Instruct: laws with D need them" in done.stderr
    assert qb.read_table(tmp_path / "mine.csv")["mean_kld"].null_count() == 1
    # The same again is no loss; another table is.
    assert run("import", RUNS / "llama.cpp", *options, cwd=tmp_path).returncode == 1
    other = run("import", RUNS / "llama.cpp", "--set", "n_params=107M", "-o", "mine.csv", cwd=tmp_path)
    assert other.returncode == 2 and "holds something else" in other.stderr and "--force" in other.stderr
    assert qb.read_table(tmp_path / "mine.csv")["n_params"].unique().to_list() == [106_000_000]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "n_params"], "not a column and its value, such as n_params=6.5B"),
        (["--set", "bits=4", "--set", "bits=3"], "bits is given twice"),
        (["--set", "n_params=big"], "row 1, column 'n_params': 'big' is not accepted"),
        (["--set", "qid=1"], "column 'qid' is what runs measured"),
        (["--set", "D=2T"], "training tokens go into 'tokens'"),
        (["--labels", "absent.csv"], "absent.csv: no such file"),
        (["--tokenizer", "absent"], "absent: no such file; give a tokenizer.json"),
        ([], "n_params: nobody says how many"),
    ],
)
def test_a_mistake_is_told(tmp_path: Path, options: list[str], message: str) -> None:
    done = run("import", RUNS / "llama.cpp", *options, "-o", "mine.csv", cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "mine.csv").exists()


def test_a_template_is_a_table_to_fill_in(tmp_path: Path) -> None:
    done = process("template", cwd=tmp_path)
    (tmp_path / "mine.csv").write_text(done.stdout)
    table = qb.read_table(tmp_path / "mine.csv")
    assert table.select("model", "method", "bits").rows()[0] == ("example-7b", "none", 16.0)
    assert table["qid"].null_count() == 1
    again = run("template", "-o", "mine.csv", cwd=tmp_path)
    assert again.returncode == 2 and "may be filled in" in again.stderr


def test_labels_to_fill_in_name_each_file(tmp_path: Path) -> None:
    shutil.copytree(RUNS / "llama.cpp", tmp_path / "logs")
    for path in (tmp_path / "logs").glob("*.kl.log"):
        path.unlink()
    assert process("template", "logs", "-o", "labels.csv", cwd=tmp_path).returncode == 0
    labels = pl.read_csv(tmp_path / "labels.csv")
    assert labels["settings"].to_list() == [None, "Q3_K_M", "Q4_0"]
    filled = labels.with_columns(n_params=pl.lit("106M"), tokens=pl.lit("2T"), settings=pl.lit("from Q4_1"))
    filled.write_csv(tmp_path / "labels.csv")
    done = run("import", "logs", "--labels", "labels.csv", "-o", "mine.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    table = qb.read_table(tmp_path / "mine.csv")
    assert table["tokens"].unique().to_list() == [2 * 10**12]
    assert table["settings"].to_list() == ["from Q4_1"] * 3


def test_params_prints_every_digit(tmp_path: Path) -> None:
    config = TINY / "checkpoints" / "128x3" / "step1024"
    assert "n_params    595072   non-embedding: N\n" in run("params", config, cwd=tmp_path).stdout
    (row,) = json.loads(run("params", config / "config.json", "--format", "json", cwd=tmp_path).stdout)
    assert (row["n_params"], row["active"], row["embeddings"]) == (595_072, 595_072, 65_536)
    done = run("params", "absent", cwd=tmp_path)
    assert done.returncode == 2 and "absent: no such file" in done.stderr
