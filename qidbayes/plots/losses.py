"""16-bit loss and loss after quantization of the same checkpoints: what the figures of both share."""

from dataclasses import replace

import polars as pl

from qidbayes.errors import InputError
from qidbayes.noise.coordinates import KIND
from qidbayes.plots import along, caption
from qidbayes.posterior.fit import Fit

WHOLE = 16.0
"""Bits of a weight that was not quantized."""
_CHECKPOINT = ["model", "revision", "n_params", "tokens", "dataset"]


def together(fit: Fit, loss_16bit: Fit | None, figure: str) -> tuple[Fit, Fit]:
    """Return the fit with a 16-bit law beside it, and that one; refuse laws that have no curves against tokens."""
    base = loss_16bit or fit.loss_16bit
    if base is None:
        raise InputError(
            f"{figure} also needs a fit of the 16-bit loss: of law 'kaplan-16bit' as loss_16bit, "
            f"or one of law 'joint' that holds both; law {fit.law.name!r} says nothing of it"
        )
    along.check_law(fit, figure, "tokens")
    along.check_law(base, figure, "tokens", "loss_16bit")
    return replace(fit, loss_16bit=base), base


def points(both: Fit, base: Fit, table: pl.DataFrame | None, figure: str) -> pl.DataFrame:
    """Return the checkpoints' `loss_16bit` and `loss` (nats per token): the table's, or those that were fitted."""
    if table is None:
        found = both.data.join(base.data.select(*_CHECKPOINT, "loss_16bit"), on=_CHECKPOINT, nulls_equal=True)
        found = found.with_columns(loss=pl.col("loss_16bit") + pl.col("qid"))
        if found.is_empty():
            raise InputError(f"{figure}: the two laws were fitted to no common checkpoint; give a table")
    else:
        found = along.measured(along.measured(table, "qid"), "loss_16bit")
    found = along.mark_fitted([both], found, ["bits", *KIND], "loss")
    along.one_kind(found, figure, ["model", "bits"])
    return found


def before(points: pl.DataFrame) -> pl.DataFrame:
    """Return the points' checkpoints before quantization: of 16 bits, with `loss` the 16-bit loss."""
    once = points.unique(["n_params", "model", "revision", "tokens"], maintain_order=True)
    return once.with_columns(bits=pl.lit(WHOLE), loss=pl.col("loss_16bit"))


def note(base: Fit) -> str:
    """Return what the small print says of the 16-bit law."""
    fitted = caption.fitted(base)
    return f"16-bit loss: {fitted[0].lower()}{fitted[1:]}"
