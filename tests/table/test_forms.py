"""The forms in which people hold one and the same table: each is read as the same rows, or refused by name."""

import io
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from qidbayes.errors import InputError
from qidbayes.table import read_table, table_hash
from qidbayes.table.schema import validate

READ = ("suite", "model", "revision", "n_params", "tokens", "method", "bits", "group_size", "dataset", "qid", "qid_se")
ROWS = [
    ("mine", "m 1", "1000", 85_056_000, 300_000_000_000, "gptq", 4.0, 128, "c4", 0.052, 0.001),
    ("mine", "m 1", "2000", 85_056_000, 600_000_000_000, "bnb-nf4", 1.58, None, "c4", -0.01, None),
]
FRAME = pl.DataFrame(ROWS, schema=list(READ), orient="row")
HEADER = ",".join(READ)
FIRST = "mine,m 1,1000,85056000,300000000000,gptq,4,128,c4,0.052,0.001"
SECOND = "mine,m 1,2000,85056000,600000000000,bnb-nf4,1.58,,c4,-0.01,"
PLAIN = f"{HEADER}\n{FIRST}\n{SECOND}\n"


def col(name: str, *values: object, dtype: pl.DataType | type[pl.DataType] | None = None) -> pl.Series:
    return pl.Series(name, values, dtype=dtype, strict=False)


TEXTS: dict[str, str | bytes] = {
    "plain": PLAIN,
    "no newline at the end": PLAIN.rstrip("\n"),
    "Windows lines": PLAIN.replace("\n", "\r\n"),
    "old Macintosh lines": PLAIN.replace("\n", "\r"),
    "byte-order mark": "\ufeff" + PLAIN,
    "byte-order mark and Windows lines": "\ufeff" + PLAIN.replace("\n", "\r\n"),
    "semicolons": PLAIN.replace(",", ";"),
    "semicolons and a byte-order mark": "\ufeff" + PLAIN.replace(",", ";"),
    "tabs": PLAIN.replace(",", "\t"),
    "sep=,": f"sep=,\n{PLAIN}",
    "sep=;": "sep=;\r\n" + PLAIN.replace(",", ";").replace("\n", "\r\n"),
    "sep=; quoted, after a mark": '\ufeff"sep=;"\n' + PLAIN.replace(",", ";"),
    "SEP=tab": "SEP=\t\n" + PLAIN.replace(",", "\t"),
    "blank lines": PLAIN.replace("\n", "\n\n"),
    "blank lines first": f"\n\n{PLAIN}",
    "spaces around cells": PLAIN.replace(",", " , "),
    "every cell quoted": "\n".join(",".join(f'"{c}"' for c in line.split(",")) for line in PLAIN.splitlines()),
    "columns in another order": "\n".join(",".join(reversed(line.split(","))) for line in PLAIN.splitlines()),
    "counts with exponents": PLAIN.replace("85056000", "8.5056e7").replace("300000000000", "3E+11"),
    "counts as floats": PLAIN.replace("85056000", "85056000.0").replace(",128,", ",128.0,"),
    "widths as floats": PLAIN.replace("gptq,4,", "gptq,4.0,"),
    "a width in single precision": PLAIN.replace("1.58", "1.5800000429153442"),
    "a width in single precision, rounded": PLAIN.replace("1.58", "1.5800000429"),
    "methods in upper case": PLAIN.replace("gptq", "GPTQ").replace("bnb-nf4", "bnb-NF4"),
    "per channel as -1": PLAIN.replace("1.58,,", "1.58,-1,"),
    "per channel as -1.0": PLAIN.replace("1.58,,", "1.58,-1.0,"),
    "a sign": PLAIN.replace(",0.052", ",+0.052"),
    "no digit before the point": PLAIN.replace(",0.052", ",.052").replace("-0.01", "-.01"),
    "no suite: the file's name": "\n".join(line.split(",", 1)[1] for line in PLAIN.splitlines()),
    "an empty suite: the file's name": PLAIN.replace("\nmine,", "\n,"),
    "a column of nothing": "\n".join(f"{line}{',' if i else ',source'}" for i, line in enumerate(PLAIN.splitlines())),
}


@pytest.mark.parametrize("form", TEXTS)
def test_csv_is_read_alike(form: str, tmp_path: Path) -> None:
    path, text = tmp_path / "mine.csv", TEXTS[form]
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    table = read_table(path)
    assert table.select(READ).rows() == ROWS
    assert table_hash(table) == table_hash(FRAME)


