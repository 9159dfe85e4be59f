"""Joining tables, and naming those that clash."""

from pathlib import Path

import polars as pl
import pytest

from qidbayes.errors import InputError
from qidbayes.table import join_tables, load_table, write_table


def test_rows_follow_in_the_order_given(point: pl.DataFrame) -> None:
    joined = join_tables(point, point.with_columns(bits=3.0), point.with_columns(bits=2.0))
    assert joined["bits"].to_list() == [4.0, 3.0, 2.0]


def test_clashing_tables_are_named(point: pl.DataFrame) -> None:
    with pytest.raises(InputError, match="table 1 and table 3 both hold suite 's', model 'm', tokens 200000000000"):
        join_tables(point, point.with_columns(bits=3.0), point)


def test_at_most_ten_clashes_are_listed() -> None:
    with pytest.raises(InputError, match="and 350 more"):
        load_table("pythia", "pythia")


def test_an_invalid_table_is_named(point: pl.DataFrame) -> None:
    with pytest.raises(InputError, match="table 2: row 1, column 'bits'"):
        join_tables(point, point.with_columns(bits=99.0))


def test_nothing_to_join() -> None:
    with pytest.raises(InputError, match="no tables to join"):
        join_tables()


def test_a_user_s_table_joins_a_shipped_one(tmp_path: Path, point: pl.DataFrame) -> None:
    write_table(point, tmp_path / "mine.parquet")
    joined = load_table("spectra", tmp_path / "mine.parquet")
    assert joined["suite"].to_list() == ["spectra"] * 18 + ["s"]
    with pytest.raises(InputError, match=r"spectra and .*copy\.csv both hold suite 'spectra'"):
        write_table(load_table("spectra"), tmp_path / "copy.csv")
        load_table("spectra", tmp_path / "copy.csv")
