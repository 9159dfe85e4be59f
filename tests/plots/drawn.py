"""Read back what a figure shows."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D


def curves(axes: Axes, linestyle: str = "-") -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the curves (not guides of two points) of a line style, in the order drawn."""
    lines = [line for line in axes.lines if line.get_linestyle() == linestyle and len(line.get_xdata()) > 2]
    return [(np.asarray(line.get_xdata()), np.asarray(line.get_ydata())) for line in lines]


def points(axes: Axes) -> dict[tuple[float, float], Line2D]:
    """Return each point drawn, and the line it is a marker of."""
    return {
        (float(x), float(y)): line
        for line in axes.lines
        if line.get_linestyle() == "None"
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    }


def areas(axes: Axes) -> list[dict[float, tuple[float, float]]]:
    """Return each filled area as its lower and upper edge at each x."""
    found = []
    for collection in axes.collections:
        assert isinstance(collection, PolyCollection)
        edges: dict[float, list[float]] = {}
        for x, y in collection.get_paths()[0].vertices:
            edges.setdefault(float(x), []).append(float(y))
        found.append({x: (min(ys), max(ys)) for x, ys in edges.items()})
    return found


def small_print(figure: Figure) -> str:
    """Return the notes under the title."""
    return figure.texts[1].get_text().replace("\n", " ")


def x_labels(axes: Axes) -> list[str]:
    """Return the labels of the ticks in view, as drawn."""
    axes.figure.canvas.draw()
    low, high = axes.get_xlim()
    return [t.get_text() for t in axes.get_xticklabels() if low * 0.999 <= t.get_position()[0] <= high * 1.001]
