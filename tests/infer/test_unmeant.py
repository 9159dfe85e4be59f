"""Tables nobody meant: refused with what to do, or fitted with a warning. The cases are the rows of docs/faults.md."""

import re
import warnings
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from plain import plain

import qidbayes as qb
from qidbayes.errors import DataWarning
from qidbayes.infer.inputs import inputs
from qidbayes.law.plausibility import doubts
from qidbayes.table.schema import validate

type Change = Callable[[pl.DataFrame], pl.DataFrame]
DOCUMENT = Path(__file__).parents[2] / "docs" / "faults.md"


def _qid(frame: pl.DataFrame, qid: pl.Expr) -> pl.DataFrame:
    """Another QiD, without losses that would disagree with it."""
    return frame.with_columns(qid.alias("qid"), loss=pl.lit(None, pl.Float64), loss_16bit=pl.lit(None, pl.Float64))


FIRST = pl.int_range(pl.len()) == 17  # one row
N, D, QID = pl.col("n_params"), pl.col("tokens"), pl.col("qid")
REFUSED: dict[str, tuple[Change, str]] = {
    "duplicate cells": (lambda t: pl.concat([t, t.head(1)]), r"row 361.*the same cell as row 1 .*keep one"),
    "NaN or infinite QiD": (lambda t: _qid(t, pl.when(FIRST).then(float("nan")).otherwise(QID)), r"row 18.*'qid'"),
    "0 rows": (lambda t: t.clear(), "give at least one measurement"),
    "1 row": (lambda t: t.head(1), "give more rows, or a fit of others as prior_from"),
    "D in billions": (lambda t: t.with_columns(tokens=D / 10**9), "column 'tokens'.*as a plain count"),
    "N in billions": (lambda t: t.with_columns(n_params=N / 10**9), "column 'n_params'.*as a plain count"),
    "constant QiD": (lambda t: _qid(t, pl.lit(0.1)), "all 360 rows have the same QiD, 0.1.*there is nothing to fit"),
}
WARNED: dict[str, tuple[Change, str]] = {
    "N in millions": (lambda t: t.filter(N > 10**9).with_columns(n_params=N // 10**6),
                      "if n_params is in millions, write plain counts"),
    "D in millions": (lambda t: t.with_columns(tokens=D // 10**6 + 10**5), "if tokens are in millions, write plain"),
    "mixed units": (lambda t: t.with_columns(n_params=pl.when(N > 10**9).then(N * 1000).otherwise(N // 1000)),
                    "n_params jumps from .* if the first is in other units"),
    "N with embeddings": (lambda t: t.with_columns(n_params=pl.when(N == 85_056_000).then(162_322_944).otherwise(N)),
                          r"pythia-160m-deduped is said to have 162,322,944 .* without its embeddings .* 85,056,000"),
    "losses of different tokenizers": (lambda t: pl.concat([t, t.with_columns(suite=pl.lit("mine"))]),
                                       r"rows of 2 suites \(mine, pythia\): a loss per token is of its own tokenizer"),
    "several 16-bit losses of one checkpoint": (
        lambda t: t.with_columns(loss_16bit=pl.when(FIRST).then(2.0).otherwise(3.0), loss=pl.lit(None)).with_columns(
            loss=pl.col("loss_16bit") + QID), "1 checkpoints have several 16-bit losses .* bits per token"),
    "perplexities": (lambda t: t.with_columns(loss_16bit=pl.lit(20.0), loss=20.0 + QID),
                     "call the columns ppl_16bit and ppl"),
    "bits per byte": (lambda t: t.with_columns(loss_16bit=pl.lit(0.8), loss=0.8 + QID),
                      "call the columns bits_per_byte"),
    "differences of perplexities": (lambda t: _qid(t, QID * 20), "If it is a difference of perplexities"),
    "10× outlier": (lambda t: _qid(t, pl.when(FIRST).then(QID * 10).otherwise(QID)),
                    "1 of 360 rows is far off a power law of the others, by .* times above"),
}  # fmt: skip
UNIDENTIFIED: dict[str, tuple[Change, str]] = {
    "constant tokens": (lambda t: t.with_columns(tokens=pl.lit(10**11)), "beta"),
    "one size": (lambda t: t.with_columns(n_params=pl.lit(10**9)), "alpha"),
    "one bit width": (lambda t: t.with_columns(bits=pl.lit(3.0), dataset=pl.col("bits").cast(pl.String)), "gamma"),
}  # fmt: skip


def test_the_document_lists_these_cases() -> None:
    section = DOCUMENT.read_text(encoding="utf-8").split("## Tables nobody meant")[1].split("\n## ")[0]
    listed = re.findall(r"^\| (?!what the table has|---)(.+?) \| (refused|fitted)", section, re.M)
    assert dict(listed) == dict.fromkeys(REFUSED, "refused") | dict.fromkeys(WARNED | UNIDENTIFIED, "fitted")


def test_an_outlier_is_one_within_its_suite(pythia: pl.DataFrame) -> None:
    """A suite far above another is none; a row far off its own suite is, though between the two."""
    mine = _qid(pythia.with_columns(suite=pl.lit("mine"), model="my " + pl.col("model")), QID * 100)
    both = validate(pl.concat([_qid(pythia, QID), mine]), "table")
    assert not [doubt for doubt in doubts(both) if "far off" in doubt]
    strayed = pl.int_range(pl.len()) == pythia.height  # the first row of `mine`
    told = [doubt for doubt in doubts(_qid(both, pl.when(strayed).then(QID / 20).otherwise(QID))) if "far off" in doubt]
    assert len(told) == 1 and told[0].startswith("1 of 720 rows is far off")
    assert "times below it at most (model 'my EleutherAI" in told[0] or "suite 'mine'" in told[0]


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_what_to_do(name: str, pythia: pl.DataFrame) -> None:
    change, message = REFUSED[name]
    with pytest.raises(qb.InputError, match=message):
        qb.fit(validate(change(pythia), "table"), plain("unified"), random_seed=0)


@pytest.mark.parametrize("name", WARNED)
def test_doubted_with_what_to_do(name: str, pythia: pl.DataFrame) -> None:
    change, message = WARNED[name]
    found = doubts(inputs(validate(change(pythia), "table"), plain("unified")).frame)
    assert any(re.search(message, doubt) for doubt in found), found  # other units are no size of a known model either
    assert doubts(pythia) == []


def test_shipped_tables_are_hardly_doubted() -> None:
    """Outliers apart: some measured QiDs are 30 times and more under a power law, where they are nearly 0."""
    for name in ("pythia", "pythia/awq-bnb", "spectra", "llama-qwen", "tiny"):
        for suite in qb.load_table(name).partition_by("suite"):  # several have several tokenizers
            assert doubts(suite) == [], name


def test_a_doubt_is_a_warning_and_stays_with_the_fit(pythia: pl.DataFrame, tmp_path: Path) -> None:
    change, message = WARNED["10× outlier"]
    with pytest.warns(DataWarning, match=message) as told:
        fit = qb.fit(change(pythia), plain("unified"), random_seed=0)
    assert told[0].filename == __file__
    fit.save(tmp_path / "fit.nc")
    (remark,) = qb.load_fit(tmp_path / "fit.nc").diagnostics.remarks()
    assert re.search(message, remark)


@pytest.mark.parametrize("name", UNIDENTIFIED)
def test_what_a_constant_column_leaves_open_is_named(name: str, pythia: pl.DataFrame) -> None:
    change, parameter = UNIDENTIFIED[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # one size, under names of many models
        fit = qb.fit(change(pythia), plain("unified"), random_seed=0)
    assert any(re.match(rf"{parameter} is not identified", remark) for remark in fit.diagnostics.remarks())


def test_repeated_cells_are_refused_before_sampling(pythia: pl.DataFrame) -> None:
    begun: list[int] = []
    with pytest.raises(qb.InputError, match="the same cell"):
        qb.fit(pl.concat([pythia, pythia]), "unified", progress=lambda done, total: begun.append(done))
    assert begun == []
