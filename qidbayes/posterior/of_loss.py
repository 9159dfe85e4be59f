"""What a law of the loss after quantization says of QiD and of the 16-bit loss."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from qidbayes.errors import InputError
from qidbayes.law.law import Law
from qidbayes.posterior import query
from qidbayes.posterior.constants import Curve
from qidbayes.posterior.joint import joint
from qidbayes.seeds import Stream, generator

if TYPE_CHECKING:
    from qidbayes.posterior.answers import Kind
    from qidbayes.posterior.posterior import Posterior

TWO_ERRORS = (
    "this QiD is a difference of two losses, each with an error of its own; a QiD measured on one text has less, so "
    "that the band is too wide for it"
)


def not_quantized(
    law: Law, queries: pl.DataFrame | None, values: Mapping[str, Any]
) -> tuple[pl.DataFrame | None, Mapping[str, Any]]:
    """Return a question about models that were not quantized: with the bits that the law gives them.

    Raises
    ------
    InputError
        If the law does not give them any, or the question has bits of its own.
    """
    bits = law.bits_unquantized
    if queries is not None:
        return as_unquantized(queries, law), values
    if values.get("bits") is not None:
        raise InputError("a 16-bit loss is of no bit width; leave bits out")
    return None, {**values, "bits": bits}


def as_unquantized(frame: pl.DataFrame, law: Law) -> pl.DataFrame:
    """Return the same checkpoints, not quantized: rows of method ``none``."""
    named = {"method": pl.lit("none"), "group_size": pl.lit(None, pl.Int64)}
    own = {name: value for name, value in named.items() if name in frame.columns}
    return frame.with_columns(bits=pl.lit(float(law.bits_unquantized)), **own)


def qid_draws(fit: "Posterior", curve: Curve, frame: pl.DataFrame, kind: "Kind") -> np.ndarray:
    """Return draws of QiD: the loss after quantization less that of the same checkpoint before; ``(draws, questions)``.

    Of measurements, the two share the effects of their run and checkpoint; each has an error of its own. A measured
    QiD is paired, on the same text, and has less: what a law of the loss knows of errors is too much for it.

    Parameters
    ----------
    fit
        The draws to answer with.
    curve
        Its law with their constants.
    frame
        The questions, nats per token.
    kind
        As in `Fit.predict`.
    """
    if kind == "response_params":
        return qid_of_law(curve, frame)
    both = pl.concat([frame.with_columns(pl.col("bits").cast(pl.Float64)), as_unquantized(frame, fit.law)])
    pairs = both[np.arange(2 * frame.height).reshape(2, -1).T.ravel()]
    found = joint(fit, curve, pairs, blocks=frame.height)
    root = np.linalg.cholesky(found.covariance)
    deviates = generator(int(fit.attributes["random_seed"]), Stream.NEW_MEASUREMENTS).standard_normal((len(root), 1, 2))
    log_loss = found.mean + np.einsum("dbij,dbj->dbi", root, np.broadcast_to(deviates, (*root.shape[:2], 2)))
    return np.asarray(np.exp(log_loss[..., 0]) - np.exp(log_loss[..., 1]))


def qid_of_law(curve: Curve, frame: pl.DataFrame) -> np.ndarray:
    """Return QiD by a law's equation alone; shape ``(draws, questions)``, nats per token."""
    log_loss = [_log_loss(curve, one) for one in (frame, as_unquantized(frame, curve.law))]
    return np.asarray(np.exp(log_loss[0]) - np.exp(log_loss[1]))


def _log_loss(curve: Curve, frame: pl.DataFrame) -> np.ndarray:
    asked = query.build(curve, frame, {})
    found = curve.log_response(asked.log_covariates, asked.index)
    return np.broadcast_to(found, (len(found), frame.height))
