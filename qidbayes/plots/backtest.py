"""How bands held: coverage against nominal, and the histogram of the probability integral transform (PIT)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from qidbayes.errors import InputError
from qidbayes.plots import style

if TYPE_CHECKING:
    from qidbayes.score.backtest import Backtest

type Looks = dict[tuple[str, str], tuple[str, style.Line]]

_BINS = 10
_MAX_SPLITS = 8


def backtest(found: "Backtest", *, splits: Sequence[str] | None = None) -> Figure:
    """Draw, for each split, the share of held-out points that central bands held, and where in the forecasts they lay.

    The bands of a calibrated forecast hold what their nominal probability says, and its PIT is uniform. A U-shaped
    histogram is that of bands too narrow, a slope to the right that of forecasts too low.

    Parameters
    ----------
    found
        A backtest, of one or several laws and baselines.
    splits
        Which of its splits to draw; all by default, of more than eight the first eight.

    Returns
    -------
    matplotlib.figure.Figure
        A row for each split: its folds together.

    Raises
    ------
    InputError
        If the backtest has no such split.

    Examples
    --------
    >>> backtest(found).savefig("backtest.svg")  # doctest: +SKIP
    """
    held = found.points["split"].unique(maintain_order=True).to_list()
    unknown = [split for split in splits or () if split not in held]
    if unknown:
        raise InputError(f"the backtest has no split {unknown[0]!r}; it has {', '.join(held)}")
    drawn = list(splits or held)[:_MAX_SPLITS]
    looks = _looks(found.points)
    notes = [
        "Grey: where nine in ten shares of a calibrated forecast would fall, if the quantizations of one checkpoint "
        "counted as one point and checkpoints were independent; those of one run are not.",
    ]
    if len(drawn) < len(held) and splits is None:
        notes.append(f"{len(drawn)} of {len(held)} splits are shown.")
    with style.context():
        figure = style.figure("Forecasts of points that were not fitted", notes, height=0.7 + 1.75 * len(drawn))
        grid = figure.subplots(len(drawn), 2, sharex="col", squeeze=False, width_ratios=(1, 1.5))
        for split, (left, right) in zip(drawn, grid, strict=True):
            points = found.points.filter(pl.col("split") == split)
            _coverage(left, points, looks)
            _histogram(right, points, looks)
            checkpoints = _checkpoints(points)
            rows = points.select("suite", "model", "revision", "tokens", "method", "bits", "dataset").n_unique()
            right.set_title(f"{split}: {rows} points of {checkpoints} checkpoints", loc="right")
        grid[-1, 0].set_xlabel("Nominal probability of the band")
        grid[-1, 1].set_xlabel("PIT: predictive probability of less than was measured")
        figure.supylabel("Share of points", fontsize=8)
        handles = [Line2D([], [], color=color, linestyle=line, label=" ".join(k)) for k, (color, line) in looks.items()]
        style.legend_below(figure, handles, min(4, len(handles)))
    return figure


def _looks(points: pl.DataFrame) -> Looks:
    """Return a colour and a line style for each law and way of forecasting: laws by colour, ways by style."""
    keys: list[tuple[str, str]] = points.select("law", "how").unique(maintain_order=True).rows()
    laws, ways = (list(dict.fromkeys(names)) for names in zip(*keys, strict=True))
    # One law's ways differ by colour too.
    shades = [to_hex(c) for c in colormaps["viridis"](np.linspace(0.0, 0.78, max(len(laws), len(ways), 2)))]
    return {
        (law, how): (shades[laws.index(law) if len(laws) > 1 else ways.index(how)], style.LINES[ways.index(how)])
        for law, how in keys
    }


def _checkpoints(points: pl.DataFrame) -> int:
    return int(points.select("model", "revision", "tokens").n_unique())


def _chance(probability: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return between which shares of so many trials nine in ten fall."""
    from scipy.stats import binom  # here, since other figures do without SciPy

    return binom.ppf(0.05, count, probability) / count, binom.ppf(0.95, count, probability) / count


def _percent(value: float, _: object) -> str:
    return f"{100 * value:g}%"


def _coverage(axes: Axes, points: pl.DataFrame, looks: Looks) -> None:
    nominal = np.linspace(0.0, 1.0, 101)
    count = _checkpoints(points)
    low, high = _chance(nominal, count)
    axes.fill_between(nominal, low, high, color=style.GUESSING, linewidth=0)
    axes.plot([0, 1], [0, 1], color=style.GUIDE, linewidth=0.7)
    for key, own in points.group_by("law", "how", maintain_order=True):
        needed = np.sort(2.0 * np.abs(own["pit"].to_numpy() - 0.5))  # the narrowest central band that holds the point
        color, line = looks[str(key[0]), str(key[1])]
        axes.plot(nominal, np.searchsorted(needed, nominal, side="right") / len(needed), color=color, linestyle=line)
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=[0, 0.5, 0.9], yticks=[0, 0.5, 0.9])
    axes.xaxis.set_major_formatter(_percent)
    axes.yaxis.set_major_formatter(_percent)
    style.grid(axes)


def _histogram(axes: Axes, points: pl.DataFrame, looks: Looks) -> None:
    edges = np.linspace(0.0, 1.0, _BINS + 1)
    count = _checkpoints(points)
    low, high = _chance(np.array([1 / _BINS]), count)
    axes.axhspan(float(low[0]), float(high[0]), color=style.GUESSING, linewidth=0)
    axes.axhline(1 / _BINS, color=style.GUIDE, linewidth=0.7)
    for key, own in points.group_by("law", "how", maintain_order=True):
        shares = np.histogram(own["pit"].to_numpy(), edges)[0] / own.height
        color, line = looks[str(key[0]), str(key[1])]
        axes.stairs(shares, edges, color=color, linestyle=line, linewidth=1.3)
    axes.set(xlim=(0, 1), xticks=np.linspace(0, 1, 6))
    axes.yaxis.set_major_formatter(_percent)
    axes.set_ylim(bottom=0)
