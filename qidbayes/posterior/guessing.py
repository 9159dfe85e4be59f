"""Whether a quantized model is worse than guessing at random."""

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from qidbayes.errors import InputError
from qidbayes.posterior import query

if TYPE_CHECKING:
    from qidbayes.posterior.fit import Fit, Kind
    from qidbayes.posterior.point import Point

VOCABULARY = 128_256
"""The size of Llama 3's vocabulary, whose tokens the paper's losses are counted in."""


def against_guessing(
    frame: pl.DataFrame, draws: np.ndarray, loss_16bit: "Fit | Point | None", vocabulary: int, kind: "Kind"
) -> pl.DataFrame:
    """Return ``loss_16bit`` and ``worse_than_random`` for questions and their draws of QiD; see `Fit.project`.

    Raises
    ------
    InputError
        If `loss_16bit` is not of the 16-bit loss.
    """
    from qidbayes.posterior.point import Point, published

    base = loss_16bit or published("kaplan-16bit")
    if base.law.response != "loss_16bit":
        raise InputError(f"loss_16bit must come from a law of the 16-bit loss, not {base.law.name!r}")
    if isinstance(base, Point):
        loss = total = base.predict(frame.select(query.needs(base.law)))["median"].to_numpy()
    else:
        total = base.beside(frame, kind, len(draws))
        loss = np.median(total, axis=0)
    worse = (draws + total > np.log(vocabulary)).mean(axis=0)
    return pl.DataFrame({"loss_16bit": loss, "worse_than_random": worse})
