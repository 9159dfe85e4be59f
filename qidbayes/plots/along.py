"""Points and bands along tokens, sizes or bit widths: what the figures that hold a fit against measurements share."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import polars as pl
from matplotlib.axes import Axes

from qidbayes.errors import InputError
from qidbayes.noise.coordinates import KIND
from qidbayes.plots import banded, caption, style
from qidbayes.posterior import query
from qidbayes.posterior.fit import Fit, Kind, Response
from qidbayes.posterior.predictive_noise import PredictiveNoise

type X = Literal["tokens", "n_params", "bits"]
type Looks = Mapping[Any, style.Look]

SYMBOLS = {"tokens": "D", "n_params": "N", "bits": "P"}
_CHECKPOINT = ("model", "revision", "tokens", "dataset")
# Of these a curve has one value each; anything else a law needs changes along it, and has no curve there.
_ALWAYS = {"n_params", "tokens", "bits", "suite", "method", "dataset", "group_size"}
_FIXED = {
    "tokens": _ALWAYS | {"model", "bits_per_weight"},
    "n_params": _ALWAYS | {"bits_per_weight"},
    "bits": _ALWAYS | {"model", "revision", "learning_rate"},
}
_CURVE = {"tokens": "a training run", "n_params": "model sizes", "bits": "the widths of one checkpoint"}
_ANSWER = ("median", "lower", "upper", "mean", "sd")
_GRID = 30


def check_law(fit: Fit, figure: str, x: X, response: str = "qid") -> None:
    """Refuse a law that has no curve of the response along `x`."""
    law, what = fit.law, "QiD" if response == "qid" else "the 16-bit loss"
    if law.response != response or SYMBOLS[x] not in law.covariates or x in law.by:
        raise InputError(
            f"{figure} is for laws of {what} with {SYMBOLS[x]} in the equation; law {law.name!r} is not one"
        )
    varying = [name for name in query.needs(law, x) if name not in _FIXED[x]]
    if varying:
        raise InputError(
            f"{figure} is for laws whose terms, but for {x}, stay the same along {_CURVE[x]}; "
            f"law {law.name!r} also needs {', '.join(varying)}"
        )


def measured(table: pl.DataFrame, response: str) -> pl.DataFrame:
    """Return the rows of a measurement table that hold the response."""
    found = table.filter((pl.col("status") == "ok") & pl.col(response).is_not_null())
    if found.is_empty():
        what = "QiD" if response == "qid" else response
        raise InputError(f"no row of the table has a {what}; there is nothing to draw")
    return found


def mark_fitted(fits: Sequence[Fit], points: pl.DataFrame, keys: Sequence[str], response: str = "qid") -> pl.DataFrame:
    """Return the points that a logarithmic axis can show, and in a column `fitted` whether a law was fitted to them.

    Parameters
    ----------
    keys
        What tells two points of one checkpoint apart.
    """
    drawn = points.filter(pl.col(response) > 0)
    if drawn.is_empty():
        raise InputError(f"no point has a positive {response}, so none can be drawn on a logarithmic axis")
    keys = [*_CHECKPOINT, *keys]
    fitted = pl.concat([_labels(fit.data, keys) for fit in fits])
    return drawn.with_columns(fitted=_labels(drawn, keys).is_in(fitted.implode()))


def _labels(frame: pl.DataFrame, keys: Sequence[str]) -> pl.Series:
    # A saved fit holds counts as floats, and a missing one as not a number.
    columns = [pl.col(k).cast(pl.Float64).fill_nan(None) if frame.schema[k].is_numeric() else pl.col(k) for k in keys]
    text = [column.cast(pl.String).fill_null("") for column in columns]
    return frame.select(pl.concat_str(text, separator="|").alias("label"))["label"]


def runs_differ(fit: Fit, kind: Kind) -> bool:
    """Return whether two runs of one size have different bands."""
    return "model" in query.needs(fit.law) or (kind == "response" and "model" in PredictiveNoise(fit).asked)


def grid(points: pl.DataFrame, x: X) -> np.ndarray:
    """Return the values of `x` at which curves are drawn, from a little before the points to a little after."""
    at = points[x].to_numpy()
    margin = 1.15 if at.max() > at.min() else 3.0  # points at one count of tokens get a curve to lie on too
    return np.geomspace(at.min() / margin, at.max() * margin, _GRID)


def bands(
    fit: Fit,
    points: pl.DataFrame,
    split: Sequence[str],
    x: X,
    at: np.ndarray,
    kind: Kind,
    ci_prob: float,
    response: Response | None = None,
) -> pl.DataFrame:
    """Return the fit's answer along `x` for every combination of `split`, and of what else the answer depends on."""
    known = [name for name in PredictiveNoise(fit).asked if name in points.columns] if kind == "response" else []
    apart = {"tokens": {"revision"}, "n_params": {"revision", "model"}, "bits": set()}[x]
    wanted = [*split, *query.needs(fit.law), *(name for name in known if name not in apart)]
    fixed = [name for name in dict.fromkeys(wanted) if name != x]
    asked = points.select(fixed).unique(maintain_order=True).join(pl.DataFrame({x: at}), how="cross")
    return ask(fit, asked, kind, ci_prob, response)


