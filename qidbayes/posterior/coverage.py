"""Coverage of a fit's bands in the backtest that it carries, by how far outside the fitted rows they were asked.

`Backtest.attach` (in `qidbayes.score`) puts the backtest into the fit; `Fit.held` and `Fit.project` read it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from qidbayes.errors import InputError
from qidbayes.posterior.distance import INSIDE

LEAST_CHECKPOINTS, LEAST_RUNS = 10, 3
"""Of fewer held-out checkpoints, or of fewer training runs, no coverage is given."""

_DAMAGED = "the fit's backtest is damaged, or of an earlier version; run `qidbayes backtest --fit` again"


@dataclass(frozen=True)
class KeptBacktest:
    """What a fit keeps of a backtest: one entry for each held-out row of each split.

    Attributes
    ----------
    splits
        The rules that held rows out.
    outside
        How far outside the fitted rows each was, in the words of `qidbayes.posterior.distance.beyond`.
    pit
        The probability integral transform of each; shape ``(entries,)``.
    run, checkpoint
        The training run and the checkpoint of each, as numbers; shape ``(entries,)``.
    """

    splits: tuple[str, ...]
    outside: np.ndarray
    pit: np.ndarray
    run: np.ndarray
    checkpoint: np.ndarray

    @property
    def distances(self) -> list[str]:
        """How far outside rows were held out: inside first, then in the order in which they came."""
        return sorted(dict.fromkeys(self.outside.tolist()), key=lambda where: where != INSIDE)


def kept_backtest(points: pl.DataFrame) -> dict[str, Any]:
    """Return what a fit keeps of a backtest's points, in JSON's types.

    A row that several splits hold out has an entry for each, since each was predicted by another fit. Checkpoints and
    runs are counted once, however many splits hold them out; the standard error is computed over runs.
    """
    run = points.select(pl.struct("suite", "model").rank("dense")).to_series()
    checkpoint = points.select(pl.struct("suite", "model", "revision").rank("dense")).to_series()
    return {
        "splits": points["split"].unique(maintain_order=True).to_list(),
        "outside": points["outside"].to_list(),
        "pit": points["pit"].round(4).to_list(),
        "run": run.to_list(),
        "checkpoint": checkpoint.to_list(),
    }


def read_backtest(saved: Any) -> KeptBacktest:
    """Return what `kept_backtest` made.

    Raises
    ------
    InputError
        If it is damaged, or was kept by an earlier version.
    """
    try:
        # Of one length, or it raises.
        pit, run, checkpoint = np.array([saved["pit"], saved["run"], saved["checkpoint"]], dtype=float)
        outside = np.array([str(where) for where in saved["outside"]])
        splits = tuple(saved["splits"])
        sound = all(isinstance(split, str) for split in splits) and len(outside) == len(pit)
        sound = sound and bool(((pit >= 0) & (pit <= 1) & np.isfinite([run, checkpoint]).all(axis=0)).all())
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(_DAMAGED) from error
    if not sound:
        raise InputError(_DAMAGED)
    return KeptBacktest(splits, outside, pit, run, checkpoint)


def coverage(kept: KeptBacktest, outside: list[str], lower: float, upper: float) -> pl.DataFrame:
    """Return the coverage of bands asked as far outside the data, and of how many points, checkpoints and runs it is.

    Parameters
    ----------
    kept
        The backtest.
    outside
        How far outside each question is, in the words of `qidbayes.posterior.distance.beyond`.
    lower, upper
        The tail probabilities of the band.

    Returns
    -------
    polars.DataFrame
        ``held``, ``held_se``, ``held_of`` (points), ``held_checkpoints``, ``held_runs``; see `Fit.held`.

    Examples
    --------
    >>> run = np.repeat([1, 2, 3], 5)
    >>> pit = np.array([0.5] * 12 + [0.99] * 3)
    >>> kept = KeptBacktest(("tokens > 100B",), np.array(["inside"] * 15), pit, run, np.arange(15))
    >>> coverage(kept, ["inside", "tokens up to 2× above"], 0.05, 0.95).select("held", "held_of", "held_runs").rows()
    [(0.8, 15, 3), (None, 0, 0)]
    """
    inside = (kept.pit >= lower) & (kept.pit <= upper)
    rows: dict[str, dict[str, Any]] = {}
    for where in dict.fromkeys(outside):
        here = kept.outside == where
        runs, checkpoints = np.unique(kept.run[here]).size, np.unique(kept.checkpoint[here]).size
        enough = runs >= LEAST_RUNS and checkpoints >= LEAST_CHECKPOINTS
        rows[where] = {
            "held": float(inside[here].mean()) if enough else None,
            "held_se": standard_error(inside[here], kept.run[here]) if enough else None,
            "held_of": int(here.sum()),
            "held_checkpoints": checkpoints,
            "held_runs": runs,
        }
    counts = dict.fromkeys(("held_of", "held_checkpoints", "held_runs"), pl.Int64)
    schema = {"held": pl.Float64, "held_se": pl.Float64, **counts}
    return pl.DataFrame([rows[where] for where in outside], schema=schema, orient="row")


def standard_error(inside: np.ndarray, run: np.ndarray) -> float:
    """Return the standard error of a share whose rows are correlated within a run, and independent between runs.

    It is that of a ratio of sums over runs (Cochran 1977, *Sampling Techniques*, 2.11). Where all bands held, or none,
    the sums do not vary; there it is the standard deviation of Beta(runs + 1, 1), the posterior of a share after so
    many runs that all agree, from a uniform prior.

    Parameters
    ----------
    inside
        Whether each row's band held it.
    run
        Each row's run, as a number.
    """
    _, code = np.unique(run, return_inverse=True)
    count, held = np.bincount(code), np.bincount(code, inside)
    runs = len(count)
    share = held.sum() / count.sum()
    if share in (0.0, 1.0):
        return float(np.sqrt((runs + 1) / (runs + 3)) / (runs + 2))
    return float(np.sqrt(runs / (runs - 1) * np.square(held - share * count).sum()) / count.sum())
