"""How every figure looks: colours, markers, axes, titles. Colours differ in lightness, so that they differ in grey."""

import textwrap
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
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
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from qidbayes.units import format_count

type Line = Literal["-", "--", ":", "-."]

WIDTH = 7.2
"""Inches: the text width of a two-column page."""
ACROSS = 3
"""Panels in a row."""
QID = "QiD (nats/token)"
LOSS_16BIT = "16-bit loss (nats/token)"
LOSS = "Loss (nats/token)"
TOKENS = "Training tokens $D$"
SIZE = "Non-embedding parameters $N$"
BITS = "Bit width $P$ (bits)"
INK = "#222222"
GUIDE = "#777777"
GUESSING = "#D9D9D9"
LINES: tuple[Line, ...] = ("-", "--", ":", "-.")
BAND_ALPHA = 0.22
HALO = [withStroke(linewidth=2.0, foreground="white")]
"""Keeps text readable where it crosses a line."""

_MARKERS = ("o", "s", "^", "D", "v", "<", "p", ">")
# Where bit widths lie on the colour map, and their markers.
_WIDTHS: dict[float, tuple[float, str]] = {2: (0.0, "o"), 3: (0.36, "s"), 4: (0.64, "^"), 8: (0.8, "D")}
_WHOLE = 16.0  # the width that others are held against
# Of each decade, by how many times the least the most in view is.
_TICKS = {100: (1.0,), 10: (1.0, 2.0, 5.0), 5: (1.0, 2.0, 3.0, 4.0, 5.0, 7.0)}
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
    "hatch.linewidth": 0.4,
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
    line: Line = "-"


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
    """Return a look for each bit width, from dark for few bits to light for many; the same in every figure.

    16 bits, what others are held against, are dashed.

    Examples
    --------
    >>> by_bits([3, 4])[4] == by_bits([2, 3, 4, 8])[4]
    True
    """
    ordered = sorted(set(bits) - {_WHOLE})
    shades = np.interp(np.log2(ordered), np.log2(list(_WIDTHS)), [shade for shade, _ in _WIDTHS.values()])
    further = iter(_MARKERS[5:])
    found = {
        width: Look(to_hex(colormaps["plasma"](shade)), _WIDTHS[width][1] if width in _WIDTHS else next(further, "X"))
        for width, shade in zip(ordered, shades, strict=True)
    }
    return found | ({_WHOLE: Look(INK, "v", "--")} if _WHOLE in set(bits) else {})


def by_tokens(tokens: Iterable[float]) -> dict[float, Look]:
    """Return a look for each count of training tokens, from light for few to dark for many."""
    return _looks(tokens, "cividis", light=0.8, dark=0.0)


def by_name(names: Iterable[str]) -> dict[str, Look]:
    """Return a look for each of some names that have no order: line styles differ too.

    Examples
    --------
    >>> [look.line for look in by_name(["gptq", "awq"]).values()]
    ['-', '--']
    """
    found = _looks(dict.fromkeys(names), "cividis", light=0.0, dark=0.74, rank=False)
    return {name: replace(look, line=LINES[i % len(LINES)]) for i, (name, look) in enumerate(found.items())}


def _looks[T: (float, str)](
    values: Iterable[T], colormap: str, light: float, dark: float, *, rank: bool = True
) -> dict[T, Look]:
    ordered = sorted(set(values)) if rank else list(values)
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
    made = Figure()
    made.text(0.012, 0, title, fontsize=_TITLE, fontweight="bold", va="top")
    made.text(0.012, 0, "", fontsize=_SMALL, color="#444444", va="top", linespacing=1.25)
    _caption(made, " ".join(notes), height)
    return made


def add_note(made: Figure, note: str) -> None:
    """Add a sentence to the small print of a figure; panels keep their size."""
    printed = made.texts[1].get_text()
    below = made.get_figheight() - _head(printed)
    _caption(made, " ".join([*printed.split("\n"), note]), below)


def _caption(made: Figure, notes: str, height: float) -> None:
    lines = "\n".join(textwrap.wrap(notes, width=142))
    total = height + _head(lines)
    made.set_size_inches(WIDTH, total)
    made.set_layout_engine("constrained", rect=(0.0, 0.0, 1.0, height / total))
    for text, down in zip(made.texts, (0.06, 0.23), strict=False):
        text.set_y(1 - down / total)
    made.texts[1].set_text(lines)


def _head(lines: str) -> float:
    """Return the inches that a title and lines of small print take."""
    return 0.26 + 0.135 * (lines.count("\n") + 1)


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
    """Give a panel logarithmic axes of counts and nats, labelled for the limits it has now, and a faint grid."""
    # Setting a scale sets that of all panels that share it, and lays them all out again.
    if axes.get_xscale() != "log":
        axes.set_xscale("log")
    if axes.get_yscale() != "log":
        axes.set_yscale("log")
    counts_axis(axes.xaxis)
    nats_axis(axes.yaxis)
    grid(axes)


def grid(axes: Axes, axis: Literal["both", "x"] = "both") -> None:
    """Draw faint lines at the major ticks, below the data."""
    axes.set_axisbelow(True)
    axes.grid(True, which="major", axis=axis, color="#E6E6E6", linewidth=0.6)


def counts_axis(axis: Axis) -> None:
    """Label a logarithmic axis of counts 10B, 1T, 100T, or at each power of ten where there is room."""
    low, high = axis.get_view_interval()
    # Labels at every power of ten run into each other over more than four; of every second or fourth, 100T is one.
    decades = np.log10(high / low)
    roomy, step = decades <= 4, 2 if decades <= 10 else 4
    between = (1, 2, 3, 5, 7) if decades < 1 else (1,)  # a range of 200B to 600B has no power of ten
    axis.set_major_locator(
        LogLocator(subs=between, numticks=99) if roomy else FixedLocator([10.0**k for k in range(2, 22, step)])
    )
    axis.set_major_formatter(FuncFormatter(lambda value, _: _count(value)))
    # Nine minor ticks a decade are a smear where two decades share a label.
    axis.set_minor_locator(LogLocator(subs=range(2, 10) if roomy else (1.0,), numticks=99))
    axis.set_minor_formatter(NullFormatter())


def widths_axis(axis: Axis, widths: Sequence[float]) -> None:
    """Label a logarithmic axis of bit widths at these."""
    axis.set_major_locator(FixedLocator(sorted(widths)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def nats_axis(axis: Axis) -> None:
    """Label a logarithmic axis of nats per token in plain decimals, between the powers of ten too where few fit."""
    low, high = axis.get_view_interval()
    subs = next((subs for least, subs in _TICKS.items() if high / low > least), _FINE)
    axis.set_major_locator(LogLocator(subs=subs, numticks=99))
    axis.set_major_formatter(FuncFormatter(lambda value, _: np.format_float_positional(value, 6, trim="-")))
    axis.set_minor_locator(LogLocator(subs=range(2, 10), numticks=99))
    axis.set_minor_formatter(NullFormatter())


def _count(value: float) -> str:
    # There is no suffix beyond T, and 1e+03T is not what a reader expects.
    return format_count(value) if value < 1e15 else f"{value / 1e12:,.0f}T"


def legend_below(made: Figure, handles: Sequence[Artist], columns: int, title: str | None = None) -> None:
    """Put the legend under the panels, where it covers no data."""
    made.legend(handles=list(handles), loc="outside lower center", ncols=columns, title=title, handlelength=2.2)
