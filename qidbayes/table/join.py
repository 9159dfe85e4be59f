"""Several measurement tables as one."""

from collections.abc import Sequence

import polars as pl

from qidbayes.errors import InputError
from qidbayes.table import cells
from qidbayes.table.columns import CELL
from qidbayes.table.problems import refuse
from qidbayes.table.schema import validate


def join_tables(*frames: pl.DataFrame) -> pl.DataFrame:
    """Put tables under one another, and refuse cells that two of them hold.

    Raises
    ------
    InputError
        If there is no table, one breaks the schema, or two clash: which tables (`table 1`, `table 2`, …) and cells.

    Examples
    --------
    >>> point = {"model": "m", "n_params": 1e9, "tokens": 2e11, "method": "gptq", "bits": 4, "qid": 0.1}
    >>> mine, theirs = pl.DataFrame({"suite": "mine", **point}), pl.DataFrame({"suite": "theirs", **point})
    >>> join_tables(mine, theirs)["suite"].to_list()
    ['mine', 'theirs']
    """
    names = [f"table {i}" for i in range(1, len(frames) + 1)]
    return join_named([(name, validate(frame, name)) for name, frame in zip(names, frames, strict=True)])


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
