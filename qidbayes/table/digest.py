"""A name for what a table says."""

import hashlib
import json

import polars as pl

from qidbayes.table.columns import LATER
from qidbayes.table.schema import validate


def table_hash(frame: pl.DataFrame) -> str:
    """Return the sha256 (hexadecimal) of what a measurement table says.

    A table is a set of rows under named columns: neither the order of rows nor that of columns counts, nor the file
    it came from. Every value of every column does, to the last bit.

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
    table = validate(frame, "table")
    table = table.drop(name for name in LATER if table[name].null_count() == table.height)
    # JSON rather than CSV or Arrow: its bytes do not depend on the release of polars that wrote them.
    rows = sorted(json.dumps(row) for row in table.iter_rows())
    return hashlib.sha256("\n".join([json.dumps(table.columns), *rows]).encode()).hexdigest()
