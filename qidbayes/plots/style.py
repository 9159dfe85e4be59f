"""How every figure looks: colours, markers, axes, titles. Colours differ in lightness, so that they differ in grey."""

import textwrap
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import matplotlib.style
import numpy as np
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

from qidbayes.units import format_count

WIDTH = 7.2
"""Inches: the text width of a two-column page."""
ACROSS = 3
"""Panels in a row."""
QID = "QiD (nats/token)"
LOSS_16BIT = "16-bit loss (nats/token)"
TOKENS = "Training tokens $D$"
INK = "#222222"
GUIDE = "#777777"
GUESSING = "#D9D9D9"
BAND_ALPHA = 0.22
HALO = [withStroke(linewidth=2.0, foreground="white")]
"""Keeps text readable where it crosses a line."""

_MARKERS = ("o", "s", "^", "D", "v", "<", "p", ">")
_FINE = (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0, 8.0, 9.0)
_TITLE, _TEXT, _SMALL = 9.0, 8.0, 7.0
_RC = {
    "font.size": _TEXT,
    "axes.titlesize": _TEXT,
    "axes.labelsize": _TEXT,
    "xtick.labelsize": _SMALL,
    "ytick.labelsize": _SMALL,
    "legend.fontsize": _SMALL,
    "legend.title_fontsize": _SMALL,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.7,
    "lines.linewidth": 1.3,
    "lines.markersize": 3.2,
    "savefig.dpi": 200,
    "svg.hashsalt": "qidbayes",  # or the ids in an SVG would differ at each writing
}


@dataclass(frozen=True)
class Look:
    """How one series is drawn."""

    color: str
    marker: str


def context() -> AbstractContextManager[None]:
    """Return the style to draw in: the same whatever the user's own settings, which come back afterwards."""
    return matplotlib.style.context(["default", _RC])


def by_size(n_params: Iterable[float]) -> dict[float, Look]:
    """Return a look for each model size (non-embedding parameters), from light for small to dark for large.

    Examples
    --------
    >>> {size: look.marker for size, look in by_size([7e9, 1e9]).items()}
    {1000000000.0: 'o', 7000000000.0: 's'}
    """
    return _looks(n_params, "viridis", light=0.82, dark=0.0)


def by_bits(bits: Iterable[float]) -> dict[float, Look]:
    """Return a look for each bit width, from dark for few bits to light for many."""
    return _looks(bits, "plasma", light=0.0, dark=0.76)


def _looks(values: Iterable[float], colormap: str, light: float, dark: float) -> dict[float, Look]:
    ordered = sorted(set(values))
    # By rank and not by value: neighbours such as 6.4B and 11.3B must not look alike.
    shades = colormaps[colormap](np.linspace(light, dark, len(ordered)) if len(ordered) > 1 else [0.3])
    return {
        value: Look(to_hex(shade), _MARKERS[i % len(_MARKERS)])
        for i, (value, shade) in enumerate(zip(ordered, shades, strict=True))
    }


def figure(title: str, notes: Sequence[str], height: float) -> Figure:
    """Return an empty figure with its title, and notes in small print below it.

    Parameters
    ----------
    title
        What is shown.
    notes
        Sentences that say of what, and what the bands are; broken into lines as needed.
    height
        Of what is below the title, inches.
    """
    lines = textwrap.wrap(" ".join(notes), width=142)
    head = 0.26 + 0.135 * len(lines)
    total = height + head
    made = Figure(figsize=(WIDTH, total))
    made.set_layout_engine("constrained", rect=(0.0, 0.0, 1.0, height / total))
    made.text(0.012, 1 - 0.06 / total, title, fontsize=_TITLE, fontweight="bold", va="top")
    made.text(0.012, 1 - 0.23 / total, "\n".join(lines), fontsize=_SMALL, color="#444444", va="top", linespacing=1.25)
    return made


def panel_rows(count: int) -> int:
    """Return how many rows `panels` takes."""
    return -(-count // ACROSS)


def panels(made: Figure, count: int) -> list[Axes]:
    """Return so many panels of the same axes, three to a row."""
    grid = made.subplots(panel_rows(count), min(count, ACROSS), sharex=True, sharey=True, squeeze=False)
    for unused in grid.flat[count:]:
        unused.remove()
    found: list[Axes] = list(grid.flat[:count])
    for i, axes in enumerate(found):
        axes.tick_params(labelbottom=True, labelleft=i % ACROSS == 0)  # the row below may be shorter
    return found


def log_axes(axes: Axes) -> None:
    """Give a panel logarithmic axes of tokens and nats, labelled for the limits it has now, and a faint grid."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    tokens_axis(axes.xaxis)
    nats_axis(axes.yaxis)
    grid(axes)


def grid(axes: Axes, axis: Literal["both", "x"] = "both") -> None:
    """Draw faint lines at the major ticks, below the data."""
    axes.set_axisbelow(True)
    axes.grid(True, which="major", axis=axis, color="#E6E6E6", linewidth=0.6)


def tokens_axis(axis: Axis) -> None:
    """Label a logarithmic axis of counts 1B, 100B, 10T, or at each power of ten where there is room."""
    low, high = axis.get_view_interval()
    # Labels at every power of ten run into each other over more than four.
    roomy = np.log10(high / low) <= 4
    axis.set_major_locator(LogLocator(numticks=99) if roomy else FixedLocator([10.0**k for k in range(3, 22, 2)]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _count(value)))
    # Nine minor ticks a decade are a smear where two decades share a label.
    axis.set_minor_locator(LogLocator(subs=range(2, 10) if roomy else (1.0,), numticks=99))
    axis.set_minor_formatter(NullFormatter())


def nats_axis(axis: Axis) -> None:
    """Label a logarithmic axis of nats per token in plain decimals, between the powers of ten too where few fit."""
    low, high = axis.get_view_interval()
    subs = (1.0,) if high / low > 100 else (1.0, 2.0, 5.0) if high / low > 6 else _FINE
    axis.set_major_locator(LogLocator(subs=subs, numticks=99))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(LogLocator(subs=range(2, 10), numticks=99))
    axis.set_minor_formatter(NullFormatter())


def _count(value: float) -> str:
    # There is no suffix beyond T, and 1e+03T is not what a reader expects.
    return format_count(value) if value < 1e15 else f"{value / 1e12:,.0f}T"


def legend_below(made: Figure, handles: Sequence[Artist], columns: int, title: str | None = None) -> None:
    """Put the legend under the panels, where it covers no data."""
    made.legend(handles=list(handles), loc="outside lower center", ncols=columns, title=title, handlelength=2.2)
