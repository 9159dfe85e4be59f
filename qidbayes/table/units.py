"""Losses as others report them, perplexities and bits per byte, turned into nats per token."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from qidbayes.table.problems import Problems

_UNITS = ("ppl", "bits_per_byte")
_SIZES = ("n_eval_tokens", "n_eval_bytes")
# What columns are called elsewhere, and what to give in their place.
_ELSEWHERE = {
    ("family", "series", "collection"): "a family of models is a 'suite'",
    ("n", "n_nonembed", "non_embedding_params", "parameters", "n_parameters"): "non-embedding parameters go into "
    "'n_params'",
    ("d", "n_tokens", "train_tokens", "training_tokens"): "training tokens go into 'tokens'",
    ("p", "nbits", "n_bits", "wbits"): "the width goes into 'bits'",
    ("step", "checkpoint", "training_step"): "a checkpoint is named in 'revision', and has seen 'tokens'",
    ("bpw",): "bits per weight, with scales and zero points, go into 'bits_per_weight'",
    ("perplexity", "pplx"): "a perplexity of tokens goes into 'ppl' (and 'ppl_16bit')",
    ("word_perplexity", "word_ppl"): "in nats per token a loss is ln(word perplexity) · words / tokens",
    ("byte_perplexity", "byte_ppl"): "give 'bits_per_byte' (and 'bits_per_byte_16bit'), which is log2 of it",
    ("bpb", "bits_per_character", "bpc"): "bits per byte go into 'bits_per_byte' (and 'bits_per_byte_16bit')",
    ("bits_per_token",): "in nats per token a loss is ln 2 · bits per token",
    ("nll", "cross_entropy", "ce_loss"): "losses in nats per token go into 'loss' (and 'loss_16bit')",
}


def hint(name: str) -> str | None:
    """Return what to give in the place of a column that is ours under another name, or a known unit of losses."""
    plain = name.strip().lower()
    for names, text in _ELSEWHERE.items():
        if any(plain in (known, f"{known}_16bit", f"{known}_fp16") for known in names):
            return text
    return _ELSEWHERE["perplexity", "pplx"] if "ppl" in plain.split("_") and plain not in _UNITS else None


def converted(table: pl.DataFrame, others: Sequence[pl.Series], problems: Problems) -> pl.DataFrame:
    """Return the table with its losses filled in from other units.

    Parameters
    ----------
    table
        The columns of the schema.
    others
        Those of `OTHER_UNITS` that were given.
    problems
        Gets a line for each row that says a loss twice, or not all that its conversion takes.
    """
    given = pl.DataFrame([table["n_eval_tokens"], *others])
    for loss in ("loss_16bit", "loss"):
        for unit in _UNITS:
            name = f"{unit}{loss.removeprefix('loss')}"
            if name in given.columns:
                table = table.with_columns(_one(table[loss], given[name], _in_nats(given, name, problems), problems))
    return table


def _in_nats(given: pl.DataFrame, name: str, problems: Problems) -> pl.Series:
    if name.startswith("ppl"):
        return given[name].log()
    for size in _SIZES:
        missing = given[size].is_null() if size in given.columns else pl.repeat(True, given.height, eager=True)
        problems.add(
            given[name].is_not_null() & missing & problems.clean,
            size,
            lambda _: f"empty; in nats per token a loss is {name} · ln 2 · n_eval_bytes / n_eval_tokens: give both",
        )
    if not set(_SIZES) <= set(given.columns):
        return pl.repeat(None, given.height, dtype=pl.Float64, eager=True)
    return given[name] * float(np.log(2.0)) * given["n_eval_bytes"] / given["n_eval_tokens"]


def _one(loss: pl.Series, raw: pl.Series, nats: pl.Series, problems: Problems) -> pl.Series:
    """Return the loss where it was given, else what another unit says; a row says it once."""
    problems.add(
        loss.is_not_null() & nats.is_not_null() & problems.clean,
        raw.name,
        lambda i: f"{raw[i]!r} is not accepted; its {loss.name} is {loss[i]:.6g} nats per token already; keep one",
    )
    return loss.fill_null(nats).alias(loss.name)
