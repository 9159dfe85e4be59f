"""Measurement tables from files: CSV as people write it, Parquet as programs do."""

import codecs
import csv
import io
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from qidbayes.errors import InputError
from qidbayes.process import note
from qidbayes.table.columns import SCHEMA_VERSION
from qidbayes.table.formulas import as_written
from qidbayes.table.parquet import UnreadableError, from_parquet
from qidbayes.table.problems import refuse
from qidbayes.table.schema import validate

SUFFIXES = (".csv", ".parquet")
_SEP = re.compile(r"(?P<before>\s*)\"?sep=(?P<delimiter>[,;\t|])\"?[ ]*(?=[\r\n])", re.I)  # on the first line
VERSION_KEY = "qidbayes.schema_version"  # in the metadata of a Parquet file


def read_file(path: str | os.PathLike[str]) -> pl.DataFrame:
    """Read a measurement table from a `.csv` or `.parquet` file and check it against the schema.

    A CSV file is in UTF-8. Commas separate its fields, or semicolons or tabs where the header has no comma or
    a first line such as ``sep=;`` says so. Numbers have a decimal point; a decimal comma is refused.

    Raises
    ------
    InputError
        If the file cannot be read as a table, or breaks the schema: file, row, column and what would be accepted.
        A row of a CSV file is called by its line, the header being line 1.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "mine.csv")
    >>> _ = path.write_text("model,n_params,tokens,method,bits,qid\\nm,1e9,2e11,gptq,4,0.1\\n")
    >>> read_file(path).select("suite", "tokens", "qid").row(0)
    ('mine', 200000000000, 0.1)
    """
    return validate_file(path, {})


def read_raw(path: str | os.PathLike[str]) -> pl.DataFrame:
    """Return the rows of a `.csv` or `.parquet` file as they stand there, without a schema.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    path = Path(path)
    check_suffix(path)
    return _raw(path)[0]


def _raw(path: Path) -> tuple[pl.DataFrame, list[int] | None]:
    content, where = _content(path), str(path)
    return _read_csv(content, where) if path.suffix.lower() == ".csv" else (_read_parquet(content, where), None)


def validate_file(path: str | os.PathLike[str], values: Mapping[str, Any]) -> pl.DataFrame:
    """Read a measurement table, with values for columns that its file does not have; see `read_file`."""
    note()
    path = Path(path)
    check_suffix(path)
    frame, rows = _raw(path)
    further = (pl.lit(value).alias(name) for name, value in values.items() if name not in frame.columns)
    return validate(frame.with_columns(further), str(path), rows)


def check_suffix(path: Path) -> None:
    """Refuse a path whose suffix names no format of ours."""
    if path.suffix.lower() not in SUFFIXES:
        runs = "; `qidbayes import` makes one of results of lm-eval and logs of llama.cpp"
        hint = runs if path.suffix.lower() in (".json", ".jsonl", ".log") or path.is_dir() else ""
        raise InputError(f"{path}: not the name of a table; give a file that ends in .csv or .parquet{hint}")


def _content(path: Path) -> bytes:
    # The bytes are read here because polars would take a name for a wildcard, a folder or an address.
    try:
        if not path.exists():
            raise InputError(f"{path}: no such file; give a .csv or .parquet file")
        if not path.is_file():
            raise InputError(f"{path}: not a plain file; give a .csv or .parquet file")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a file that you may read") from error


def _read_csv(content: bytes, where: str) -> tuple[pl.DataFrame, list[int]]:
    """Read every field as text, so that a refusal can show what stands in the file; also return each row's line."""
    text = _text(content, where)
    delimiter = _delimiter(text)
    if said := _SEP.match(text):  # Excel's own line; a blank one in its place keeps the numbers of the others
        delimiter, text = said["delimiter"], said["before"] + text[said.end() :]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    lines: list[int] = []
    records: list[list[str]] = []
    start = 1  # a quoted field may run over several lines; its record is called by the first
    try:
        for record in reader:
            if record:
                lines.append(start)
                records.append(record)
            start = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{where}: row {start}: not CSV ({error}); check its quotes and commas") from error
    if not records:
        raise InputError(f"{where}: empty; give a header line and at least one row")

    header = [name.strip() for name in records.pop(0)]
    lines.pop(0)
    _check_shape(header, records, lines, where)
    columns = {name: [record[i] for record in records] for i, name in enumerate(header)}
    return as_written(pl.DataFrame(columns, schema=dict.fromkeys(header, pl.String))), lines


def _text(content: bytes, where: str) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError(f"{where}: not UTF-8 text but UTF-16; save it as CSV in UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{where}: not UTF-8 text (byte {error.start}, line {line}: {content[error.start]:#04x}); "
            "save it as CSV in UTF-8"
        ) from error


def _delimiter(text: str) -> str:
    """Return what stands between the names of the header: a semicolon where Excel's decimal sign is a comma."""
    header = next((line for line in text.splitlines() if line.strip()), "")
    return next((other for other in (";", "\t") if other in header and "," not in header), ",")


def _check_shape(header: list[str], records: list[list[str]], lines: list[int], where: str) -> None:
    found = []
    for position, name in enumerate(header, start=1):
        if not name:
            found.append(f"row 1: column {position} has no name; name it, or leave it out (an index, perhaps)")
        elif name in header[: position - 1]:
            found.append(f"row 1: column {name!r} stands there twice; keep one")
    for line, record in zip(lines, records, strict=True):
        if len(record) != len(header):
            found.append(f"row {line}: {len(record)} fields; give {len(header)}, one for each column of the header")
    if found:
        refuse(where, found)


def _read_parquet(content: bytes, where: str) -> pl.DataFrame:
    try:
        read = from_parquet(content)
    except UnreadableError as error:
        raise InputError(f"{where}: not a Parquet file that can be read ({error}); write it again") from error
    version = read.metadata.get(VERSION_KEY, str(SCHEMA_VERSION))
    if version != str(SCHEMA_VERSION):
        raise InputError(f"{where}: schema version {version}; this qidbayes reads version {SCHEMA_VERSION}")
    return read.frame
