"""Laws on one table, held against each other by what they say of groups of rows they were not fitted to."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from qidbayes.errors import DiagnosticsWarning, InputError
from qidbayes.law import Law, load_law
from qidbayes.posterior.fit import Fit, IdentificationWarning
from qidbayes.posterior.likelihood import Unit
from qidbayes.posterior.stack import Stack
from qidbayes.progress import Progress, shows_progress
from qidbayes.score.backtest import SPLITS, Backtest, LawLike, backtest
from qidbayes.score.loo import Loo, leave_one_out
from qidbayes.score.points import IDENTITY, aggregate
from qidbayes.score.stacking import stacking_weights
from qidbayes.table.frames import Table
from qidbayes.table.given import as_table

_ROW = ("split", "fold", *IDENTITY)


@dataclass(frozen=True)
class Comparison:
    """What a comparison found.

    Attributes
    ----------
    table
        A row a law, the best first: ``law``; ``weight``, by stacking on the held-out points; ``log_density`` (nats a
        held-out point) with ``behind``, what is missing to the best, and ``behind_se``, its standard error over
        training runs; ``coverage_90``, ``log_width_90``, ``crps``, ``bias``; all null for a law that does not answer
        for every held-out point. Then the log density in each split, null where some of it is not answered; and last
        the log density by PSIS of left-out checkpoints, ``loo_checkpoint``, and rows, ``loo_row``, with ``loo_bad``:
        the share of checkpoints whose Pareto k is too high (null where rows have no logarithm).
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
        """The stacking weight of each law that answers for every held-out point."""
        return dict(self.table.select("law", "weight").drop_nulls().iter_rows())

    def stack(self) -> Stack:
        """Return the mixture of the laws' fits by their stacking weights."""
        weights = self.weights
        return Stack([self.fits[name] for name in weights], list(weights.values()))


@shows_progress("fitting", "preparing the folds")
def compare(
    table: Table,
    laws: Sequence[LawLike],
    splits: str | Sequence[str] = SPLITS,
    *,
    random_seed: int = 0,
    jobs: int = 1,
    progress: Progress | bool | None = None,
) -> Comparison:
    """Compare laws by leaving groups of rows out, and weigh them by stacking.

    Grouped scores stand first. Leaving one row or checkpoint out is cheaper, but its neighbours on both sides stay in
    the fit, and their errors are its errors: that flatters every law, and the flexible ones most.

    Parameters
    ----------
    table
        Measurements, of any form that `read_table` takes.
    laws
        Two or more, by name, file or as `Law`, of one response.
    splits, random_seed, jobs, progress
        As in `backtest`.

    Raises
    ------
    InputError
        If there are fewer than two laws, or none that answers for every held-out point; and as `backtest` and `fit` do.

    Examples
    --------
    >>> from qidbayes.table import load_table
    >>> from qidbayes.law import load_law
    >>> laws = [load_law(name).with_noise(discrepancy="none") for name in ("unified", "per-bit")]
    >>> found = compare(load_table("pythia"), laws, "tokens > 100B")
    >>> found.table["law"].to_list()
    ['unified', 'per-bit']
    """
    from qidbayes.infer.design import design
    from qidbayes.infer.fit import fit

    if isinstance(laws, str) or len(laws) < 2:
        raise InputError("give at least two laws to compare")
    table = as_table(table, "table")
    for law in laws:
        design(table, law if isinstance(law, Law) else load_law(law))
    folds = 0

    def tell(done: int, total: int) -> None:
        if callable(progress):
            progress(done, total)

    def tell_fold(done: int, total: int) -> None:
        nonlocal folds
        folds = total
        tell(done, total + len(laws))

    found = backtest(table, laws, splits, random_seed=random_seed, jobs=jobs, progress=tell_fold)
    rows, density = _answered(found)
    complete = [name for name in found.laws if np.isfinite(density[name]).all()]
    if not complete:
        raise InputError("no law answers for every held-out point; choose other splits (a fold's note says why)")
    every = np.stack([density[name] for name in complete], axis=1)
    weights = dict(zip(complete, map(float, stacking_weights(every)), strict=True))
    best = every[:, every.mean(axis=0).argmax()]
    fits, told = {}, []
    for done, (name, law) in enumerate(found.laws.items(), start=1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", IdentificationWarning)
            fits[name] = fit(table, law, random_seed=random_seed, progress=False)
            left_out = _leave_one_out(fits[name])
        tell(folds + done, folds + len(laws))
        _say_what_failed(name, fits[name])
        behind = best - density[name] if name in complete else None
        told.append(
            {
                "law": name,
                "weight": weights.get(name),
                "behind": None if behind is None else float(behind.mean()),
                "behind_se": None if behind is None else _clustered_se(behind, rows["model"]),
                "loo_checkpoint": left_out["checkpoint"].log_density if left_out else None,
                "loo_row": left_out["row"].log_density if left_out else None,
                "loo_bad": left_out["checkpoint"].bad if left_out else None,
            }
        )
    scores = aggregate(found.points, ["law"]).drop("points", "coverage_50", "coverage_80", "coverage_95")
    whole = rows.group_by("split").len()
    each = aggregate(found.points, ["law", "split"]).join(whole, on="split").filter(pl.col("points") == pl.col("len"))
    by_split = each.pivot(
        "split", index="law", values="log_density", on_columns=rows["split"].unique(maintain_order=True)
    )
    partial = pl.col("law").is_in(complete)
    numbers = [pl.when(partial).then(c).alias(c) for c in scores.columns if c != "law"]
    joined = (
        pl.DataFrame(told, infer_schema_length=None)
        .join(scores.with_columns(numbers), on="law", how="left")
        .join(by_split, on="law", how="left")
        .sort("log_density", descending=True, nulls_last=True, maintain_order=True)
    )
    first, last = ["law", "weight", "log_density", "behind", "behind_se"], ["loo_checkpoint", "loo_row", "loo_bad"]
    return Comparison(joined.select(*first, pl.exclude(*first, *last), *last), found, fits)


def _answered(found: Backtest) -> tuple[pl.DataFrame, dict[str, np.ndarray]]:
    """Return every held-out point, and its log density under each law: NaN where the law does not answer."""
    rows = found.points.select(_ROW).unique(maintain_order=True)
    density = {}
    for name in found.laws:
        own = found.points.filter(pl.col("law") == name).select(*_ROW, own_log_density="log_density")
        joined = rows.join(own, on=_ROW, how="left", nulls_equal=True, maintain_order="left")
        density[name] = joined["own_log_density"].fill_null(np.nan).to_numpy()
    return rows, density


def _leave_one_out(fit: Fit) -> dict[Unit, Loo] | None:
    try:
        return leave_one_out(fit)
    except InputError:  # rows that have no logarithm
        return None


def _say_what_failed(name: str, fit: Fit) -> None:
    for problem in fit.diagnostics.problems():
        text = f"leave-one-out and the stack rest on a fit of {name} that is not to be trusted: {problem}"
        warnings.warn(text, DiagnosticsWarning, stacklevel=3)


def _clustered_se(difference: np.ndarray, runs: pl.Series) -> float:
    """Return the standard error of a mean whose terms are independent between training runs only."""
    sums = pl.DataFrame({"run": runs, "d": difference - difference.mean()}).group_by("run").agg(pl.col("d").sum())["d"]
    count = len(sums)
    if count < 2:
        return float("nan")
    return float(np.sqrt((sums.to_numpy() ** 2).sum() * count / (count - 1)) / len(difference))
