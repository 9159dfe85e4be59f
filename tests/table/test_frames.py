"""Tables come in whatever form a user has them."""

import datetime
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import qidbayes as qb
from qidbayes.errors import InputError, TableWarning
from qidbayes.table import join_tables, load_table, read_table, table_hash, write_table
from qidbayes.table.frames import as_frame

COLUMNS: dict[str, Any] = {
    "suite": ["s"] * 3,
    "model": ["m"] * 3,
    "n_params": [1e9] * 3,
    "tokens": [2e11, 2e11, None],
    "method": ["gptq", "awq", "gptq"],
    "bits": [4, 3, 2],
    "qid": [0.1, 0.2, 0.3],
    "note": ["a", None, "c"],
}


class Older:
    """A frame that speaks the dataframe interchange protocol and nothing else."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame

    def __dataframe__(self, *args: Any, **kwargs: Any) -> Any:
        return self._frame.__dataframe__(*args, **kwargs)


FORMS: dict[str, Callable[[], Any]] = {
    "polars": lambda: pl.DataFrame(COLUMNS),
    "lazy": lambda: pl.LazyFrame(COLUMNS),
    "pandas": lambda: pd.DataFrame(COLUMNS),
    "pandas with an index": lambda: pd.DataFrame(COLUMNS, index=[7, 8, 9]),
    "pandas with a named index": lambda: pd.DataFrame(COLUMNS).set_index("model"),
    "pandas' categories": lambda: pd.DataFrame(COLUMNS).astype({"method": "category"}),
    "pyarrow": lambda: pa.table(COLUMNS),
    "an Arrow stream": lambda: pa.table(COLUMNS).to_reader(),
    "the older protocol": lambda: Older(pd.DataFrame({n: c for n, c in COLUMNS.items() if n != "note"})),
    "dict": lambda: COLUMNS,
    "a dict with one value for all rows": lambda: COLUMNS | {"suite": "s", "model": "m", "n_params": 1e9},
    "a dict with sizes as text": lambda: COLUMNS | {"n_params": "1B", "tokens": ["200B", 2e11, None]},
}


@pytest.mark.filterwarnings("ignore::qidbayes.errors.TableWarning", "ignore:The Dataframe Interchange Protocol")
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_table(form: str) -> None:
    expected = read_table(pl.DataFrame(COLUMNS))
    assert expected.select("tokens", "method", "qid").rows() == [
        (2 * 10**11, "gptq", 0.1), (2 * 10**11, "awq", 0.2), (None, "gptq", 0.3),
    ]  # fmt: skip
    assert read_table(FORMS[form]()).equals(expected)


@pytest.mark.filterwarnings("ignore::qidbayes.errors.TableWarning")
def test_a_path_and_a_shipped_name_are_tables_too(tmp_path: Path) -> None:
    write_table(COLUMNS | {"note": None}, tmp_path / "mine.csv")
    assert read_table("pythia").equals(load_table("pythia"))
    assert read_table(str(tmp_path / "mine.csv")).equals(read_table(tmp_path / "mine.csv"))
    joined = join_tables("spectra", tmp_path / "mine.csv", pd.DataFrame(COLUMNS | {"suite": "t", "note": 1.5}))
    assert joined["suite"].unique(maintain_order=True).to_list() == ["spectra", "s", "t"]
    assert joined["note"].drop_nulls().to_list() == [1.5] * 3, "a further column need not be in every table"
    with pytest.raises(InputError, match="spectra and table 2 both hold suite 'spectra'"):
        join_tables("spectra", load_table("spectra").to_pandas())


def test_pandas_without_pyarrow(tmp_path: Path) -> None:
    """In a process that cannot import pyarrow, pandas' columns are read one by one."""
    (tmp_path / "pyarrow").mkdir()
    (tmp_path / "pyarrow" / "__init__.py").write_text("raise ImportError('pyarrow is not here')")
    code = (
        "import pandas as pd; from qidbayes.table import read_table\n"
        f"print(read_table(pd.DataFrame({COLUMNS | {'note': None}!r}))['tokens'].to_list())"
    )
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == "[200000000000, 200000000000, None]", done.stderr


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "table must be a frame of polars, pandas or pyarrow, or a dict of columns, not int"),
        ([1, 2], "not list"),
        (pd.DataFrame({"model": [1, "x", None]}), "cannot be read as columns .*each of one type"),
        ({"model": ["a", "b"], "bits": [1]}, "cannot be read as columns"),
        (pl.LazyFrame({"model": ["a"]}).select("absent"), "cannot be read as columns"),
        ("absent", "unknown table 'absent'"),
        (Path("absent.csv"), "no such file"),
        ({"model": "m", "n_params": datetime.date(2026, 1, 1)}, "is missing"),
    ],
)
def test_what_is_no_table_is_refused(given: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_table(given)


def test_what_was_left_out_is_named_once() -> None:
    with pytest.warns(TableWarning, match="table: kept aside: 'note', which holds no numbers") as told:
        table = read_table(pd.DataFrame(COLUMNS))
        join_tables(table)
        table_hash(table)
    assert len(told) == 1


def test_questions_take_frames_of_any_library_and_sizes_as_text() -> None:
    paper = qb.published("unified")
    expected = paper.predict(n_params=7e9, tokens=15e12, bits=[3, 4])["median"].to_list()
    asked = {"n_params": "7B", "tokens": "15T", "bits": [3, 4]}
    assert paper.predict(**asked)["median"].to_list() == expected
    for frame in (asked, pd.DataFrame(asked), pl.LazyFrame(asked), pa.Table.from_pandas(pd.DataFrame(asked))):
        assert paper.predict(frame)["median"].to_list() == expected
    assert paper.predict(n_params=["7B", 7e9], tokens=15e12, bits=3)["median"].to_list() == expected[:1] * 2
    answer = paper.tokens_to_threshold(0.2, n_params="7B", bits=4)
    assert answer.equals(paper.tokens_to_threshold(0.2, n_params=7e9, bits=4))
    with pytest.raises(InputError, match="n_params: 'seven' is not a count; write it like 7B"):
        paper.predict(n_params="seven", tokens=15e12, bits=3)
    with pytest.raises(InputError, match="queries must be a frame"):
        paper.predict(7)  # type: ignore[arg-type]


def test_a_frame_comes_through_as_it_is() -> None:
    frame = pl.DataFrame({"a": [1]})
    assert as_frame(frame, "frame") is frame


def test_whatever_takes_a_table_takes_all_forms_of_it() -> None:
    expected = qb.least_squares(load_table("pythia"), "unified").constants
    for form in ("pythia", load_table("pythia").to_pandas(), load_table("pythia").lazy()):
        assert qb.least_squares(form, "unified").constants == expected
    for ask in (
        lambda table: qb.fit(table, "unified"),
        lambda table: qb.backtest(table, "unified", ["leave bits"]),
        lambda table: qb.compare(table, ["unified", "size"]),
        lambda table: qb.least_squares(table, "unified"),
    ):
        with pytest.raises(InputError, match="unknown table 'pythai'; did you mean 'pythia'"):
            ask("pythai")
        with pytest.raises(InputError, match="table: column 'model' is missing"):
            ask(pd.DataFrame({"bits": [3, 4]}))


@pytest.mark.parametrize("name", ["results.json", "a.log", "."])
def test_runs_in_the_place_of_a_table_are_told_what_makes_one(tmp_path: Path, name: str) -> None:
    (tmp_path / "results.json").write_text("{}")
    (tmp_path / "a.log").write_text("")
    with pytest.raises(InputError, match="`qidbayes import` makes one of results of lm-eval"):
        load_table(tmp_path / name)


@pytest.mark.parametrize(
    ("further", "message"),
    [
        ({"suite": "mine"}, r"suite='mine': .* a frame or a dict has them as columns: \{\.\.\., 'suite': 'mine'\}"),
        ({"labels": "labels.csv"}, "labels: is for files of runs, and a frame or a dict was given"),
        ({"tokenizer": "tokenizer.json"}, "tokenizer: is for files of runs"),
    ],
)
def test_what_goes_with_files_of_runs_is_refused_beside_a_frame(further: dict[str, Any], message: str) -> None:
    for given in (COLUMNS, pl.DataFrame(COLUMNS)):
        with pytest.raises(InputError, match=message):
            read_table(given, **further)


def test_several_frames_are_for_join_tables() -> None:
    with pytest.raises(InputError, match="read_table takes one, or files; join tables with join_tables"):
        read_table(pl.DataFrame(COLUMNS), pl.DataFrame(COLUMNS))
