"""Laws on one table, held against each other by what they say of groups of rows they were not fitted to."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from qidbayes.errors import InputError
from qidbayes.posterior.fit import Fit, IdentificationWarning
from qidbayes.posterior.stack import Stack
from qidbayes.score.backtest import SPLITS, Backtest, LawLike, backtest
from qidbayes.score.loo import leave_one_out
from qidbayes.score.points import aggregate
from qidbayes.score.stacking import stacking_weights

_ROW = ("split", "fold", "suite", "model", "revision", "n_params", "tokens", "method", "bits", "group_size", "dataset")


@dataclass(frozen=True)
class Comparison:
    """What a comparison found.

    Attributes
    ----------
    table
        A row a law, the best first: ``law``; ``weight``, by stacking on the held-out points; ``log_density`` (nats a
        held-out point) with ``behind``, what is missing to the best, and ``behind_se``, its standard error over
        training runs; ``coverage_90``, ``log_width_90``, ``crps``, ``bias``; the log density in each split; and last
        the log density by PSIS of left-out checkpoints, ``loo_checkpoint``, and rows, ``loo_row``, with ``loo_bad``:
        the share of checkpoints whose Pareto k is too high.
    backtest
        The held-out points and scores.
    fits
        Each law fitted to the whole table.
    """

    table: pl.DataFrame
    backtest: Backtest
    fits: Mapping[str, Fit]

    @property
    def weights(self) -> dict[str, float]:
        """The stacking weight of each law."""
        return dict(self.table.select("law", "weight").iter_rows())

    def stack(self) -> Stack:
        """Return the mixture of the laws' fits by their stacking weights."""
        return Stack(list(self.fits.values()), [self.weights[name] for name in self.fits])


def compare(
    table: pl.DataFrame,
    laws: Sequence[LawLike],
    splits: str | Sequence[str] = SPLITS,
    *,
    random_seed: int = 0,
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Compare laws by leaving groups of rows out, and weigh them by stacking.

    Grouped scores stand first. Leaving one row or checkpoint out is cheaper, but its neighbours on both sides stay in
    the fit, and their errors are its errors: that flatters every law, and the flexible ones most.

    Parameters
    ----------
    table
        Measurements, as `load_table` and `read_table` return them.
    laws
        Two or more, by name, file or as `Law`, of one response.
    splits, random_seed, jobs, progress
        As in `backtest`. Only points that every law answers count.

    Raises
    ------
    InputError
        If there are fewer than two laws, or no held-out point that all answer; and as `backtest` and `fit` do.

    Examples
    --------
    >>> from qidbayes.table import load_table
    >>> found = compare(load_table("pythia"), ["unified", "per-bit"], "tokens > 100B")
    >>> found.table["law"].to_list()
    ['unified', 'per-bit']
    """
    from qidbayes.infer.fit import fit

    if isinstance(laws, str) or len(laws) < 2:
        raise InputError("give at least two laws to compare")
    found = backtest(table, laws, splits, random_seed=random_seed, jobs=jobs, progress=progress)
    for name in found.laws:
        if name not in found.points["law"]:
            why = found.scores.filter(pl.col("law") == name)["note"][0]
            raise InputError(f"law {name!r} answers for no held-out point ({why}); leave it out")
    common, density = _answered_by_all(found)
    weights = dict(zip(found.laws, stacking_weights(density), strict=True))
    best = density[:, density.mean(axis=0).argmax()]
    behind = {name: best - column for name, column in zip(found.laws, density.T, strict=True)}
    fits, rows = {}, []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IdentificationWarning)
        for name, law in found.laws.items():
            fits[name] = fit(table, law, random_seed=random_seed)
            left_out = leave_one_out(fits[name])
            rows.append(
                {
                    "law": name,
                    "weight": float(weights[name]),
                    "behind": float(behind[name].mean()),
                    "behind_se": _clustered_se(behind[name], common["model"]),
                    "loo_checkpoint": left_out["checkpoint"].log_density,
                    "loo_row": left_out["row"].log_density,
                    "loo_bad": left_out["checkpoint"].bad,
                }
            )
    points = found.points.join(common, on=_ROW, how="semi", nulls_equal=True)
    scores = aggregate(points, ["law"]).drop("coverage_50", "coverage_80", "coverage_95")
    each = aggregate(points, ["law", "split"]).pivot("split", index="law", values="log_density")
    last = ["loo_checkpoint", "loo_row", "loo_bad"]
    joined = scores.join(pl.DataFrame(rows), on="law").join(each, on="law").sort("log_density", descending=True)
    first = ["law", "weight", "points", "log_density", "behind", "behind_se"]
    return Comparison(joined.select(*first, pl.exclude(*first, *last), *last), found, fits)


def _answered_by_all(found: Backtest) -> tuple[pl.DataFrame, np.ndarray]:
    """Return the held-out points every law answers for, and their log densities; shape ``(points, laws)``."""
    columns = [f"log_density {i}" for i in range(len(found.laws))]  # a law may be called as a column is
    wide = None
    for name, column in zip(found.laws, columns, strict=True):
        own = found.points.filter(pl.col("law") == name).select(*_ROW, pl.col("log_density").alias(column))
        wide = own if wide is None else wide.join(own, on=_ROW, nulls_equal=True, maintain_order="left")
    if wide is None or wide.is_empty():
        raise InputError("there is no held-out point that every law answers for; choose other splits")
    return wide.select(_ROW), wide.select(columns).to_numpy()


def _clustered_se(difference: np.ndarray, runs: pl.Series) -> float:
    """Return the standard error of a mean whose terms are independent between training runs only."""
    sums = pl.DataFrame({"run": runs, "d": difference - difference.mean()}).group_by("run").agg(pl.col("d").sum())["d"]
    count = len(sums)
    if count < 2:
        return float("nan")
    return float(np.sqrt((sums.to_numpy() ** 2).sum() * count / (count - 1)) / len(difference))
