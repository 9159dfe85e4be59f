"""QiD over model sizes and training tokens (the paper's Figure 11)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from qidbayes.errors import InputError
from qidbayes.plots import caption, style
from qidbayes.plots.far import check_law, with_suite
from qidbayes.posterior import query
from qidbayes.posterior.fit import Fit, Kind
from qidbayes.units import format_count

_LEVELS = tuple(float(f"{digit}e{power}") for power in range(-6, 4) for digit in (1, 3))
_MOST_LEVELS = 9
_MARGIN = 1.4  # or half of the first points would be cut off
_ASKED = 16  # questions along each axis
_DRAWN = 160  # between them logarithms are interpolated over logarithms; matplotlib would do it over counts


def qid_map(
    fit: Fit,
    *,
    bits: Sequence[float] = (2, 3, 4),
    n_params_max: float = 405e9,
    tokens_max: float = 100e12,
    qid: float = 0.2,
    kind: Kind = "response",
    ci_prob: float = 0.9,
    **further: Any,
) -> Figure:
    """Draw QiD over model sizes and training tokens, a panel for each bit width.

    Shades are the median. The line is where it is `qid`; where the band holds `qid` is hatched: above that region QiD
    is above `qid`, and below it below, with what probability the band leaves on its other side.

    Parameters
    ----------
    fit
        A fit of a QiD law with N and D in its equation.
    bits
        Bit widths. A law that does not know of bits has one panel.
    n_params_max, tokens_max
        Where the axes end (counts); they begin at the least that was fitted.
    qid
        The QiD (nats per token) whose region is drawn.
    kind, ci_prob, **further
        As in `Fit.predict`; one value for each further column.

    Returns
    -------
    matplotlib.figure.Figure
        Non-embedding parameters and tokens (counts), both logarithmic, and QiD (nats per token) in shades.

    Raises
    ------
    InputError
        If the law does not give QiD by size and tokens, or an axis would end before the data begin.

    Examples
    --------
    >>> from qidbayes.posterior import load_fit
    >>> qid_map(load_fit("unified.nc"), qid=0.5).savefig("map.svg")  # doctest: +SKIP
    """
    check_law(fit, "qid_map", further)
    further = with_suite(fit, further, kind)
    sizes = _axis(fit, "n_params", n_params_max)
    tokens = _axis(fit, "tokens", tokens_max)
    by_bits: dict[str, Any] = {"bits": sorted(set(bits))} if "bits" in query.needs(fit.law) else {}
    asked: dict[str, Any] = {"n_params": sizes, "tokens": tokens, **by_bits, **further}
    answer = fit.predict(kind=kind, ci_prob=ci_prob, **asked)
    widths = by_bits.get("bits", [None])
    levels = _levels(answer["median"].to_numpy())
    small_print = [
        caption.fitted(fit),
        f"Shades: the median {caption.scatter(fit, kind)}.",
        *caption.suite(fit, further, kind),
        f"Hatched: where its {100 * ci_prob:g}% band holds {qid:g} nats/token.",
        "Points: the checkpoints that were fitted (in sample).",
        *caption.beyond_widths(fit, widths),
    ]
    with style.context():
        title = "QiD over model sizes and training tokens"
        figure = style.figure(title, small_print, height=0.5 + 2.5 * style.panel_rows(len(widths)))
        panels = style.panels(figure, len(widths))
        for axes, width in zip(panels, widths, strict=True):
            here = answer if width is None else answer.filter(pl.col("bits") == width)
            shades = _panel(axes, here, sizes, tokens, levels, qid)
            fitted = fit.data if width is None else fit.data.filter(pl.col("bits") == width)
            axes.plot(fitted["n_params"].to_numpy(), fitted["tokens"].to_numpy(), **_CHECKPOINTS)
            axes.set_title("" if width is None else f"{width:g} bits")
            axes.set(xscale="log", yscale="log", xlim=sizes[[0, -1]], ylim=tokens[[0, -1]], xlabel=style.SIZE)
            style.counts_axis(axes.xaxis)
            style.counts_axis(axes.yaxis)
        for axes in panels[:: style.ACROSS]:
            axes.set_ylabel(style.TOKENS)
        bar = figure.colorbar(shades, ax=panels, ticks=np.log(levels), aspect=30, pad=0.015)
        bar.ax.set_yticklabels([np.format_float_positional(level, trim="-") for level in levels])
        bar.set_label(style.QID)
        handles = [
            Line2D([], [], color=style.INK, label=f"median QiD = {qid:g}"),
            Patch(facecolor="none", edgecolor=style.INK, hatch=_HATCH, linewidth=0.5, label=f"band holds {qid:g}"),
            Line2D([], [], label="fitted checkpoints", **_CHECKPOINTS),
        ]
        style.legend_below(figure, handles, len(handles))
    return figure


_HATCH = "/////"
_CHECKPOINTS: dict[str, Any] = {
    "linestyle": "none",
    "marker": "o",
    "markersize": 2.0,
    "markerfacecolor": "white",
    "markeredgecolor": style.INK,
    "markeredgewidth": 0.4,
}


def _panel(
    axes: Axes, answer: pl.DataFrame, sizes: np.ndarray, tokens: np.ndarray, levels: Sequence[float], qid: float
) -> QuadContourSet:
    fine = [np.geomspace(values[0], values[-1], _DRAWN) for values in (sizes, tokens)]
    log = {name: _finer(np.log(answer[name].to_numpy()).reshape(_ASKED, -1)) for name in ("median", "lower", "upper")}
    shades = axes.contourf(*fine, log["median"], np.log(levels), cmap="cividis_r", extend="both")
    # The band holds it where its lower end is below and its upper end above.
    inside = np.minimum(np.log(qid) - log["lower"], log["upper"] - np.log(qid))
    axes.contourf(*fine, inside, [0.0, np.inf], colors="none", hatches=[_HATCH])
    axes.contour(*fine, log["median"], [np.log(qid)], colors=style.INK, linewidths=1.3, linestyles="-")
    return shades


def _finer(log_qid: np.ndarray) -> np.ndarray:
    """Return logarithms of QiD, asked for over sizes and tokens, on the finer grid of tokens and sizes."""
    asked, drawn = np.linspace(0, 1, _ASKED), np.linspace(0, 1, _DRAWN)
    over_tokens = np.array([np.interp(drawn, asked, row) for row in log_qid])
    return np.array([np.interp(drawn, asked, column) for column in over_tokens.T])


def _axis(fit: Fit, column: str, end: float) -> np.ndarray:
    start = float(fit.data[column].drop_nulls().cast(pl.Float64).to_numpy().min())
    if not end > start:
        raise InputError(f"{column}_max must be beyond the least that was fitted, {format_count(start)}")
    return np.geomspace(start / _MARGIN, end, _ASKED)


def _levels(median: np.ndarray) -> list[float]:
    inside = [level for level in _LEVELS if median.min() < level < median.max()]
    if len(inside) > _MOST_LEVELS:
        inside = [level for level in inside if str(level).strip("0.")[0] == "1"]
    return inside if len(inside) > 1 else [float(median.min()), float(median.max()) * 1.01]
