"""The hash of a table's content, whatever the order of its rows and columns."""

import hashlib
import json

import polars as pl

from qidbayes.table.columns import FIRST_NAMES
from qidbayes.table.schema import validate


def table_hash(frame: pl.DataFrame) -> str:
    """Return the sha256 (hexadecimal) of what a measurement table says.

    A table is a set of rows under named columns: neither the order of rows nor that of columns counts, nor the file
    it came from. Every value of every column does, to the last bit. A column that tables have not had from the first
    counts where it says something, so that what was said before keeps its name.

    Raises
    ------
    InputError
        If the frame breaks the schema.

    Examples
    --------
    >>> point = {"model": "m", "n_params": 1e9, "tokens": 2e11, "method": "gptq", "qid": 0.1}
    >>> two = pl.DataFrame({**point, "bits": [3, 4]})
    >>> table_hash(two) == table_hash(two.reverse()), table_hash(two) == table_hash(two.head(1))
    (True, False)
    """
    return validated_hash(validate(frame, "table"))


def validated_hash(table: pl.DataFrame) -> str:
    """Return what `table_hash` does, of a table that has been validated already."""
    # JSON rather than CSV or Arrow: its bytes do not depend on the release of polars that wrote them.
    later = sorted(name for name in table.columns if name not in FIRST_NAMES and _says_something(table[name]))
    names = (*FIRST_NAMES, *later)
    rows = sorted(json.dumps(row) for row in table.select(names).iter_rows())
    return hashlib.sha256("\n".join([json.dumps(names), *rows]).encode()).hexdigest()


def _says_something(column: pl.Series) -> bool:
    empty = "" if column.dtype == pl.String else None
    return any(value not in (None, empty) for value in column.unique())
