"""Losses that are not in nats per token are doubted by what a model of that N and D could lose."""

import csv
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from qidbayes.cli import cli
from qidbayes.law.plausibility import doubts
from qidbayes.law.plausible_losses import losses
from qidbayes.table import list_tables, load_table
from qidbayes.table.schema import validate

PUBLISHED = Path(__file__).parents[1] / "data" / "published_perplexities.csv"
# 4.3 bytes and 0.74 words a token: ordinary English text.
UNITS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "perplexity": (np.exp, "If it is a perplexity, call the columns ppl_16bit and ppl"),
    "word perplexity": (
        lambda nats: np.exp(nats / 0.74),
        r"of a word perplexity give ln\(perplexity\) · words / tokens",
    ),
    "base 2": (lambda nats: nats / math.log(2), r"multiply bits per token \(a loss in base 2\) by ln 2"),
    "bits per byte": (
        lambda nats: nats / math.log(2) / 4.3,
        "If it is in bits per byte, call the columns bits_per_byte",
    ),
    "nats per byte": (lambda nats: nats / 4.3, "multiply nats per byte by bytes / tokens"),
    "byte perplexity": (lambda nats: np.exp(nats / 4.3), "of a byte perplexity give log2 as bits per byte"),
}


def published(family: str) -> pl.DataFrame:
    """Perplexities on WikiText-2 as published, in the schema's columns with `before` and `after` beside them."""
    with PUBLISHED.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["family"] == family]
    return pl.DataFrame(
        {
            "suite": family,
            "model": [row["model"] for row in rows],
            "revision": [str(i) for i in range(len(rows))],
            "n_params": [float(row["n_params"]) for row in rows],
            "tokens": [float(row["tokens"]) for row in rows],
            "method": "gptq",
            "bits": [float(row["bits"]) for row in rows],
            "dataset": "wikitext2",
            "before": [float(row["ppl_16bit"]) for row in rows],
            "after": [float(row["ppl"]) for row in rows],
        }
    )


def told(frame: pl.DataFrame, **columns: pl.Expr) -> list[str]:
    return list(losses(validate(frame.with_columns(**columns).drop("before", "after"), "t")))


BEFORE, AFTER = pl.col("before"), pl.col("after")
FAMILIES = ("LLaMA-1", "OPT", "BLOOM", "Qwen3", "GLM-4.5", "DeepSeek-R1", "DeepSeek-V3")


@pytest.mark.parametrize("family", FAMILIES)
def test_published_perplexities_in_the_loss_columns_are_doubted(family: str) -> None:
    rows = published(family)
    (doubt,) = told(rows, loss_16bit=BEFORE, loss=AFTER)
    assert doubt.startswith(f"loss_16bit of {rows.height} of {rows.height} rows is more than"), "every row is"
    assert told(rows, ppl_16bit=BEFORE, ppl=AFTER) == [], "and in their own columns they are not"


@pytest.mark.parametrize("family", ["LLaMA-1", "OPT", "BLOOM", "Qwen3"])
def test_differences_of_perplexities_are_doubted_as_qid(family: str) -> None:
    rows = published(family)
    (doubt,) = told(rows, qid=AFTER - BEFORE)
    assert "If it is a difference of perplexities, give the columns ppl_16bit and ppl" in doubt
    assert told(rows, qid=(AFTER / BEFORE).log()) == []


PTB = r"loss_16bit of 3 of \d+ rows is more than .* \(the furthest: Llama-2-13B, 3\.365, where about 2 nats"
"""What is doubted of a shipped table: a README's perplexities of Llama 2 13B on PTB, of which its card tells."""


@pytest.mark.parametrize("name", list_tables()["name"])
def test_no_shipped_table_is_doubted_but_one_model_on_one_text(name: str) -> None:
    told = list(losses(load_table(name)))
    assert [bool(re.match(PTB, doubt)) for doubt in told] == [True] * (name == "ptq-papers")


@pytest.mark.parametrize("unit", UNITS)
def test_every_unit_is_named(unit: str) -> None:
    """Of models on web text, 2.1 to 2.6 nats per token.

    In base 2 these are losses that others have in nats: told apart where a tokenizer's tokens are longer, as Pythia's
    losses are given in Llama 3's.
    """
    convert, words = UNITS[unit]
    sizes = np.array([1.6e8, 4e8, 1e9, 2.8e9, 6.5e9, 12e9])
    nats = (1.9 + 482 / sizes**0.3478) * (1.25 if unit == "base 2" else 1.0)
    rows = pl.DataFrame(
        {"suite": "s", "model": [f"m{n:g}" for n in sizes], "n_params": sizes, "tokens": 3e11, "method": "gptq"}
    ).with_columns(bits=4.0, loss_16bit=pl.Series(nats), loss=pl.Series(nats + 0.03))
    assert list(losses(validate(rows, "t"))) == []
    wrong = rows.with_columns(pl.Series(name, convert(rows[name].to_numpy())) for name in ("loss_16bit", "loss"))
    (doubt,) = losses(validate(wrong, "t"))
    assert re.search(words, doubt), doubt


