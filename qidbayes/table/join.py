"""Several measurement tables as one."""

from collections.abc import Sequence

import polars as pl

from qidbayes.errors import InputError
from qidbayes.table import cells
from qidbayes.table.columns import CELL, NAMES
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
