"""Runs before and after quantization in rows of their own find each other."""

import math

import polars as pl
import pytest

from qidbayes.errors import InputError
from qidbayes.table import read_table

MODEL = {"suite": "s", "model": "x-7b", "n_params": 6.5e9, "tokens": 1e12}


def rows(*runs: tuple[str, float, str, int | None, float]) -> pl.DataFrame:
    names = ("method", "bits", "dataset", "seq_len", "ppl")
    return pl.DataFrame([MODEL | dict(zip(names, run, strict=True)) for run in runs], infer_schema_length=None)


def test_a_run_is_held_against_its_own_text_and_context() -> None:
    given = (
        rows(
            ("fp16", 16, "wikitext2", 2048, 5.0), ("bf16", 16, "c4", 2048, 7.0), ("none", 16, "wikitext2", 4096, 4.5),
            ("gptq", 4, "c4", 2048, 7.5), ("gptq", 4, "wikitext2", 2048, 5.5), ("awq", 4, "wikitext2", 4096, 4.7),
        )
    )  # fmt: skip
    table = read_table(given.with_columns(settings=pl.Series(["", "", "4k", "", "", "4k"])))
    assert table["qid"].drop_nulls().to_list() == pytest.approx([math.log(q) for q in (7.5 / 7, 5.5 / 5, 4.7 / 4.5)])
    assert table["method"].to_list()[:3] == ["none"] * 3 and table["loss"].null_count() == 3


@pytest.mark.parametrize(
    "other", [("fp16", 16, "wikitext2", 4096, 5.0), ("fp16", 16, "c4", 2048, 5.0), ("fp16", 8, "wikitext2", 2048, 5.0)]
)
def test_a_run_without_its_own_says_so(other: tuple[str, float, str, int | None, float]) -> None:
    message = r"column 'qid': empty; give loss_16bit \(or ppl_16bit\) too, or a row of method 'none' for the same suite"
    with pytest.raises(InputError, match=message):
        read_table(rows(("gptq", 4, "wikitext2", 2048, 5.5), other))


def test_of_two_16_bit_losses_none_is_taken() -> None:
    given = rows(("fp16", 16, "c4", None, 5.0), ("gptq", 4, "c4", None, 5.5), ("fp16", 16, "c4", None, 5.1))
    with pytest.raises(InputError, match="with one 16-bit loss"):
        read_table(given.with_columns(settings=pl.Series(["a", "", "b"])))
    alike = given.with_columns(settings=pl.Series(["a", "", "b"]), ppl=pl.Series([5.0, 5.5, 5.0]))
    assert read_table(alike)["qid"].drop_nulls().to_list() == pytest.approx([math.log(1.1)])


def test_what_a_row_says_itself_stays() -> None:
    given = rows(("fp16", 16, "c4", None, 5.0), ("gptq", 4, "c4", None, 5.5))
    table = read_table(given.with_columns(ppl_16bit=pl.Series([None, 5.2])))
    assert table["qid"][1] == pytest.approx(math.log(5.5 / 5.2))
