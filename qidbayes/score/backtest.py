"""Hold rows out by rule, fit the rest, and score what is said of the rows held out."""

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from qidbayes.errors import DiagnosticsWarning, InputError
from qidbayes.infer.design import used_rows
from qidbayes.law import Law, load_law
from qidbayes.law.read import law_from_dict
from qidbayes.posterior.coverage import kept_backtest
from qidbayes.posterior.fit import Fit
from qidbayes.progress import Progress, shows_progress
from qidbayes.score.forecasters import BASELINES, FORECASTERS, POSTERIOR
from qidbayes.score.parallel import each
from qidbayes.score.points import aggregate, score_points
from qidbayes.score.rules import every_fold
from qidbayes.table.frames import Table
from qidbayes.table.given import as_table

SPLITS = ("rolling tokens", "leave n_params")
"""What is held out if nothing is said: what comes later, and each size."""
KEYS = ("split", "fold", "law", "how")

type LawLike = str | os.PathLike[str] | Law


@dataclass(frozen=True)
class Backtest:
    """What a backtest found.

    Attributes
    ----------
    scores
        A row for each ``split``, ``fold``, ``law`` and ``how`` (``posterior`` or a baseline): ``train_rows``, the
        scores of `by`, ``left_out`` (held-out rows without a logarithm to score), ``failed_checks`` (of the sampler)
        and ``note``: what the fit's diagnostics say, or why the law cannot answer, in which case scores are null.
    points
        A row for each of those and each held-out measurement: what identifies it, the response, ``median`` and the
        central bands ``lower_90``, ``upper_90``, … (nats per token); ``pit``, ``log_density``, ``crps`` and
        ``log_error`` on the log scale; ``n_params_beyond``, ``tokens_beyond`` and ``bits_beyond``: the factors by
        which it lies outside the fitted rows; ``not_fitted``: which of its suite, method, group size and data set no
        fitted row has; ``outside``: all of it in words, by doublings, which `Fit.held` tells apart.
    laws
        The laws by their names.
    """

    scores: pl.DataFrame
    points: pl.DataFrame
    laws: dict[str, Law]

    def by(self, *columns: str) -> pl.DataFrame:
        """Return the scores of groups of points: ``by("split", "law", "how")`` puts the folds of a split together.

        Returns
        -------
        polars.DataFrame
            `columns`, then ``points``; ``coverage_50``, ``coverage_80``, ``coverage_90``, ``coverage_95``: the share
            of points in the central band; ``log_width_90``: the median of log(upper end / lower end) of the 90% band;
            ``crps``, of the log response; ``log_density``, the mean of nats a point, of the log response; ``bias``:
            the mean of log(measured / median).

        Raises
        ------
        InputError
            If the points have no such column.
        """
        unknown = [column for column in columns if column not in self.points.columns]
        if unknown or not columns:
            raise InputError(f"scores can be grouped by {', '.join(self.points.columns)}; not {', '.join(unknown)}")
        return aggregate(self.points, columns)

    def attach(self, fit: Fit) -> Fit:
        """Return a fit of one of the laws with this backtest, which `Fit.save` keeps and `held` and `project` tell of.

        Raises
        ------
        InputError
            If the backtest is not of the fit's law.
        """
        fingerprints = {name: law.fingerprint() for name, law in self.laws.items()}
        if fingerprints.get(fit.law.name) != fit.law.fingerprint():
            raise InputError(
                f"the backtest is of {', '.join(fingerprints)}, not of the law {fit.law.name!r} of this fit"
            )
        points = self.points.filter(pl.col("law") == fit.law.name, pl.col("how") == "posterior")
        return replace(fit, attributes={**fit.attributes, "backtest": kept_backtest(points)})