def test_a_quantized_loss_far_above_guessing_is_doubted() -> None:
    """Small models' perplexities may be losses that a model of that size could have; 2 bits' may not."""
    rows = pl.DataFrame(
        {"suite": "s", "model": "m", "n_params": 1e6, "tokens": 1e9, "method": "rtn", "bits": [4.0, 2.0]}
    )
    told = list(losses(validate(rows.with_columns(loss_16bit=8.0, loss=pl.Series([9.0, 400.0])), "t")))
    assert len(told) == 1 and told[0].startswith("loss goes up to 400 nats per token")


def test_code_beside_text_is_not_doubted() -> None:
    sizes = [1e9] * 6
    rows = pl.DataFrame({"suite": "s", "model": [f"m{i}" for i in range(6)], "n_params": sizes, "tokens": 3e11,
                         "method": "none", "bits": 16.0, "dataset": ["web"] * 6,
                         "loss_16bit": [2.3, 2.4, 2.5, 2.2, 2.3, 1.1]})  # fmt: skip
    assert list(losses(validate(rows, "t"))) == []


ON_CODE = (
    "code", "codeparrot", "codeparrot/github-code", "CodeSearchNet", "code_search_net", "codesearch", "starcoder",
    "bigcode/starcoderdata", "github", "RedPajama-GitHub", "the-stack-v2", "bigcode/the_stack_dedup", "nano/code",
    "python_code_2", "HumanEval",
)  # fmt: skip
NOT_ON_CODE = ("web", "decoded-books", "barcode", "encoder", "codex-leningradensis", "stackexchange", "githubris")


@pytest.mark.parametrize("name", [*ON_CODE, *NOT_ON_CODE])
def test_data_sets_of_code_are_not_doubted(name: str) -> None:
    rows = pl.DataFrame({"suite": "s", "model": [f"m{i}" for i in range(3)], "n_params": 7e9, "tokens": 2e12,
                         "method": "none", "bits": 16.0, "loss_16bit": [0.9, 0.95, 1.0]})  # fmt: skip
    found = list(losses(validate(rows.with_columns(dataset=pl.lit(name)), "t")))
    assert len(found) == (name in NOT_ON_CODE)


def test_losses_at_other_contexts_are_no_contradiction() -> None:
    rows = pl.DataFrame({"suite": "s", "model": "m", "n_params": 7e9, "tokens": 2e12, "method": ["gptq", "gguf"],
                         "bits": 4.0, "loss_16bit": [1.70, 1.76], "qid": 0.05})  # fmt: skip
    assert any("several 16-bit losses" in doubt for doubt in doubts(validate(rows, "t")))
    assert doubts(validate(rows.with_columns(seq_len=pl.Series([2048, 512])), "t")) == []
    assert doubts(validate(rows.with_columns(seq_len=pl.Series([2048, None])), "t")) == []  # of any context


def test_tables_tells_doubts_on_stderr(tmp_path: Path) -> None:
    rows = published("LLaMA-1")
    rows.with_columns(loss_16bit=BEFORE, loss=AFTER).drop("before", "after").write_csv(tmp_path / "wrong.csv")
    rows.rename({"before": "ppl_16bit", "after": "ppl"}).write_csv(tmp_path / "right.csv")
    wrong, right = (CliRunner().invoke(cli, ["tables", str(tmp_path / name)]) for name in ("wrong.csv", "right.csv"))
    assert wrong.exit_code == right.exit_code == 0
    assert "warning: loss_16bit of 24 of 24 rows is more than" in wrong.stderr
    assert "perplexit" not in right.stderr


def test_a_doubt_stands_among_the_others() -> None:
    rows = published("LLaMA-1").with_columns(loss_16bit=BEFORE, loss=AFTER).drop("before", "after")
    assert any("If it is a perplexity" in doubt for doubt in doubts(validate(rows, "t")))


def test_suites_that_a_law_tells_apart_are_not_doubted() -> None:
    """Of the atlas, whose families have tokenizers and scatter of their own."""
    table = load_table("atlas")
    assert any("tokenizer" in doubt for doubt in doubts(table))
    assert list(doubts(table, of_families=True)) == []
