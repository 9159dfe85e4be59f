"""The backtest that a saved fit carries: how bands have held, by how far outside the data they were asked."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from qidbayes.errors import InputError

LEAST = 20
"""The fewest held-out measurements that a share is told of."""


def kept_backtest(points: pl.DataFrame) -> dict[str, Any]:
    """Return what a fit keeps of a backtest's points, in JSON's types.

    A row that several splits hold out counts once for each, since each fit knew something else.
    """
    return {
        "splits": points["split"].unique(maintain_order=True).to_list(),
        "beyond": points["beyond"].round(4).to_list(),
        "pit": points["pit"].round(4).to_list(),
    }


def held_share(saved: Mapping[str, Any], beyond: np.ndarray, lower: float, upper: float) -> tuple[pl.Series, pl.Series]:
    """Return the share of bands as far outside the data that held, and of how many, as ``held`` and ``held_of``.

    Parameters
    ----------
    saved
        What `kept_backtest` returned.
    beyond
        The factor by which each question is outside the data; shape ``(queries,)``. Inside, up to twofold, up to
        fourfold and so on are told apart.
    lower, upper
        The tail probabilities of the band.

    Raises
    ------
    InputError
        If it is damaged.

    Examples
    --------
    >>> saved = {"beyond": [1.0] * 20 + [1.5] * 20, "pit": [0.5] * 20 + [0.5, 0.99] * 10}
    >>> held_share(saved, np.array([1.0, 1.9, 300.0]), 0.05, 0.95)[0].to_list()
    [1.0, 0.5, None]
    """
    try:
        tested, pit = np.array([saved["beyond"], saved["pit"]], dtype=float)  # of one length, or it raises
        inside = (pit >= lower) & (pit <= upper)
        here = _doublings(beyond)[:, None] == _doublings(tested)[None, :]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError("the fit's backtest is damaged; run `qidbayes backtest --fit` again") from error
    count = here.sum(axis=1)
    share = (here & inside).sum(axis=1) / np.maximum(count, 1)
    known = [float(s) if n >= LEAST else None for s, n in zip(share, count, strict=True)]
    return pl.Series("held", known, dtype=pl.Float64), pl.Series("held_of", count, dtype=pl.Int64)


def _doublings(factor: np.ndarray) -> np.ndarray:
    # What is rounded to 1 is inside.
    return np.asarray(np.ceil(np.log2(np.maximum(factor, 1.0)) - 1e-3))
