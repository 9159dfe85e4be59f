"""Several measurement tables as one."""

from collections.abc import Sequence

import polars as pl

from qidbayes.errors import InputError
from qidbayes.table import cells
from qidbayes.table.columns import CELL
from qidbayes.table.problems import refuse


def join_named(tables: Sequence[tuple[str, pl.DataFrame]]) -> pl.DataFrame:
    """Join tables that have been validated, calling each by the name that comes with it."""
    if not tables:
        raise InputError("no tables to join; give at least one")
    claims = pl.concat(frame.select(CELL).with_columns(pl.lit(name).alias("table")) for name, frame in tables)
    clashes = claims.group_by(CELL, maintain_order=True).agg("table").filter(pl.col("table").list.len() > 1)
    if clashes.height:
        refuse(
            "the tables clash",
            [
                f"{' and '.join(clash['table'])} both hold {cells.describe(clash)}; keep one, or rename a suite"
                for clash in clashes.iter_rows(named=True)
            ],
        )
    # Further columns need not be in all of them.
    return pl.concat((frame for _, frame in tables), how="diagonal")
