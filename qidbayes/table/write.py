"""Measurement tables to files."""

import os
from collections.abc import Mapping
from pathlib import Path

from qidbayes.atomic import write_whole
from qidbayes.errors import InputError
from qidbayes.table.columns import SCHEMA_VERSION
from qidbayes.table.formulas import as_text
from qidbayes.table.frames import Frame, as_frame
from qidbayes.table.parquet import to_parquet
from qidbayes.table.read import VERSION_KEY, check_suffix
from qidbayes.table.schema import validate


def write_table(frame: Frame, path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None) -> None:
    """Write a measurement table to a `.csv` or `.parquet` file, whole or not at all.

    Parameters
    ----------
    frame
        Any frame the schema accepts; what is written is the full schema, and its further columns.
    path
        Its suffix chooses the format.
    metadata
        Kept in the Parquet file beside the schema's version and a digest of all that it says.

    Raises
    ------
    InputError
        If the frame breaks the schema, the file cannot be written, or it is a CSV file, which would lose `metadata`.

    Examples
    --------
    >>> import tempfile
    >>> import polars as pl
    >>> path = Path(tempfile.mkdtemp(), "mine.parquet")
    >>> point = {"model": "m", "n_params": 1e9, "tokens": 2e11, "method": "gptq", "bits": 4, "qid": 0.1}
    >>> write_table(point, path, {"plan": "nano"})
    >>> pl.read_parquet(path)["qid"].item(), pl.read_parquet_metadata(path)["plan"]
    (0.1, 'nano')
    """
    path = Path(path)
    check_suffix(path)
    as_csv = path.suffix.lower() == ".csv"
    if as_csv and metadata:
        raise InputError(f"{path}: a CSV file cannot hold metadata; write a .parquet file")
    table = validate(as_frame(frame, "frame"), str(path))
    if as_csv:
        write_whole(path, as_text(table).write_csv().encode())
    else:
        write_whole(path, to_parquet(table, {**(metadata or {}), VERSION_KEY: str(SCHEMA_VERSION)}))
