"""Measured points and a fit's bands against training tokens: what the figures of QiD and of the 16-bit loss share."""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from matplotlib.axes import Axes

from qidbayes.errors import InputError
from qidbayes.plots import caption, style
from qidbayes.posterior import query
from qidbayes.posterior.fit import Fit, Kind

_CHECKPOINT = ("model", "revision", "tokens", "dataset")
# Of these a curve has one value each; anything else a law needs changes along a run, and has no curve against tokens.
_FIXED = {"n_params", "tokens", "bits", "model", "suite", "method", "dataset", "group_size", "bits_per_weight"}
_ANSWER = ("tokens", "median", "lower", "upper", "mean", "sd")
_GRID = 60


def check_law(fit: Fit, response: str, figure: str, what: str) -> None:
    """Refuse a law that has no curve of the response against tokens."""
    law = fit.law
    needed = query.needs(law)
    if law.response != response or "D" not in law.covariates or "tokens" in law.by:
        raise InputError(f"{figure} is for laws of {what} with D in the equation; law {law.name!r} is not one")
    varying = [name for name in needed if name not in _FIXED]
    if varying:
        raise InputError(
            f"{figure} is for laws whose terms, but for tokens, stay the same along a training run; "
            f"law {law.name!r} also needs {', '.join(varying)}"
        )


def mark_fitted(fit: Fit, points: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """Return the points that a logarithmic axis can show, and in a column `fitted` whether the law was fitted to them.

    Parameters
    ----------
    keys
        What tells two points of one checkpoint apart.
    """
    response = fit.law.response
    drawn = points.filter(pl.col(response) > 0)
    if drawn.is_empty():
        raise InputError(f"no point has a positive {response}, so none can be drawn on a logarithmic axis")
    keys = [*_CHECKPOINT, *keys]
    return drawn.with_columns(fitted=_labels(drawn, keys).is_in(_labels(fit.data, keys).implode()))


def runs_differ(fit: Fit, kind: Kind) -> bool:
    """Return whether two runs of one size have different bands."""
    return "model" in query.needs(fit.law) or (kind == "response" and "model_effect" in fit.draws)


def token_grid(points: pl.DataFrame) -> np.ndarray:
    """Return the counts of tokens at which curves are drawn, from a little before the points to a little after."""
    tokens = points["tokens"].to_numpy()
    margin = 1.15 if tokens.max() > tokens.min() else 3.0  # points at one count of tokens get a curve to lie on too
    return np.geomspace(tokens.min() / margin, tokens.max() * margin, _GRID)


def bands(
    fit: Fit, points: pl.DataFrame, split: Sequence[str], tokens: np.ndarray, kind: Kind, ci_prob: float
) -> pl.DataFrame:
    """Return the fit's answer at the tokens for every combination of `split`, and of what else its law needs."""
    fixed = list(dict.fromkeys([*split, *(c for c in query.needs(fit.law) if c != "tokens")]))
    asked = points.select(fixed).unique(maintain_order=True).join(pl.DataFrame({"tokens": tokens}), how="cross")
    if "model" not in asked.columns or "model_effect" not in fit.draws:
        return fit.predict(asked, kind=kind, ci_prob=ci_prob)
    # A run that was fitted has an effect that is known; for another, the question must not name it.
    known = pl.col("model").is_in(list(fit.coords["model"]))
    fitted, others = asked.filter(known), asked.filter(~known).rename({"model": "new_model"})
    answers = [fit.predict(fitted, kind=kind, ci_prob=ci_prob)] if fitted.height else []
    if others.height:
        answers.append(fit.predict(others, kind=kind, ci_prob=ci_prob).rename({"new_model": "model"}))
    return pl.concat(answers)


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


def _labels(frame: pl.DataFrame, keys: Sequence[str]) -> pl.Series:
    # A saved fit holds counts as floats.
    columns = [pl.col(k).cast(pl.Float64) if frame.schema[k].is_numeric() else pl.col(k) for k in keys]
    return frame.select(pl.concat_str(columns, separator="|").alias("label"))["label"]


def draw_bands(axes: Axes, answer: pl.DataFrame, looks: Mapping[float, style.Look]) -> None:
    """Draw the median and the band of each curve of one panel."""
    for _, curve in answer.group_by([c for c in answer.columns if c not in _ANSWER], maintain_order=True):
        color = looks[curve["n_params"][0]].color
        tokens, lower, upper = (curve[c].to_numpy() for c in ("tokens", "lower", "upper"))
        axes.fill_between(tokens, lower, upper, color=color, alpha=style.BAND_ALPHA, linewidth=0)
        axes.plot(tokens, curve["median"].to_numpy(), color=color)


def draw_points(axes: Axes, points: pl.DataFrame, response: str, looks: Mapping[float, style.Look]) -> None:
    """Draw the points of one panel: hollow where they were not fitted."""
    for (n_params, fitted), some in points.group_by("n_params", "fitted", maintain_order=True):
        look = looks[n_params]
        axes.plot(
            some["tokens"].to_numpy(),
            some[response].to_numpy(),
            linestyle="none",
            marker=look.marker,
            markerfacecolor=look.color if fitted else "white",
            markeredgecolor=look.color,
            markeredgewidth=0.0 if fitted else 0.8,
        )


def notes(fit: Fit, points: pl.DataFrame, kind: Kind, ci_prob: float) -> list[str]:
    """Return what the small print says of the fit, the bands and the points."""
    known = points["model"].is_in(list(fit.coords.get("model", ())))
    found = [caption.fitted(fit), caption.band(fit, kind, ci_prob, known_run=bool(known.all()))]
    if runs_differ(fit, kind) and known.any() and not known.all():
        found.append("Of runs that were fitted, the run's own effect is known.")
    if not points["fitted"].all():
        found.append("Hollow points were not fitted.")
    return [*found, *caption.sources(points)]
