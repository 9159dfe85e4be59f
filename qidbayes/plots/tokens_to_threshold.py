"""The training tokens at which QiD reaches thresholds, with intervals (the paper's Table 1 as a picture)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from qidbayes.plots import caption, style
from qidbayes.plots.far import asked_of, check_law, with_suite
from qidbayes.posterior import query
from qidbayes.posterior.fit import Fit, Kind
from qidbayes.posterior.point import PointEstimate

_ROW = 0.17
"""Inches for each interval."""
_GAP = 0.6
"""Between two sizes, in rows."""
_NEAREST, _FARTHEST = 1e6, 1e16
"""Where the axis ends (count) if intervals go on: a batch, and hundreds of times what has been trained on."""


def tokens_to_threshold(
    fit: Fit,
    *,
    qid: Sequence[float] = (0.2, 0.3, 0.4, 0.5),
    n_params: Sequence[float] = (1e9, 7e9, 70e9, 405e9),
    bits: Sequence[float] = (2, 3, 4),
    published: PointEstimate | None = None,
    kind: Kind = "response",
    ci_prob: float = 0.9,
    **further: Any,
) -> Figure:
    """Draw intervals of the training tokens at which QiD reaches each threshold, a panel for each bit width.

    An interval that goes on beyond the axis ends in an arrow. Where some draws never reach the threshold their share
    is written beside it.

    Parameters
    ----------
    fit
        A fit of a QiD law with N and D in its equation.
    qid
        Thresholds, nats per token.
    n_params, bits
        Non-embedding parameters (counts) and bit widths. A law that does not know of bits has one panel.
    published
        A point whose answers are marked beside.
    kind, ci_prob, **further
        As in `Fit.tokens_to_threshold`; one value for each further column.

    Returns
    -------
    matplotlib.figure.Figure
        Tokens (count), logarithmic, on one scale for all panels.

    Raises
    ------
    InputError
        If the law does not give QiD by size and tokens, or the published law does not take what is asked.

    Examples
    --------
    >>> from qidbayes.posterior import load_fit, published
    >>> figure = tokens_to_threshold(load_fit("unified.nc"), published=published("per-bit"))  # doctest: +SKIP
    """
    check_law(fit, "tokens_to_threshold", further)
    further = with_suite(fit, further, kind)
    asked: dict[str, Any] = {"n_params": sorted(set(n_params)), **further}
    widths: Sequence[float | None] = sorted(set(bits)) if "bits" in query.needs(fit.law) else [None]
    if widths[0] is not None:
        asked["bits"] = widths
    thresholds = sorted(set(qid))
    answer = fit.tokens_to_threshold(thresholds, kind=kind, ci_prob=ci_prob, **asked)
    beside = published.tokens_to_threshold(thresholds, **asked_of(published, asked, further)) if published else None
    rows = _rows(asked["n_params"], thresholds)
    looks = style.by_size(asked["n_params"])
    with style.context():
        limits = _limits([frame for frame in (answer, beside) if frame is not None])
        small_print = [caption.fitted(fit), _meaning(fit, kind, ci_prob), *caption.suite(fit, further, kind)]
        small_print.append(caption.measured_to(fit))
        if (answer["upper"] >= limits[1]).any() or (answer["lower"] <= limits[0]).any():
            small_print.append("Arrows: on beyond the axis.")
        small_print += caption.beyond_widths(fit, widths)
        tall = max(1.7, 0.7 + _ROW * max(rows.values())) * style.panel_rows(len(widths))
        figure = style.figure("Training tokens until QiD reaches a threshold", small_print, height=0.3 + tall)
        panels = style.panels(figure, len(widths))
        for axes, width in zip(panels, widths, strict=True):
            here = pl.lit(True) if width is None else pl.col("bits") == width
            _intervals(axes, answer.filter(here), rows, looks, limits)
            if beside is not None:
                _published(axes, beside.filter(here), rows)
            axes.axvline(caption.most_tokens(fit), color=style.GUIDE, linestyle=":", linewidth=1.0)
            axes.set_xscale("log")
            axes.set_xlim(limits)
            style.counts_axis(axes.xaxis)
            axes.set_xlabel(style.TOKENS)
            axes.set_title("" if width is None else f"{width:g} bits")
            axes.tick_params(axis="y", length=0)
            style.grid(axes, "x")
        _label_rows(panels, rows)
        style.legend_below(figure, _handles(looks, published), len(looks) + 1)
    return figure


type Rows = Mapping[tuple[float, float], float]
"""For each size and threshold, how far down its interval lies."""


def _rows(sizes: Sequence[float], thresholds: Sequence[float]) -> Rows:
    block = len(thresholds) + _GAP
    return {(s, t): i * block + j for i, s in enumerate(sizes) for j, t in enumerate(thresholds)}


def _label_rows(panels: Sequence[Axes], rows: Rows) -> None:
    first = {size: min(row for (s, _), row in rows.items() if s == size) for size, _ in rows}
    labels = [
        f"{caption.size(size) + '   ' if row == first[size] else ''}{threshold:g}"
        for (size, threshold), row in rows.items()
    ]
    panels[0].set_yticks(list(rows.values()), labels)
    panels[0].set_ylim(max(rows.values()) + 0.7, -0.7)
    for axes in panels[:: style.ACROSS]:
        axes.set_ylabel(f"$N$, {style.QID}")


def _limits(frames: Sequence[pl.DataFrame]) -> tuple[float, float]:
    found = np.concatenate([f[c].drop_nulls().to_numpy() for f in frames for c in ("tokens", "lower", "upper")])
    found = found[np.isfinite(found)]
    return max(found.min() / 2, _NEAREST), min(found.max() * 2, _FARTHEST)


def _intervals(
    axes: Axes, answer: pl.DataFrame, rows: Rows, looks: Mapping[float, style.Look], ends: tuple[float, float]
) -> None:
    left, right = ends
    for one in answer.iter_rows(named=True):
        y, look = rows[one["n_params"], one["qid"]], looks[one["n_params"]]
        axes.plot(np.clip([one["lower"], one["upper"]], left, right), [y, y], color=look.color, linewidth=1.6)
        if left < one["tokens"] < right:
            axes.plot(one["tokens"], y, marker=look.marker, color=look.color, markersize=4.5)
        if one["upper"] >= right:
            axes.plot(right, y, marker=">", color=look.color, markersize=4, clip_on=False)
        if one["lower"] <= left:
            axes.plot(left, y, marker="<", color=look.color, markersize=4, clip_on=False)
        if round(100 * one["never"]):  # not 0%
            axes.annotate(
                f"never: {one['never']:.0%}",
                (right, y),
                xytext=(-5, 1),
                textcoords="offset points",
                ha="right",
                fontsize=6,
                path_effects=style.HALO,
            )


def _published(axes: Axes, beside: pl.DataFrame, rows: Rows) -> None:
    y = [rows[size, threshold] for size, threshold in beside.select("n_params", "qid").iter_rows()]
    axes.plot(beside["tokens"].to_numpy(), y, **_PUBLISHED)


_PUBLISHED: dict[str, Any] = {"linestyle": "none", "marker": "|", "color": style.INK, "markersize": 7}


def _meaning(fit: Fit, kind: Kind, ci_prob: float) -> str:
    what = caption.scatter(fit, kind)
    return f"Marks: medians; bars: {100 * ci_prob:g}% {what}."


def _handles(looks: Mapping[float, style.Look], published: PointEstimate | None) -> list[Artist]:
    handles: list[Artist] = [
        Line2D([], [], color=look.color, marker=look.marker, label=f"$N$ = {caption.size(size)}")
        for size, look in looks.items()
    ]
    if published:
        handles.append(Line2D([], [], label=f"published ({published.label})", **_PUBLISHED))
    return handles
