"""The backtest that a saved fit carries: how bands have held, by how far outside the data they were asked."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from qidbayes.errors import InputError

_DAMAGED = "the fit's backtest is damaged; run `qidbayes backtest --fit` again"
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


@dataclass(frozen=True)
class Kept:
    """A backtest as a fit keeps it.

    Attributes
    ----------
    splits
        The rules by which rows were held out.
    beyond, pit
        For each held-out row the factor by which it lies outside the data, 1 inside, and the probability that its
        forecast gave to less; shape ``(rows,)``.
    """

    splits: tuple[str, ...]
    beyond: np.ndarray
    pit: np.ndarray


def read_backtest(saved: Any) -> Kept:
    """Return what `kept_backtest` returned and a file kept.

    Raises
    ------
    InputError
        If it is damaged.
    """
    try:
        splits = tuple(saved["splits"])
        beyond, pit = (np.array(saved[name], dtype=float) for name in ("beyond", "pit"))
        sound = all(isinstance(split, str) for split in splits) and beyond.ndim == 1 and beyond.shape == pit.shape
        sound = sound and bool((np.isfinite(beyond) & (beyond > 0) & (pit >= 0) & (pit <= 1)).all())
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(_DAMAGED) from error
    if not sound:
        raise InputError(_DAMAGED)
    return Kept(splits, beyond, pit)


def held_share(saved: Kept, beyond: np.ndarray, lower: float, upper: float) -> tuple[pl.Series, pl.Series]:
    """Return the share of bands as far outside the data that held, and of how many, as ``held`` and ``held_of``.

    Parameters
    ----------
    saved
        The backtest.
    beyond
        The factor by which each question is outside the data; shape ``(queries,)``. Inside, up to twofold, up to
        fourfold and so on are told apart.
    lower, upper
        The tail probabilities of the band.

    Examples
    --------
    >>> saved = Kept((), np.array([1.0] * 20 + [1.5] * 20), np.array([0.5] * 20 + [0.5, 0.99] * 10))
    >>> held_share(saved, np.array([1.0, 1.9, 300.0]), 0.05, 0.95)[0].to_list()
    [1.0, 0.5, None]
    """
    inside = (saved.pit >= lower) & (saved.pit <= upper)
    here = _doublings(beyond)[:, None] == _doublings(saved.beyond)[None, :]
    count = here.sum(axis=1)
    share = (here & inside).sum(axis=1) / np.maximum(count, 1)
    known = [float(s) if n >= LEAST else None for s, n in zip(share, count, strict=True)]
    return pl.Series("held", known, dtype=pl.Float64), pl.Series("held_of", count, dtype=pl.Int64)


def _doublings(factor: np.ndarray) -> np.ndarray:
    # What is rounded to 1 is inside.
    return np.asarray(np.ceil(np.log2(np.maximum(factor, 1.0)) - 1e-3))
