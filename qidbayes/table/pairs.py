"""Runs before and after quantization that stand in rows of their own, brought together."""

import polars as pl

CONTEXT = ("suite", "model", "revision", "tokens", "dataset", "seq_len", "n_eval_tokens")
"""Two rows that agree on all of these evaluated one checkpoint on one text in windows of one length."""
_16BIT = ("fp16", "bf16", "f16", "float16", "bfloat16", "16bit", "16-bit")


def paired(table: pl.DataFrame) -> pl.DataFrame:
    """Return a table in which rows with a `loss` alone have the 16-bit loss of the row of method `none` beside them.

    A 16-bit run may be called `fp16`, `bf16`, … too, and its loss may stand in `loss`. Where several rows of method
    `none` give different losses for one context none of them is taken.

    Examples
    --------
    >>> from qidbayes.table.schema import validate
    >>> runs = {"method": ["fp16", "gptq"], "bits": [16, 4], "ppl": [5.47, 5.61]}
    >>> table = validate(pl.DataFrame({"model": "m", "n_params": 6.5e9, "tokens": 1e12} | runs), "t")
    >>> table.select("method", pl.col("loss_16bit").round(4), pl.col("qid").round(4)).rows()
    [('none', 1.6993, None), ('gptq', 1.6993, 0.0253)]
    """
    alone = pl.col("loss").is_not_null() & pl.col("loss_16bit").is_null() & pl.col("qid").is_null()
    table = table.with_columns(
        pl.when(pl.col("method").is_in(_16BIT) & (pl.col("bits") == 16))
        .then(pl.lit("none"))
        .otherwise("method")
        .alias("method")
    )
    before = pl.col("method") == "none"
    table = table.with_columns(
        pl.when(before & alone).then("loss").otherwise("loss_16bit").alias("loss_16bit"),
        pl.when(before & alone).then(None).otherwise("loss").alias("loss"),
    )
    if table.filter(alone).is_empty():
        return table
    bases = (
        table.filter(before & pl.col("loss_16bit").is_not_null())
        .group_by(CONTEXT)
        .agg(pl.col("loss_16bit").first().alias("theirs"), pl.col("loss_16bit").n_unique().alias("different"))
        .filter(pl.col("different") == 1)
    )
    found = table.select(CONTEXT).join(bases, on=CONTEXT, how="left", nulls_equal=True, maintain_order="left")
    return table.with_columns(pl.when(alone).then(found["theirs"]).otherwise("loss_16bit").alias("loss_16bit"))
