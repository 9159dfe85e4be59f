"""Find rows of one table that say they measured the same cell: model, checkpoint, quantization and data set."""

from collections.abc import Mapping

import polars as pl

from qidbayes.table.columns import CELL, NAMES
from qidbayes.table.problems import Problems


def describe(row: Mapping[str, object]) -> str:
    """Name a row's cell, without what is empty.

    Examples
    --------
    >>> describe(dict.fromkeys(CELL) | {"model": "mine", "tokens": 200000000000, "method": "gptq", "bits": 4.0})
    "model 'mine', tokens 200000000000, method 'gptq', bits 4.0"
    """
    return ", ".join(f"{name} {row[name]!r}" for name in CELL if row[name] not in (None, ""))


def check_once(table: pl.DataFrame, problems: Problems) -> None:
    """Note the rows whose cell an earlier row of the same table holds."""
    claims = table.with_row_index("its row").with_columns(problems.clean.alias("is clean"))
    # Where a value could not be read there is a null now, which must not count as another row's null.
    key = [*CELL, *(name for name in table.columns if name not in NAMES)]
    first = claims.select(pl.when("is clean").then("its row").min().over(key)).to_series()
    problems.add(
        (first < claims["its row"]) & problems.clean,
        "revision",
        lambda i: (
            f"the same cell as row {problems.rows[first[i]]} ({describe(table.row(i, named=True))}); "
            "keep one, or tell them apart by revision, dataset or settings"
        ),
    )
