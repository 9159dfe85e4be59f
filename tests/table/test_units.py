"""Losses in perplexity and bits per byte become nats per token."""

import math
from pathlib import Path

import polars as pl
import pytest

from qidbayes.errors import InputError
from qidbayes.table import read_table, table_hash, write_table
from qidbayes.table.columns import NAMES
from qidbayes.table.schema import validate

BASE = {"suite": "s", "model": "x-7b", "n_params": 6.5e9, "tokens": 1e12, "method": "gptq", "dataset": "wikitext2"}


def rows(**columns: object) -> pl.DataFrame:
    return pl.DataFrame(BASE | {"bits": 4.0} | columns, strict=False)


def test_perplexities_become_losses() -> None:
    table = validate(rows(bits=[4.0, 3.0], ppl_16bit=5.47, ppl=[5.61, 6.24]), "t")
    assert table["qid"].to_list() == pytest.approx([math.log(5.61 / 5.47), math.log(6.24 / 5.47)], rel=1e-12)
    assert table["loss_16bit"].to_list() == pytest.approx([math.log(5.47)] * 2, rel=1e-15)
    assert tuple(table.columns) == NAMES, "what was given in another unit is not kept twice"


def test_bits_per_byte_become_losses() -> None:
    given = rows(bits_per_byte_16bit=0.6, bits_per_byte=0.62, n_eval_tokens=1000, n_eval_bytes=4300)
    table = validate(given, "t")
    # A text of 4,300 bytes at 0.62 bits each is 2,666 bits, or 1,848 nats, of 1,000 tokens.
    assert table["loss"].item() == pytest.approx(0.62 * 4300 / 1000 * 0.6931471805599453, rel=1e-14)
    assert table["qid"].item() == pytest.approx(0.02 * 4.3 * 0.6931471805599453, rel=1e-12)


def test_one_table_may_hold_several_units() -> None:
    given = rows(
        bits=[4.0, 3.0, 2.0],
        loss_16bit=[1.7, None, None], loss=[1.8, None, None],
        ppl_16bit=[None, math.e**2, None], ppl=[None, math.e**2.5, None],
        bits_per_byte_16bit=[None, None, 1.0], bits_per_byte=[None, None, 2.0],
        n_eval_tokens=[None, None, 100], n_eval_bytes=[None, None, 400],
    )  # fmt: skip
    assert validate(given, "t")["qid"].to_list() == pytest.approx([0.1, 0.5, 4 * math.log(2)])


def test_a_perplexity_and_a_qid_give_the_third() -> None:
    table = validate(rows(ppl_16bit=[5.0], qid=[0.3]), "t")
    assert table["loss"].item() == pytest.approx(math.log(5.0) + 0.3)
    assert validate(rows(method="none", bits=16.0, ppl_16bit=5.0), "t")["loss_16bit"].item() == math.log(5.0)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"loss": 1.8, "ppl_16bit": 5.47, "ppl": 5.61}, r"column 'ppl': 5.61 .* loss is 1.8 nats per token already"),
        ({"ppl_16bit": 5.47, "ppl": 5.61, "qid": 0.14}, r"column 'qid': 0.14 .* loss - loss_16bit = 0.0252721"),
        ({"bits_per_byte_16bit": 0.6, "bits_per_byte": 0.7}, r"column 'n_eval_tokens': empty; .* ln 2 · n_eval_bytes"),
        ({"bits_per_byte_16bit": 0.6, "bits_per_byte": 0.7, "n_eval_tokens": 9}, r"column 'n_eval_bytes': empty"),
        ({"ppl": 5.61}, r"column 'qid': empty"),
        ({"perplexity": 5.61}, r"column 'perplexity' is unknown; a perplexity of tokens goes into 'ppl'"),
        ({"word_perplexity": 9.0}, r"'word_perplexity' is unknown; .* ln\(word perplexity\) · words / tokens"),
        ({"byte_perplexity_16bit": 1.5}, r"is unknown; give 'bits_per_byte' .* log2"),
        ({"bpb": 0.6}, r"is unknown; bits per byte go into 'bits_per_byte'"),
        ({"ppl16bit": 5.0}, r"is unknown; did you mean 'ppl_16bit'\?"),
        ({"wikitext2_ppl": 5.0}, r"is unknown; a perplexity of tokens goes into 'ppl'"),
        ({"nll_16bit": 1.7}, r"is unknown; losses in nats per token go into 'loss' \(and 'loss_16bit'\)"),
    ],
)  # fmt: skip
def test_what_is_said_twice_or_half_is_refused(columns: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        validate(rows(**columns), "t")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_file_is_written_in_nats(tmp_path: Path, suffix: str) -> None:
    given = rows(ppl_16bit=5.47, ppl=5.61)
    write_table(given, tmp_path / f"t{suffix}")
    again = read_table(tmp_path / f"t{suffix}")
    assert again["qid"].item() == pytest.approx(math.log(5.61 / 5.47)) and table_hash(again) == table_hash(given)
