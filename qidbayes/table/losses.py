"""The three numbers of a cell, loss_16bit, loss and qid: any two give the third, and all three agree."""

import polars as pl

from qidbayes.table.problems import Problems

# Published values are read off figures to about 3e-6, and three of them meet here.
AGREEMENT = 1e-4  # nats per token


def complete(table: pl.DataFrame, problems: Problems) -> pl.DataFrame:
    """Fill in the third of loss_16bit, loss and qid; note the rows where they are too few or disagree."""
    _check_given(table, problems)
    filled = table.with_columns(
        pl.coalesce("loss_16bit", pl.col("loss") - pl.col("qid")).alias("loss_16bit"),
        pl.coalesce("loss", pl.col("loss_16bit") + pl.col("qid")).alias("loss"),
        pl.coalesce("qid", pl.col("loss") - pl.col("loss_16bit")).alias("qid"),
    )
    _check_filled(filled, problems)
    return filled


def _check_given(table: pl.DataFrame, problems: Problems) -> None:
    loss_16bit, loss, qid, base = table["loss_16bit"], table["loss"], table["qid"], table["method"] == "none"
    for given in (loss, qid):
        problems.add(
            base & given.is_not_null() & problems.clean,
            given.name,
            lambda _: "not empty; a row of method 'none' holds loss_16bit alone",
        )
    problems.add(
        ((loss - loss_16bit - qid).abs() > AGREEMENT) & problems.clean,
        "qid",
        lambda i: (
            f"{qid[i]!r} is not accepted; give loss - loss_16bit = {loss[i] - loss_16bit[i]:.6g}, "
            f"to within {AGREEMENT:g}"
        ),
    )


def _check_filled(table: pl.DataFrame, problems: Problems) -> None:
    loss_16bit, loss, qid = table["loss_16bit"], table["loss"], table["qid"]
    ok, base = table["status"] == "ok", table["method"] == "none"
    problems.add(
        ~(loss_16bit.is_finite() & loss.is_finite() & (loss_16bit > 0) & (loss > 0)) & problems.clean,
        "qid",
        lambda i: (
            f"{qid[i]!r} is not accepted; with loss_16bit {loss_16bit[i]:.6g} and loss {loss[i]:.6g} "
            "one is no finite loss above 0"
        ),
    )
    problems.add(
        ok & base & loss_16bit.is_null() & problems.clean,
        "loss_16bit",
        lambda _: "empty; a row of method 'none' needs the 16-bit loss",
    )
    problems.add(
        ok & ~base & qid.is_null() & problems.clean,
        "qid",
        lambda i: (
            "empty; give qid, or loss and loss_16bit, or a status other than ok with an error"
            if loss[i] is None
            else "empty; give loss_16bit (or ppl_16bit) too, or a row of method 'none' for the same suite, model, "
            "revision, tokens, dataset, seq_len and n_eval_tokens, with one 16-bit loss"
        ),
    )
    problems.add(
        ~ok & table["error"].is_null() & problems.clean,
        "error",
        lambda i: f"empty; a row of status {table['status'][i]!r} says what went wrong",
    )
