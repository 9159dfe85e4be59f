"""No text of a CSV file is a formula to a spreadsheet, and reading gives back what was written."""

import csv
import io
import math
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qidbayes.table import read_table, write_table
from qidbayes.table.formulas import as_text, as_written

NAMES = ['=HYPERLINK("http://x","y")', "+1", "-1+1", "@SUM(A1)", "\t=1", "'=1", "''-x", "'", "'plain'", "7B", "a=b", ""]


@given(st.lists(st.text(alphabet=st.sampled_from("'=+-@\t\r\nab\"")), min_size=1))
def test_nothing_is_a_formula_and_nothing_is_lost(texts: list[str]) -> None:
    frame = pl.DataFrame({"model": texts})
    written = as_text(frame)
    assert not [text for text in written["model"] if text[:1] in ("=", "+", "-", "@", "\t", "\r", "\n") and text]
    assert as_written(written).equals(frame)
    # A text that is none is written as it is.
    assert all(a == b for a, b in zip(texts, written["model"], strict=True) if a.lstrip("'")[:1] in ("", "a", "b", '"'))


def test_a_table_is_read_back_as_it_was(tmp_path: Path) -> None:
    names = [name for name in NAMES if name.strip() == name]
    point = {"n_params": 1e9, "tokens": 2e11, "method": "gptq", "bits": 4.0, "qid": -0.001}
    table = pl.DataFrame([{"model": f"{i}", **point, "source": name} for i, name in enumerate(names)])
    write_table(table, tmp_path / "mine.csv")
    cells = [row["source"] for row in csv.DictReader(io.StringIO((tmp_path / "mine.csv").read_text()))]
    assert cells[:4] == ["'" + name for name in names[:4]]
    again = read_table(tmp_path / "mine.csv")
    assert again["source"].to_list() == [name or None for name in names]
    assert again["qid"].to_list() == [-0.001] * len(names)


@pytest.mark.parametrize("value", [-0.5, -math.inf, -1e-300])
def test_numbers_are_left_alone(value: float) -> None:
    assert as_text(pl.DataFrame({"qid": [value]})).write_csv() == pl.DataFrame({"qid": [value]}).write_csv()
