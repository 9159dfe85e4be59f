"""What a user says of runs: values for all of them, and a table of labels with a row for a file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from qidbayes.errors import InputError
from qidbayes.table import further
from qidbayes.table.columns import COLUMNS, OTHER_UNITS
from qidbayes.table.problems import Problems, refuse
from qidbayes.table.schema import read_column
from qidbayes.table.tidy import stripped

FILE = "file"
QUANTIZER = ("method", "bits", "bits_per_weight", "group_size", "settings")
"""The columns that say nothing of a 16-bit run."""
OF_RUN = ("model", "revision", "dataset", "seq_len", "n_eval_tokens", "n_eval_bytes")
"""The columns that labels put into a run beside those of its quantizer; others go into the table's rows."""
_MEASURED = {"loss_16bit", "loss", "qid", "qid_se", "ppl_16bit", "ppl", "bits_per_byte_16bit", "bits_per_byte"}
_SAYABLE = [column for column in (*COLUMNS, *OTHER_UNITS) if column.name not in _MEASURED]


@dataclass(frozen=True)
class Labels:
    """Values by column: `of_all` for every run, `of_file` for those of one file, which come before."""

    of_all: Mapping[str, Any]
    of_file: Mapping[str, Mapping[str, Any]]

    def of_one(self, file: str) -> Mapping[str, Any]:
        """Return what is said of a file's runs and of no others."""
        path = Path(file)
        return next((self.of_file[n] for n in (file, str(path), path.name, path.stem) if n in self.of_file), {})

    def of(self, file: str) -> dict[str, Any]:
        """Return what is said of a file's runs; a file is named by its path, its name, or its name without suffix."""
        return {**self.of_all, **self.of_one(file)}


def read_labels(values: Mapping[str, Any], table: pl.DataFrame | None, where: str) -> Labels:
    """Read what a user says of runs, by the rules of a table's columns.

    Parameters
    ----------
    values
        For all runs: a column's name and its value.
    table
        A row for a file, which `file` names; empty fields say nothing.
    where
        What messages call the table.

    Raises
    ------
    InputError
        If a column is unknown or measured, or a value is not accepted.

    Examples
    --------
    >>> labels = read_labels({"n_params": "7B"}, pl.DataFrame({"file": ["a.log"], "bits": [4]}), "labels.csv")
    >>> labels.of("logs/a.log")
    {'n_params': 7000000000, 'bits': 4.0}
    """
    of_all = _read(pl.DataFrame({name: [value] for name, value in values.items()}, strict=False), "values", 1)
    if table is None:
        return Labels(of_all[0] if of_all else {}, {})
    if FILE not in table.columns:
        raise InputError(f"{where}: column {FILE!r} is missing; give the name of each row's file")
    files = [str(file or "").strip() for file in table[FILE]]
    known: dict[str, int] = {}
    twice = [
        f"rows {known[file]} and {row}: {file!r} stands there twice; keep one"
        for row, file in enumerate(files, start=1)
        if known.setdefault(file, row) != row
    ]
    if twice:
        refuse(where, twice)
    rows = _read(table.drop(FILE), where, table.height)
    return Labels(of_all[0] if of_all else {}, dict(zip(files, rows, strict=True)))


def _read(frame: pl.DataFrame, where: str, rows: int) -> list[dict[str, Any]]:
    if not frame.width:
        return [{} for _ in range(rows)]
    lines = [f"column {name!r} is unknown; {meant}" for name in frame.columns if (meant := further.meant(name))]
    lines += [f"column {name!r} is what runs measured; leave it out" for name in frame.columns if name in _MEASURED]
    if lines:
        refuse(where, lines)
    problems = Problems(where, range(1, rows + 1))
    frame = stripped(frame)
    known = [read_column(frame, column, problems) for column in _SAYABLE if column.name in frame.columns]
    kept, aside = further.columns(frame, problems)
    problems.raise_if_any()
    further.tell(where, aside)
    said = pl.DataFrame([*known, *kept])
    return [{name: value for name, value in row.items() if value is not None} for row in said.iter_rows(named=True)]
