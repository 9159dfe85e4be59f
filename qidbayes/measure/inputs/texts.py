"""The documents of local files, whatever form they are in: plain text, JSON, JSON Lines, CSV, TSV or Parquet."""

import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import polars as pl

from qidbayes.errors import InputError

_JSON, _SEPARATED = (".json", ".jsonl", ".ndjson"), {".csv": ",", ".tsv": "\t"}
_FORMS = (".txt", *_JSON, *_SEPARATED, ".parquet")
_PLAIN = ("text", "content")  # fields that hold the text wherever they are

type _Row = tuple[str, object]
"""How a message names a row, and what the row holds."""


def text_files(path: Path) -> list[Path]:
    """Return the files of a text set: a file itself, or a folder's files of the one form that it holds.

    Raises
    ------
    InputError
        If nothing is there, or files of several forms are.
    """
    if path.is_file():
        return [path]
    inside = sorted(path.rglob("*")) if path.is_dir() else []
    found = [file for file in inside if file.suffix.lower() in _FORMS and not file.is_dir()]
    for file in found:
        if not file.is_file():
            raise InputError(f"{file}: is not a plain file; remove it, or put a file in its place")
    if not found:
        raise InputError(f"{path}: no text there; give a text file, or a folder of them ({', '.join(_FORMS)})")
    kinds = sorted({file.suffix.lower() for file in found})
    if len(kinds) > 1:
        raise InputError(f"{path}: {' and '.join(kinds)} files there; give one of them, or a folder of one kind")
    return found


def local_documents(path: Path, column: str | None) -> list[str]:
    """Return the documents of a file or a folder, in the order in which they stand there.

    Parameters
    ----------
    path
        A file, or a folder of files of one form. Blank lines part the documents of plain text; elsewhere a row is one.
    column
        The field that holds the text; None for the plain one: `text`, `content`, or the only one.

    Raises
    ------
    InputError
        Naming the file, and the byte, line, row or field that cannot be read.
    """
    documents = [document for file in text_files(path) for document in _documents_of(file, column)]
    return [document for document in documents if document.strip()]


def text_of(row: object, column: str | None, where: str) -> str:
    """Return the text that a row holds.

    Parameters
    ----------
    row
        What a row of JSON or of a data set is: a mapping from fields to values, or a text by itself.
    column
        As `local_documents` takes it.
    where
        How a message names the row.

    Raises
    ------
    InputError
        Naming the fields that exist, if the text is not plain to find.

    Examples
    --------
    >>> text_of({"id": 1, "text": "A document."}, None, "mine.jsonl: line 1")
    'A document.'
    """
    if isinstance(row, str) and column is None:
        value: object = row
    elif isinstance(row, Mapping):
        field = plain_field(row, where) if column is None else column
        if field not in row:
            raise _no_field(field, row, where)
        value, where = row[field], f"{where}: {field}"
    else:
        raise InputError(f"{where}: {_said(row)}; give an object with a field that holds the text")
    if not isinstance(value, str):
        raise InputError(f"{where} is {_said(value)}; give a text, or leave the row out")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{where} holds half of a character (position {error.start}), which is no text") from error
    return value


def plain_field(fields: Iterable[str], where: str) -> str:
    """Return the one field that plainly holds the text.

    Raises
    ------
    InputError
        Asking for it by name, with the fields that exist.
    """
    fields = list(fields)
    # A name with other characters is perhaps a line of text, or several names with a separator of another kind.
    known = [field for field in _PLAIN if field in fields] or [
        f for f in fields if len(fields) == 1 and f.isidentifier()
    ]
    if len(known) != 1:
        raise InputError(f'{where}: which field holds the text? Give column = "…"; fields: {_listed(fields)}')
    return known[0]


def _documents_of(file: Path, column: str | None) -> list[str]:
    form = file.suffix.lower()
    if form == ".parquet":
        return _from_frame(_read_parquet(file), column, file)
    text = _decoded(file)
    if form in _SEPARATED:
        return _from_frame(_read_separated(text, _SEPARATED[form], file), column, file)
    if form in _JSON:
        rows = _json_rows(text, file)
        if column is None and rows and isinstance(rows[0][1], Mapping):
            column = plain_field(rows[0][1], rows[0][0])
        return [text_of(row, column, where) for where, row in rows]
    if column is not None:
        raise InputError(f"{file}: plain text has no field {column!r}; leave column out")
    if text.lstrip().startswith("{") and all(_is_json(line) for line in text.splitlines() if line.strip()):
        raise InputError(f"{file}: every line is JSON; name it .jsonl, so that its text is read and no syntax")
    return text.split("\n\n")


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _decoded(file: Path) -> str:
    content = file.read_bytes()
    if b"\0" in content:
        byte = f"byte 0x00 at {content.index(0):,}"
        raise InputError(f"{file}: {byte}, which no text holds; give text in UTF-8, not compressed")
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        byte = f"byte 0x{content[error.start]:02x} at {error.start:,}"
        raise InputError(f"{file}: {byte} is not UTF-8; give text in UTF-8, not compressed") from error


def _json_rows(text: str, file: Path) -> list[_Row]:
    """One value, a list of rows, or a row a line, whatever the file's name says."""
    try:
        whole = _parsed(text, str(file))
    except InputError:
        lines = [(f"{file}: line {number}", line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        if len(lines) < 2 or not _is_json(lines[0][1]):
            raise
        return [(where, _parsed(line, where)) for where, line in lines]
    rows = whole if isinstance(whole, list) else [whole]
    return [(f"{file}: row {number}", row) for number, row in enumerate(rows, 1)]


def _parsed(text: str, where: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON ({error})") from error


_SEPARATORS = {",": "commas", "\t": "tabs"}


def _read_separated(text: str, separator: str, file: Path) -> pl.DataFrame:
    try:
        return pl.read_csv(io.BytesIO(text.encode()), separator=separator, infer_schema=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, ValueError) as error:
        found = str(error).partition("\n")[0]  # what follows is advice on arguments of polars
        raise InputError(
            f"{file}: not a table that can be read ({found}); part its fields by {_SEPARATORS[separator]}, and quote "
            "those that hold one"
        ) from error


def _read_parquet(file: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(io.BytesIO(file.read_bytes()))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        raise InputError(f"{file}: not a Parquet file that can be read ({error})") from error


def _from_frame(frame: pl.DataFrame, column: str | None, file: Path) -> list[str]:
    field = plain_field(frame.columns, str(file)) if column is None else column
    if field not in frame.columns:
        raise _no_field(field, frame.columns, str(file))
    return [text_of({field: value}, field, f"{file}: row {n}") for n, value in enumerate(frame[field], 1)]


def _no_field(field: str, fields: Iterable[str], where: str) -> InputError:
    return InputError(f'{where}: no field {field!r} there; give column = "…" as one of {_listed(fields)}')


def _listed(fields: Iterable[str]) -> str:
    return ", ".join(fields) or "none"


def _said(value: object) -> str:
    names = {type(None): "empty", dict: "an object", list: "a list", bool: "true or false"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)
