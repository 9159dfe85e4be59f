"""Tables to files and back, and files that are no tables."""

import io
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qidbayes.errors import InputError
from qidbayes.table import load_table, read_table, table_hash, write_table
from qidbayes.table.columns import CELL
from qidbayes.table.schema import validate

CsvFile = Callable[..., Path]

HEADER = "model,n_params,tokens,method,bits,qid"
ROW = "m,1e9,2e11,gptq,4,0.1"
QUICK = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
names = texts.filter(lambda text: text.strip() != "")
slugs = st.from_regex("[a-z0-9][a-z0-9.-]{0,6}", fullmatch=True).filter(lambda slug: slug != "none")
losses = st.floats(0.01, 100)
rows = st.fixed_dictionaries(
    {
        "suite": names,
        "model": names,
        "revision": texts,
        "n_params": st.integers(1_000, 2**63 - 1),
        "tokens": st.integers(100_000, 2**63 - 1),
        "method": slugs,
        "bits": st.floats(0, 32, exclude_min=True),
        "group_size": st.none() | st.integers(1, 2**63 - 1),
        "loss_16bit": st.none() | losses,
        "qid": st.floats(-0.005, 1e4),
        "qid_se": st.none() | st.floats(0, 1e300),
        "source": st.none() | texts,
    }
)
frames = st.lists(rows, min_size=1, max_size=6).map(
    lambda drawn: pl.DataFrame(drawn, schema_overrides={"group_size": pl.Int64, "source": pl.String}, strict=False)
)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@QUICK
@given(frame=frames)
def test_what_is_written_is_read_again(tmp_path: Path, suffix: str, frame: pl.DataFrame) -> None:
    try:
        table = validate(frame, "t")
    except InputError as error:
        assert "same cell" in str(error), "hypothesis drew one cell twice; nothing else may be refused"
        return
    path = tmp_path / f"t{suffix}"
    write_table(frame, path)
    assert read_table(path).equals(table)


@QUICK
@given(text=st.text(max_size=200) | st.lists(texts, max_size=20).map(",".join))
def test_any_text_is_a_table_or_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "junk.csv"
    path.write_text(f"{HEADER}\n{ROW}\n{text}", encoding="utf-8", errors="ignore", newline="")
    try:
        assert read_table(path).height >= 1
    except InputError as error:
        assert str(error).startswith(str(path))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@QUICK
@given(content=st.binary(max_size=300))
def test_any_bytes_are_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"junk{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match="junk"):
        read_table(path)