def ask(fit: Fit, frame: pl.DataFrame, kind: Kind, ci_prob: float, response: Response | None = None) -> pl.DataFrame:
    """Return the fit's answers to a frame of questions, of which some may name models that were not fitted.

    A run that was fitted has an effect that is known; of another, the question must not name it. The answers to those
    come last.
    """
    if "model" not in frame.columns or "model" in query.needs(fit.law) or "model" not in PredictiveNoise(fit).asked:
        return fit.predict(frame, response=response, kind=kind, ci_prob=ci_prob)
    known = pl.col("model").is_in(fit.data["model"].unique().implode())
    fitted, others = frame.filter(known), frame.filter(~known).rename({"model": "new_model"})
    answers = [fit.predict(f, response=response, kind=kind, ci_prob=ci_prob) for f in (fitted, others) if f.height]
    return pl.concat([answer.rename({"new_model": "model"}, strict=False) for answer in answers])


def one_kind(points: pl.DataFrame, figure: str, split: Sequence[str]) -> None:
    """Refuse points of which one curve would stand for several methods, group sizes or evaluation sets."""
    for column in KIND:
        if column not in split:
            several = points.group_by(split).agg(pl.col(column).unique().sort()).filter(pl.col(column).list.len() > 1)
            if several.height:
                values = ", ".join(map(str, several[column][0]))
                raise InputError(f"{figure} draws one {column}, and the points have {values}; give a table with one")


def chosen(points: pl.DataFrame, column: str, wanted: Sequence[object] | None) -> pl.DataFrame:
    """Return the points whose column has one of the wanted values, all if none are named; refuse one not there."""
    if wanted is None:
        return points
    known = points[column].unique().sort().to_list()
    missing = [value for value in wanted if value not in known]
    if missing or not wanted:
        given = repr(missing[0]) if missing else "none"
        raise InputError(f"{column}: the points have {', '.join(map(str, known))}; not {given}")
    return points.filter(pl.col(column).is_in(pl.Series(wanted, dtype=points.schema[column], strict=False).implode()))


def spread[T](values: Sequence[T], most: int) -> list[T]:
    """Return at most so many of the values, evenly spread.

    Examples
    --------
    >>> spread([1, 2, 3, 4, 5], 3)
    [1, 3, 5]
    """
    if len(values) <= most:
        return list(values)
    return [values[i] for i in np.linspace(0, len(values) - 1, most).round().astype(int)]


def draw_bands(axes: Axes, answer: pl.DataFrame, x: X, series: str, looks: Looks) -> None:
    """Draw the median and the band of each curve of one panel, which looks as `looks` says of its `series`."""
    apart = [c for c in answer.columns if c not in (x, *_ANSWER)]
    for _, curve in answer.group_by(apart, maintain_order=True):
        look = looks[curve[series][0]]
        at, median, lower, upper = (curve[c].to_numpy() for c in (x, "median", "lower", "upper"))
        banded.draw(axes, at, median, lower, upper, look.color, look.line)


def law_alone(fit: Fit, answer: pl.DataFrame, kind: Kind) -> pl.DataFrame | None:
    """Return the law's median where an answer's curves follow what it misses as well; None where they do not."""
    if kind == "response_params" or not fit.noise.by_draw:
        return None
    return ask(fit, answer.drop(_ANSWER), "response_params", 0.9)


def draw_law_alone(axes: Axes, answer: pl.DataFrame, x: X, series: str, looks: Looks) -> None:
    """Draw the law's medians of one panel."""
    apart = [c for c in answer.columns if c not in (x, *_ANSWER)]
    for _, curve in answer.group_by(apart, maintain_order=True):
        color = looks[curve[series][0]].color
        axes.plot(curve[x].to_numpy(), curve["median"].to_numpy(), color=color, linestyle=":", linewidth=1.0)


LAW_ALONE = "Dotted: the law alone. Solid lines also follow what the law misses."


def draw_points(axes: Axes, points: pl.DataFrame, x: X, response: str, series: str, looks: Looks) -> None:
    """Draw the points of one panel: hollow where they were not fitted."""
    for (value, fitted), some in points.group_by(series, "fitted", maintain_order=True):
        look = looks[value]
        axes.plot(
            some[x].to_numpy(),
            some[response].to_numpy(),
            linestyle="none",
            marker=look.marker,
            markerfacecolor=look.color if fitted else "none",
            # A light rim keeps a point apart from a curve of its own colour.
            markeredgecolor="white" if fitted else look.color,
            markeredgewidth=0.35 if fitted else 0.8,
        )


def notes(fits: Sequence[Fit], points: pl.DataFrame, kind: Kind, ci_prob: float, *, named: bool = True) -> list[str]:
    """Return what the small print says of the fits, the bands and the points.

    Parameters
    ----------
    named
        Whether the questions named the points' models.
    """
    band = caption.band(fits[0], kind, ci_prob, known_runs=known_runs(fits, points) * named)
    return [caption.fitted(*fits), band, *in_sample(points["fitted"]), *caption.points_from(points)]


def in_sample(fitted: pl.Series) -> list[str]:
    """Return sentences on which points were fitted."""
    if fitted.all():
        return ["All points were fitted (in sample)."]
    return ["Hollow points were not fitted.", *(["The others were (in sample)."] if fitted.any() else [])]


def known_runs(fits: Sequence[Fit], points: pl.DataFrame) -> float:
    """Return the share of points whose models were fitted."""
    known = pl.concat([fit.data["model"] for fit in fits]).unique().implode()
    return float(points.select(pl.col("model").is_in(known).mean()).item())
