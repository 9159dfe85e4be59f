"""GGUF files by the methods that older plans named them by: ``gguf-q4-k-m``."""

import warnings
from pathlib import Path

import polars as pl

from qidbayes.errors import TableWarning
from qidbayes.methods import BITS, OF_FILES, old_type


def with_old_types(table: pl.DataFrame, where: str) -> pl.DataFrame:
    """Return a table whose rows of methods like ``gguf-q4-k-m`` are of ``gguf``, as all GGUF files are.

    The type is then in their `settings`, its bits in `bits`, and `group_size` is empty. A `TableWarning` says so.
    """
    types = {method: name for method in table["method"].drop_nulls().unique().sort() if (name := old_type(method))}
    if not types:
        return table
    method, example = next(iter(types.items()))
    more = f" (and {len(types) - 1} more such)" if len(types) > 1 else ""
    warnings.warn(
        f"{where}: method {method!r}{more} is read as {OF_FILES!r} with settings {example!r} and its {BITS[example]:g} "
        "bits a weight",
        TableWarning,
        skip_file_prefixes=(str(Path(__file__).parents[1]),),
    )
    found = pl.col("method").replace_strict(types, default=None, return_dtype=pl.String)
    besides = pl.when(pl.col("settings") != "").then(pl.col("settings"))
    now = {
        "method": pl.lit(OF_FILES),
        "bits": found.replace_strict(BITS, default=None, return_dtype=pl.Float64),
        "group_size": pl.lit(None, pl.Int64),
        "settings": pl.concat_str(found, besides, separator=", ", ignore_nulls=True),
    }
    return table.with_columns(
        pl.when(found.is_not_null()).then(value).otherwise(column).alias(column) for column, value in now.items()
    )