@QUICK
@given(position=st.integers(0, 10_000), byte=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_parquet_file_is_read_or_refused(
    tmp_path: Path, point: pl.DataFrame, position: int, byte: int, cut: bool
) -> None:
    path = tmp_path / "damaged.parquet"
    write_table(point, path)
    content = bytearray(path.read_bytes())
    position %= len(content)
    if cut:
        del content[position:]
    else:
        content[position] = byte
    path.write_bytes(content)
    try:
        assert read_table(path).height >= 1
    except InputError as error:
        assert str(error).startswith(str(path))


def test_parquet_keeps_the_schema_version_and_the_caller_s_metadata(tmp_path: Path, point: pl.DataFrame) -> None:
    path = tmp_path / "t.parquet"
    write_table(point, path, {"plan": "abc", "torch": "2.9"})
    kept = pl.read_parquet_metadata(path)
    assert {key: kept[key] for key in ("plan", "torch", "qidbayes.schema_version")} == {
        "plan": "abc",
        "torch": "2.9",
        "qidbayes.schema_version": "1",
    }


def test_a_csv_file_refuses_metadata_rather_than_lose_it(tmp_path: Path, point: pl.DataFrame) -> None:
    with pytest.raises(InputError, match="a CSV file cannot hold metadata"):
        write_table(point, tmp_path / "t.csv", {"plan": "abc"})
    assert list(tmp_path.iterdir()) == []


def test_another_schema_version_is_refused(tmp_path: Path, point: pl.DataFrame) -> None:
    path = tmp_path / "t.parquet"
    point.write_parquet(path, metadata={"qidbayes.schema_version": "2"})
    with pytest.raises(InputError, match=r"t.parquet: schema version 2; this qidbayes reads version 1"):
        read_table(path)


def test_an_invalid_table_is_not_written(tmp_path: Path, point: pl.DataFrame) -> None:
    path = tmp_path / "t.csv"
    write_table(point, path)
    before = path.read_text()
    with pytest.raises(InputError, match="column 'bits': 99"):
        write_table(point.with_columns(bits=99.0), path)
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["t.xlsx", "t", "t.csv.gz", "t.pkl"])
def test_other_suffixes_are_refused(tmp_path: Path, point: pl.DataFrame, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InputError, match=r"ends in \.csv or \.parquet"):
        read_table(tmp_path / name)
    with pytest.raises(InputError, match=r"ends in \.csv or \.parquet"):
        write_table(point, tmp_path / name)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_missing_files_folders_and_devices_are_refused(tmp_path: Path, suffix: str) -> None:
    folder = tmp_path / f"folder{suffix}"
    folder.mkdir()
    device = tmp_path / f"device{suffix}"
    device.symlink_to("/dev/zero")
    for path, reason in [
        (tmp_path / f"absent{suffix}", "no such file"),
        (tmp_path / f"a\0b{suffix}", "no such file"),
        (tmp_path / f"*{suffix}", "no such file"),
        (folder, "not a plain file"),
        (device, "not a plain file"),
    ]:
        with pytest.raises(InputError, match=reason):
            read_table(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty; give a header line"),
        (b"\n\n", "empty; give a header line"),
        (f"{HEADER}\nmod\u00e8le".encode("latin-1"), "not UTF-8 text"),
        (f"{HEADER}\n{ROW}".encode("utf-16"), "not UTF-8 text"),
        (f'{HEADER}\n"m,1e9'.encode(), "row 2: not CSV"),
        (f'{HEADER}\n"m"x,1e9,2e11,gptq,4,1'.encode(), "row 2: not CSV"),
        (f"{HEADER}\n{ROW}\n{'x' * 200_000}".encode(), "row 3: not CSV"),
        (f"{HEADER}\n{ROW},9".encode(), "row 2: 7 fields; give 6"),
        (f"{HEADER}\nm,1e9".encode(), "row 2: 2 fields; give 6"),
        (f",{HEADER}\n0,{ROW}".encode(), "row 1: column 1 has no name"),
        (f"{HEADER},qid\n{ROW},1".encode(), "row 1: column 'qid' stands there twice"),
    ],
)
def test_broken_csv_is_refused_with_its_row(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "broken.csv"
    path.write_bytes(content)
    with pytest.raises(InputError) as refused:
        read_table(path)
    assert str(refused.value).startswith(f"{path}: {reason}")


def test_rows_are_called_by_their_line(csv_file: CsvFile) -> None:
    failed = 'm,1e9,2e11,gptq,3,,failed,"two\nlines"'
    path = csv_file(f"{HEADER},status,error", failed, "", "m,1e9,2e11,gptq,99,1,,")
    with pytest.raises(InputError, match="row 5, column 'bits'"):
        read_table(path)


def test_a_byte_order_mark_and_windows_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "excel.csv"
    path.write_bytes(f"\ufeff{HEADER}\r\n{ROW}\r\n".encode())
    assert read_table(path)["qid"].to_list() == [0.1]


def test_parquet_of_another_kind_is_refused_by_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    pl.DataFrame({"lossy": [1]}).write_parquet(path)
    with pytest.raises(InputError, match="column 'lossy' is unknown; did you mean 'loss'"):
        read_table(path)


def test_hash_ignores_order_and_nothing_else(point: pl.DataFrame) -> None:
    two = pl.concat([point, point.with_columns(bits=3.0)])
    assert table_hash(two.reverse().select(reversed(two.columns))) == table_hash(two)
    assert table_hash(validate(two, "elsewhere.csv")) == table_hash(two)
    others = [two.with_columns(pl.lit("x").alias(name)) for name in ("suite", "model", "dataset", "source", "device")]
    others += [two.with_columns(qid=pl.col("qid") + 1e-16), two.with_columns(group_size=128), point]
    assert len({table_hash(table) for table in [two, *others]}) == len(others) + 1


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_hash_survives_a_file(tmp_path: Path, suffix: str) -> None:
    table = load_table("pythia")
    write_table(table, tmp_path / f"t{suffix}")
    assert table_hash(read_table(tmp_path / f"t{suffix}")) == table_hash(table)


def test_hash_is_the_same_in_every_release(point: pl.DataFrame) -> None:
    assert table_hash(point) == "d7b38fbefd7231bfd96c1bd0d22dbf0eefc0e7a7449207464de65f80a83b3463"


def test_key_columns_exist() -> None:
    assert set(CELL) <= set(validate(pl.read_csv(io.StringIO(f"{HEADER}\n{ROW}")), "t").columns)


def test_a_value_in_a_later_column_counts_and_an_empty_one_does_not(point: pl.DataFrame) -> None:
    assert table_hash(point.with_columns(kld=None)) == table_hash(point)
    assert len({table_hash(point.with_columns(kld=pl.lit(value))) for value in (None, 0.1, 0.2)}) == 3
