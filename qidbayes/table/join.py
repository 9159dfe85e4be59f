"""Several measurement tables as one."""

from collections.abc import Sequence

import polars as pl

from qidbayes.errors import InputError
from qidbayes.table import cells
from qidbayes.table.columns import CELL, NAMES
from qidbayes.table.problems import refuse


def join_named(tables: Sequence[tuple[str, pl.DataFrame]]) -> pl.DataFrame:
    """Join tables that have been validated, calling each by the name that comes with it."""
    if not tables:
        raise InputError("no tables to join; give at least one")
    joined = pl.concat([frame.with_columns(pl.lit(name).alias("of table")) for name, frame in tables], how="diagonal")
    key = [*CELL, *(name for name in joined.columns if name not in (*NAMES, "of table"))]
    clashes = joined.group_by(key, maintain_order=True).agg("of table").filter(pl.col("of table").list.len() > 1)
    if clashes.height:
        refuse(
            "the tables clash",
            [
                f"{' and '.join(clash['of table'])} both hold {cells.describe(clash)}; keep one, or rename a suite"
                for clash in clashes.iter_rows(named=True)
            ],
        )
    return joined.drop("of table")