@shows_progress("fitting", "preparing the folds")
def backtest(
    table: Table,
    law: LawLike | Sequence[LawLike],
    splits: str | Sequence[str] = SPLITS,
    *,
    baselines: Sequence[str] = (),
    random_seed: int = 0,
    jobs: int = 1,
    progress: Progress | bool | None = None,
) -> Backtest:
    """Score a law by what it says of rows it was not fitted to.

    For each fold the law is fitted to the other rows with the default settings of `fit`, and the held-out rows are
    scored by its posterior predictive (kind ``"response"``, of the row's own model where that was fitted): a mixture
    of normals over the draws, whose density and distribution function are exact.

    Parameters
    ----------
    table
        Measurements, of any form that `read_table` takes.
    law
        A `Law`, the name of a shipped one, a TOML file, or several of these.
    splits
        Rules: ``"tokens > 100B"``, ``"n_params > 2B and tokens > 50B"``, ``"method = awq"``, ``"leave n_params"`` (a
        fold for each value), ``"rolling tokens"`` (the later half of the values in five blocks, each predicted from
        what is before it); ``"leave method seeing 6"`` fits six rows, drawn at random, of what is held out.
    baselines
        ``"independent"``: the same law and priors, no row sharing an error with another. ``"least-squares"``: the
        paper's method, with a band from 200 bootstrap resamples of the rows and each one's log residuals.
    random_seed
        The same seed gives the same scores on the same machine, whatever `jobs`.
    jobs
        Processes. With more than one, a script must start its work under ``if __name__ == "__main__":``.
    progress
        A bar shows how many fits are done, on a terminal and in a notebook; False shows none, True one elsewhere too.
        Or what is to be called with the fits done and their total.

    Raises
    ------
    InputError
        If a rule cannot be read, or leaves nothing to fit or to predict; if a law cannot be fitted to any fold.

    Examples
    --------
    >>> from qidbayes.table import load_table
    >>> from qidbayes.law import load_law
    >>> law = load_law("unified").with_noise(discrepancy="none")  # as a rule, leave it as it is
    >>> found = backtest(load_table("pythia"), law, "tokens > 100B")
    >>> scores = found.scores.row(0, named=True)
    >>> scores["fold"], scores["points"], 0.5 < scores["coverage_90"] < 0.7
    ('tokens > 100B', 108, True)
    """
    table = as_table(table, "table")  # before anything is fitted: a frame may hold a cell twice
    laws = _laws(law)
    for name in baselines:
        if name not in BASELINES:
            raise InputError(f"no baseline is called {name!r}; choose from {', '.join(BASELINES)}")
    tasks = [
        _Task(
            keys=dict(zip(KEYS, (fold.split, fold.name, name, how), strict=True)),
            train=table.filter(fold.train),
            held_out=table.filter(fold.held_out),
            law=declared.to_dict(),
            random_seed=random_seed,
        )
        for name, declared in laws.items()
        for fold in every_fold(table, splits, random_seed)
        for how in dict.fromkeys((POSTERIOR, *baselines))
    ]
    found = list(each(_run, tasks, jobs, progress if callable(progress) else None))
    points = [frame for _, frame in found if frame is not None]
    if not points:
        raise InputError(f"no fold could be scored; the first: {found[0][0]['note']}")
    every = pl.concat(points)
    runs = pl.DataFrame([row for row, _ in found], schema_overrides={"note": pl.String}, infer_schema_length=None)
    scores = runs.join(aggregate(every, KEYS), on=KEYS, how="left", maintain_order="left")
    last = ("left_out", "failed_checks", "note")
    return Backtest(scores.select(pl.exclude(last), *last), every, laws)


@dataclass(frozen=True)
class _Task:
    """One fit of one fold: everything a process needs, in types that travel."""

    keys: dict[str, str]
    train: pl.DataFrame
    held_out: pl.DataFrame
    law: dict[str, Any]
    random_seed: int


def _run(task: _Task) -> tuple[dict[str, Any], pl.DataFrame | None]:
    row = {**task.keys, "train_rows": task.train.height, "left_out": 0, "failed_checks": 0, "note": None}
    try:
        law = law_from_dict(task.law)
        held_out, row["left_out"] = _scorable(task.held_out, law)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DiagnosticsWarning)  # the note says it
            forecast = FORECASTERS[task.keys["how"]](task.train, law, task.random_seed)
            points = score_points(forecast.forecaster, task.train, held_out, law.response, task.random_seed)
    except InputError as error:  # such as a bit width the law has no constants for: a finding, not the end
        return {**row, "note": str(error)}, None
    named = [pl.lit(value).alias(key) for key, value in task.keys.items()]
    row["failed_checks"] = len(forecast.problems)
    return {**row, "note": "; ".join([*forecast.problems, *forecast.remarks]) or None}, points.select(*named, pl.all())


def _scorable(held_out: pl.DataFrame, law: Law) -> tuple[pl.DataFrame, int]:
    """Return the rows whose response has a logarithm, and how many have none."""
    used, _ = used_rows(held_out, law)
    positive = used.filter(pl.col(law.response) > 0)
    if positive.is_empty():
        raise InputError(f"no held-out row has a {law.response} above 0 to score")
    return positive, used.height - positive.height


def _laws(law: LawLike | Sequence[LawLike]) -> dict[str, Law]:
    several = [law] if isinstance(law, str | os.PathLike | Law) else list(law)
    laws = [one if isinstance(one, Law) else load_law(one) for one in several]
    names = [one.name for one in laws]
    if not names or len(set(names)) < len(names) or len({one.response for one in laws}) > 1:
        raise InputError(f"give laws of one response, each with a name of its own; got {', '.join(names) or 'none'}")
    return dict(zip(names, laws, strict=True))
