"""A median and its band, and whether its own line hides the band from a reader."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from qidbayes.plots import style

_MEDIAN = "_median"  # legends leave out such labels
_POINT = 72.0  # to the inch


def draw(
    axes: Axes, x: np.ndarray, median: np.ndarray, lower: np.ndarray, upper: np.ndarray, color: str, line: str = "-"
) -> None:
    """Draw a median and its band."""
    axes.fill_between(x, lower, upper, color=color, alpha=style.BAND_ALPHA, linewidth=0, label=_MEDIAN)
    axes.plot(x, median, color=color, linestyle=line, label=_MEDIAN)


def hidden(axes: Axes, line: Line2D, x: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Return for each point on a line in view whether the band around it is thinner than the line is.

    Both are measured on the laid-out axes, across the line: a steep line hides more of a band than a flat one.

    Parameters
    ----------
    axes
        Laid out, so that its limits and its position in the figure are final.
    line
        The median.
    x, lower, upper
        The band's ends at each point of the line, in data coordinates.

    Returns
    -------
    numpy.ndarray
        Booleans, for the points within the axes' limits alone; empty where there are none.

    Examples
    --------
    >>> made = Figure(figsize=(2, 2), dpi=100)
    >>> axes = made.add_axes((0, 0, 1, 1), xlim=(0, 1), ylim=(0, 1))
    >>> x, y = np.array([0.2, 0.5, 0.8]), np.full(3, 0.5)
    >>> (line,) = axes.plot(x, y, linewidth=1.44)  # points: .01 of the height
    >>> hidden(axes, line, x, y - 0.004, y + [0.004, 0.005, 0.009]).tolist()
    [True, True, False]
    """
    made = axes.get_figure(root=True)
    assert isinstance(made, Figure)
    to_points = _POINT / made.dpi
    at, low, high = (
        axes.transData.transform(np.column_stack([x, y])) * to_points for y in (line.get_ydata(), lower, upper)
    )
    left, bottom, right, top = np.array(axes.bbox.extents) * to_points
    seen = (at[:, 0] >= left) & (at[:, 0] <= right) & (at[:, 1] >= bottom) & (at[:, 1] <= top)
    slope = np.gradient(at[:, 1], at[:, 0])
    across = (high[:, 1] - low[:, 1]) / np.hypot(1.0, slope)
    thin: np.ndarray = across[seen] < line.get_linewidth()
    return thin


def note_hidden(figure: Figure) -> None:
    """Say in a figure's small print of how many of its medians the band is thinner than the line; nothing if of none.

    It is the last thing that a figure does: what is drawn later may change the axes.
    """
    figure.get_layout_engine().execute(figure)  # type: ignore[union-attr]
    found = []
    for axes in figure.axes:
        medians = [line for line in axes.lines if line.get_label() == _MEDIAN]
        areas = [area for area in axes.collections if area.get_label() == _MEDIAN]
        for line, area in zip(medians, areas, strict=True):
            x = np.asarray(line.get_xdata())
            corners = np.asarray(area.get_paths()[0].vertices)
            at = [corners[corners[:, 0] == value, 1] for value in x]
            found.append(hidden(axes, line, x, np.array([y.min() for y in at]), np.array([y.max() for y in at])))
    seen = [points for points in found if points.size]
    count, throughout = sum(p.any() for p in seen), sum(p.all() for p in seen)
    if count:
        rest = f", and throughout for {throughout}" if throughout else ""
        style.add_note(figure, f"Bands are thinner than their line in places for {count} of {len(seen)} curves{rest}.")
