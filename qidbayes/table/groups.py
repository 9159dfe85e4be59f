"""Which rows belong together: groups by columns, and by checkpoint."""

from collections.abc import Sequence

import polars as pl

CHECKPOINT = "checkpoint"


def dimension(by: Sequence[str]) -> str:
    """Return what a combination of grouping columns is called: ``model:bits``.

    Examples
    --------
    >>> dimension(["model", "bits"])
    'model:bits'
    """
    return ":".join(by)


def columns(by: Sequence[str]) -> list[str]:
    """Return the table's columns that a combination of groups reads."""
    found = (c for g in by for c in (("model", "revision", "tokens") if g == CHECKPOINT else (g,)))
    return list(dict.fromkeys(found))


def labels(frame: pl.DataFrame, by: Sequence[str]) -> pl.Series:
    """Return each row's group label: the columns' values joined by `` | ``.

    A checkpoint is one revision of one model, or one count of tokens where the revision has no name.

    Examples
    --------
    >>> frame = pl.DataFrame({"model": ["a", "b"], "bits": [4.0, 1.58]})
    >>> labels(frame, ["model", "bits"]).to_list()
    ['a | 4', 'b | 1.58']
    """
    return frame.select(pl.concat_str([_label(frame, group) for group in by], separator=" | ").alias("group"))["group"]


def _label(frame: pl.DataFrame, group: str) -> pl.Expr:
    if group == CHECKPOINT:
        tokens = pl.col("tokens").cast(pl.Float64).cast(pl.Int64).cast(pl.String).fill_null("unknown tokens")
        name = pl.when(pl.col("revision") == "").then(tokens).otherwise(pl.col("revision"))
        return pl.concat_str([pl.col("model"), name], separator=" @ ")
    if frame.schema[group].is_numeric():
        # 4.0 and 4 are one bit width.
        text = ["null" if value is None else f"{value:.15g}" for value in frame[group]]
        return pl.lit(pl.Series(group, text, dtype=pl.String))
    return pl.col(group).fill_null("null")
