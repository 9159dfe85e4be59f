"""Measurement tables from files: CSV as people write it, Parquet as programs do."""

import csv
import io
import os
from pathlib import Path

import polars as pl

from qidbayes.errors import InputError
from qidbayes.process import note
from qidbayes.table.columns import SCHEMA_VERSION
from qidbayes.table.problems import refuse
from qidbayes.table.schema import validate

SUFFIXES = (".csv", ".parquet")
VERSION_KEY = "qidbayes.schema_version"  # in the metadata of a Parquet file


def read_table(path: str | os.PathLike[str]) -> pl.DataFrame:
    """Read a measurement table from a `.csv` or `.parquet` file and check it against the schema.

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
    >>> read_table(path).select("suite", "tokens", "qid").row(0)
    ('mine', 200000000000, 0.1)
    """
    note()
    path = Path(path)
    check_suffix(path)
    content = _content(path)
    if path.suffix.lower() == ".csv":
        return _read_csv(content, str(path))
    return _read_parquet(content, str(path))


def check_suffix(path: Path) -> None:
    """Refuse a path whose suffix names no format of ours."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: not the name of a table; give a file that ends in .csv or .parquet")


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


def _read_csv(content: bytes, where: str) -> pl.DataFrame:
    """Read every cell as text, so that a refusal can show what stands in the file."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not UTF-8 text (byte {error.start}); save it as CSV in UTF-8") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    lines: list[int] = []
    records: list[list[str]] = []
    start = 1  # a quoted cell may run over several lines; its record is called by the first
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
    return validate(pl.DataFrame(columns, schema=dict.fromkeys(header, pl.String)), where, lines)


def _check_shape(header: list[str], records: list[list[str]], lines: list[int], where: str) -> None:
    found = []
    for position, name in enumerate(header, start=1):
        if not name:
            found.append(f"row 1: column {position} has no name; name it, or leave it out (an index, perhaps)")
        elif name in header[: position - 1]:
            found.append(f"row 1: column {name!r} stands there twice; keep one")
    for line, record in zip(lines, records, strict=True):
        if len(record) != len(header):
            found.append(f"row {line}: {len(record)} cells; give {len(header)}, one for each column of the header")
    if found:
        refuse(where, found)


def _read_parquet(content: bytes, where: str) -> pl.DataFrame:
    try:
        version = pl.read_parquet_metadata(io.BytesIO(content)).get(VERSION_KEY, str(SCHEMA_VERSION))
        frame = pl.read_parquet(io.BytesIO(content))
    # A panic inside polars is no Exception in Python's eyes, and a damaged file can cause one.
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        raise InputError(f"{where}: not a Parquet file that can be read ({error}); write it again") from error
    if version != str(SCHEMA_VERSION):
        raise InputError(f"{where}: schema version {version}; this qidbayes reads version {SCHEMA_VERSION}")
    return validate(frame, where)