FRAMES: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
    "plain": lambda t: t,
    "columns in another order": lambda t: t.select(reversed(t.columns)),
    "rows of a larger frame": lambda t: pl.concat([t, t]).slice(2),
    "integer revisions": lambda t: t.with_columns(col("revision", 1000, 2000)),
    "small unsigned revisions": lambda t: t.with_columns(col("revision", 1000, 2000, dtype=pl.UInt16)),
    "counts as floats": lambda t: t.with_columns(pl.col("n_params", "tokens", "group_size").cast(pl.Float64)),
    "counts as text": lambda t: t.with_columns(pl.col("n_params", "tokens", "group_size").cast(pl.String)),
    "counts as decimals": lambda t: t.with_columns(
        col("tokens", Decimal("3e11"), Decimal("6e11"), dtype=pl.Decimal(20, 0))
    ),
    "numbers as text": lambda t: t.with_columns(pl.col("bits", "qid", "qid_se").cast(pl.String)),
    "everything as text": lambda t: t.cast(pl.String),
    "single precision": lambda t: t.with_columns(pl.col("bits").cast(pl.Float32)),
    "single precision in double": lambda t: t.with_columns(pl.col("bits").cast(pl.Float32).cast(pl.Float64)),
    "categories": lambda t: t.with_columns(pl.col("suite", "model", "method", "dataset").cast(pl.Categorical)),
    "enums": lambda t: t.with_columns(pl.col("method").cast(pl.Enum(["bnb-nf4", "gptq"]))),
    "upper case": lambda t: t.with_columns(pl.col("method").str.to_uppercase()),
    "-1 as per channel": lambda t: t.with_columns(pl.col("group_size").fill_null(-1)),
    "-1 as a float": lambda t: t.with_columns(pl.col("group_size").cast(pl.Float64).fill_null(-1.0)),
    "spaces": lambda t: t.with_columns(pl.format(" {}  ", name).alias(name) for name in ("model", "method")),
    "null columns": lambda t: t.with_columns(col("source", None, None), col("seq_len", None, None)),
    "empty text as nothing": lambda t: t.with_columns(pl.col("group_size").cast(pl.String).fill_null("")),
    "the whole schema": lambda t: validate(t, "mine.csv"),
    "losses beside": lambda t: t.with_columns(loss_16bit=pl.lit(3.0), loss=3.0 + pl.col("qid")),
    "a lone loss": lambda t: t.with_columns(loss=3.0 + pl.col("qid")),
    "the suite's default": lambda t: t.drop("suite"),
    "null suites": lambda t: t.with_columns(col("suite", None, None)),
}  # fmt: skip


@pytest.mark.parametrize("form", FRAMES)
@pytest.mark.parametrize("kept", ["frame", "parquet"])
def test_frames_and_parquet_are_read_alike(form: str, kept: str, tmp_path: Path) -> None:
    frame = FRAMES[form](FRAME)
    if kept == "parquet":
        frame.write_parquet(tmp_path / "mine.parquet")
        table = read_table(tmp_path / "mine.parquet")
    else:
        table = validate(frame, "mine.csv")
    assert table.select(READ).rows() == ROWS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("85056000", '"85,056,000"'),
            r"rows 2 and 3, column 'n_params': '85,056,000' .* without separators of thousands",
        ),
        (("0.052", '"0,052"'), r"row 2, column 'qid': '0,052' .* with a decimal point"),
        (("0.052", "0,052"), r"row 2: 12 fields; give 11"),
        (("gptq,4,", "gptq,four,"), r"row 2, column 'bits': 'four'"),
        (("85056000", "85056000.5"), r"rows 2 and 3, column 'n_params': '85056000.5'"),
        (("85056000", "85MB"), r"rows 2 and 3, column 'n_params': '85MB' .* plain count"),
        ((",128,", ",-2,"), r"row 2, column 'group_size': '-2' .* per channel"),
        (("0.052", "NA"), r"row 2, column 'qid': 'NA'"),
        (("gptq", "GPTQ v2"), r"row 2, column 'method': 'GPTQ v2'"),
        ((",bits,", ",Bits,"), r"column 'Bits' is unknown; did you mean 'bits'"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(change: tuple[str, str], message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(PLAIN.replace(*change))
    with pytest.raises(InputError, match=message):
        read_table(path)


def test_a_decimal_comma_between_semicolons_is_named(tmp_path: Path) -> None:
    path = tmp_path / "excel.csv"
    path.write_text(PLAIN.replace(",", ";").replace("0.052", "0,052").replace("1.58", "1,58"))
    with pytest.raises(InputError) as refused:
        read_table(path)
    first, second = str(refused.value).splitlines()
    assert "row 2, column 'qid': '0,052' is not accepted" in first and "decimal point" in first
    assert "row 3, column 'bits': '1,58' is not accepted" in second


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (PLAIN.replace("m 1", "modèle").encode("latin-1"), r"not UTF-8 text \(byte 87, line 2: 0xe8\); save it as CSV"),
        (PLAIN.encode("utf-16"), "not UTF-8 text but UTF-16; save it as CSV in UTF-8"),
        (PLAIN.encode("utf-16-be"), "not CSV|is unknown|not UTF-8"),
    ],
)
def test_other_encodings_are_named_with_the_file(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as refused:
        read_table(path)
    assert str(refused.value).startswith(str(path))


def test_rows_keep_their_lines_after_a_sep_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("sep=;\n" + PLAIN.replace(",", ";").replace("bnb-nf4", "b n"))
    with pytest.raises(InputError, match="row 4, column 'method'"):
        read_table(path)


def test_what_polars_reads_by_itself_is_read() -> None:
    text = io.BytesIO()
    FRAME.write_csv(text)
    assert validate(pl.read_csv(text.getvalue()), "mine.csv").select(READ).rows() == ROWS
