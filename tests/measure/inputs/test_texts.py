"""Local texts in every form give the same documents; what cannot be read is named with its place."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from qidbayes.errors import InputError
from qidbayes.measure.inputs.texts import local_documents, text_of

DOCUMENTS = ['The "first" one, with a comma;\nand a line.', "Ünïcode — 文字.", "Braces { } and \\n as they are."]
ROWS = [{"id": n, "text": text} for n, text in enumerate(DOCUMENTS)]


def write_csv(path: Path, delimiter: str = ",") -> None:
    with path.open("w", newline="", encoding="utf-8-sig") as file:  # as spreadsheets do, with a byte-order mark
        writer = csv.DictWriter(file, ["id", "text"], delimiter=delimiter)
        writer.writeheader()
        writer.writerows(ROWS)


FORMS: dict[str, Callable[[Path], object]] = {
    "a.txt": lambda path: path.write_text("\n\n".join(DOCUMENTS) + "\n\n \n\n"),
    "a.jsonl": lambda path: path.write_text("\n".join(map(json.dumps, ROWS)) + "\n"),
    "one-line.jsonl": lambda path: path.write_text(json.dumps(ROWS)),
    "texts.jsonl": lambda path: path.write_text("\n".join(map(json.dumps, DOCUMENTS))),
    "a.ndjson": lambda path: path.write_text("\r\n".join(map(json.dumps, ROWS))),
    "a.JSON": lambda path: path.write_text(json.dumps(ROWS, indent=2)),
    "lines.json": lambda path: path.write_text("\n".join(map(json.dumps, ROWS))),
    "texts.json": lambda path: path.write_text(json.dumps(DOCUMENTS)),
    "a.csv": write_csv,
    "a.tsv": lambda path: write_csv(path, "\t"),
    "a.parquet": lambda path: pl.DataFrame(ROWS).write_parquet(path),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_form_is_read_as_what_it_is(name: str, tmp_path: Path) -> None:
    FORMS[name](tmp_path / name)
    assert local_documents(tmp_path / name, None) == DOCUMENTS
    assert local_documents(tmp_path, None) == DOCUMENTS  # the folder it lies in


@pytest.mark.parametrize("write", [
    lambda rows, path: (path / "a.jsonl").write_text("\n".join(map(json.dumps, rows))),
    lambda rows, path: (path / "a.json").write_text(json.dumps(rows)),
    lambda rows, path: pl.DataFrame(rows).write_csv(path / "a.csv"),
    lambda rows, path: pl.DataFrame(rows).write_parquet(path / "a.parquet"),
])  # fmt: skip
def test_the_field_is_asked_for_where_it_is_not_plain(write: Callable[..., object], tmp_path: Path) -> None:
    write([{"url": "a.b", "body": text, "title": "One"} for text in DOCUMENTS], tmp_path)
    with pytest.raises(InputError, match=r"a\..*: which field holds the text\? Give column = .*: url, body, title$"):
        local_documents(tmp_path, None)
    assert local_documents(tmp_path, "body") == DOCUMENTS
    with pytest.raises(InputError, match=r"no field 'bdy' there; give column = .* one of url, body, title$"):
        local_documents(tmp_path, "bdy")


def test_a_field_is_plain_by_its_name_or_by_being_the_only_one() -> None:
    assert text_of({"meta": {}, "content": "a"}, None, "here") == "a"
    assert text_of({"document": "a"}, None, "here") == "a"
    for unclear in ({"text": "a", "content": "b"}, {"id;text": "1;a"}, {"A line of text, perhaps": "another"}, {}):
        with pytest.raises(InputError, match="here: which field holds the text"):
            text_of(unclear, None, "here")


REFUSED = {
    "latin.txt": ("café".encode("latin-1"), r"latin.txt: byte 0xe9 at 3 is not UTF-8"),
    "latin.csv": ("text\ncafé".encode("latin-1"), r"latin.csv: byte 0xe9 at 8 is not UTF-8"),
    "utf16.csv": ("text\n文字".encode("utf-16"), r"utf16.csv: byte 0x00 at 3, which no text holds"),
    "no-mark.txt": ("text".encode("utf-16-le"), r"no-mark.txt: byte 0x00 at 1, which no text holds"),
    "a.jsonl.gz": (b"\x1f\x8b\x08\x01", r"a.jsonl.gz: byte 0x8b at 1 is not UTF-8; give .* not compressed"),
    "cut.jsonl": (b'{"text": "a"}\n{"text": "b', r"cut.jsonl: line 2: not JSON"),
    "slip.json": (b'[\n{"text": "a"},\n{"text" "b"}\n]', r"slip.json: not JSON .*: line 3 column"),
    "empty.jsonl": (b"", r"empty.jsonl: not JSON"),
    "null.jsonl": (b'{"text": "a"}\n{"text": null}', r"null.jsonl: line 2: text is empty; give a text"),
    "number.json": (b'[{"text": "a"}, {"text": 7}]', r"number.json: row 2: text is a number; give a text"),
    "missing.jsonl": (b'{"text": "a"}\n{"id": 2}', r"missing.jsonl: line 2: no field 'text' there; .* one of id"),
    "columns.json": (b'{"text": ["a", "b"]}', r"columns.json: row 1: text is a list"),
    "numbers.json": (b"[1, 2]", r"numbers.json: row 1: a number; give an object with a field"),
    "half.json": (b'["\\ud800"]', r"half.json: row 1 holds half of a character"),
    "deep.json": (b"[" * 100_000, r"deep.json: not JSON"),
    "ragged.csv": (b"id,text\n1,a\n2,b,c\n", r"ragged.csv: not a table that can be read \(.*\); part .* by commas"),
    "semicolons.csv": (b"id;text\n1;a, b\n", r"^\S+: not a table that can be read [^\n]*$"),
    "zeros.txt.gz": (b"\x1f\x8b\x08\x00", r"byte 0x00 at 3, which no text holds; give text in UTF-8, not compressed"),
    "short.csv": (b"id,text\n1,a\nb\n", r"short.csv: row 2: text is empty"),
    "other.csv": (b"id;text\n1;a\n", r"other.csv: which field holds the text\? .* fields: id;text"),
    "broken.parquet": (b"PAR1 and no more", r"broken.parquet: not a Parquet file that can be read"),
    "misnamed.txt": (b'{"text": "a"}\n{"text": "b"}\n', r"misnamed.txt: every line is JSON; name it .jsonl"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_named(name: str, tmp_path: Path) -> None:
    content, message = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        local_documents(tmp_path / name, None)


def test_a_folder_of_several_kinds_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Text.")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "b.jsonl").write_text('{"text": "More."}')
    with pytest.raises(InputError, match=r"\.jsonl and \.txt files there; give one of them"):
        local_documents(tmp_path, None)
    with pytest.raises(InputError, match=r"plain text has no field 'text'"):
        local_documents(tmp_path / "a.txt", "text")
    with pytest.raises(InputError, match=r"empty: no text there; give a text file, or a folder of them"):
        local_documents(tmp_path / "empty", None)
