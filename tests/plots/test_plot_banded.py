"""Figures say where a band is thinner than its line: counted on the pixels of what is drawn, by another way."""

from dataclasses import replace

import numpy as np
import pytest
from drawn import curves, small_print
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg

from qidbayes.plots import banded, loss_16bit, projection, qid, style
from qidbayes.posterior import Fit

SAYS = "Bands are thinner than their line in places for {} of {} curves"
LINE = 1.3
"""Points: the width of a median."""


def figure_of(bands: list[tuple[np.ndarray, np.ndarray, float]], ylim: tuple[float, float] = (0.0, 1.0)) -> Axes:
    """Return the axes of a figure with medians `y` at `x`, and bands of so many points across a flat line."""
    with style.context():
        axes = style.figure("Bands", ["Of nothing."], height=3.0).subplots()
        axes.set(xlim=(0, 1), ylim=ylim)
        axes.figure.draw_without_rendering()
        nats = (ylim[1] - ylim[0]) / (axes.bbox.height * 72 / axes.figure.dpi)  # to the point
        for x, y, points in bands:
            banded.draw(axes, x, y, y - nats * points / 2, y + nats * points / 2, "#000000")
    return axes


def pixels_of_band(axes: Axes) -> int:
    """Count what is seen of the one band beside its line, at ten dots to the point."""
    figure = axes.figure
    (line,), (area,) = axes.lines, axes.collections
    line.set(color="#000000", solid_capstyle="butt")
    area.set(color="#ff0000", alpha=1.0)
    figure.set_layout_engine("none")
    axes.set_axis_off()
    figure.set_dpi(72 * 10)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    red, green, _, _ = np.moveaxis(np.asarray(canvas.buffer_rgba()).astype(int), -1, 0)
    return int((red - green > 128).sum())


@pytest.mark.parametrize(("points", "thin"), [(0.8 * LINE, True), (1.3 * LINE, False)])
@pytest.mark.parametrize("rise", [0.0, 0.9])
def test_what_is_said_is_what_is_seen(points: float, thin: bool, rise: float) -> None:
    x = np.linspace(0.05, 0.95, 30)
    empty = figure_of([])
    width, height = empty.bbox.size * 72 / empty.figure.dpi
    steep = np.hypot(1.0, rise * height / width)  # a line that rises covers more of what is above and below it
    axes = figure_of([(x, 0.05 + rise * x, points * steep)])
    banded.note_hidden(axes.figure)
    assert (SAYS.format(1, 1) in small_print(axes.figure)) is thin
    beside = pixels_of_band(axes) / 10**2 / (0.9 * width * steep)  # points of the band, both sides of the line
    assert beside == pytest.approx(max(0.0, points - LINE), abs=0.1)  # to a pixel


def test_places_out_of_view_do_not_count() -> None:
    x = np.linspace(0, 1, 11)
    below = figure_of([(x, np.full(11, -0.5), 0.5 * LINE), (x, np.full(11, 0.5), 2 * LINE)])
    banded.note_hidden(below.figure)
    assert small_print(below.figure) == "Of nothing."
    left = figure_of([(x - 0.5, np.full(11, 0.5), 0.5 * LINE), (x, np.full(11, 0.2), 0.5 * LINE)])
    banded.note_hidden(left.figure)
    assert small_print(left.figure).endswith("for 2 of 2 curves, and throughout for 2.")


def test_the_note_leaves_panels_as_they_are() -> None:
    """Three lines of small print instead of one take room from no panel."""
    x = np.linspace(0, 1, 11)
    axes = figure_of([(x, np.full(11, 0.5), 0.5 * LINE)])
    tall, inches = axes.figure.get_figheight(), axes.bbox.height / axes.figure.dpi
    for _ in range(3):
        banded.note_hidden(axes.figure)
    axes.figure.draw_without_rendering()
    assert axes.figure.get_figheight() > tall
    assert axes.bbox.height / axes.figure.dpi == pytest.approx(inches, rel=0.01)
    title, notes = axes.figure.texts
    assert 0 < title.get_window_extent().y0 - notes.get_window_extent().y1 < 10
    assert notes.get_window_extent().y0 > axes.bbox.y1


def narrow(fit: Fit) -> Fit:
    """Return a fit whose draws are all the same: its law alone has no width."""
    same = {name: np.broadcast_to(values[:1, :1], values.shape).copy() for name, values in fit.draws.items()}
    return replace(fit, draws=same)


def test_every_figure_of_bands_says_so(unified: Fit, kaplan: Fit) -> None:
    wide = qid(unified)
    assert "thinner" not in small_print(wide)
    found = qid(narrow(unified), kind="response_params")
    count = sum(len(curves(axes)) - 1 for axes in found.axes)  # each panel has the other model's median, in grey
    assert SAYS.format(count, count) in small_print(found)
    assert "thinner" not in small_print(projection(unified, bits=[3, 4], n_params=[1e9]))
    both = projection(narrow(unified), kind="response_params", bits=[3, 4], n_params=[1e9])
    assert SAYS.format(2, 2) in small_print(both)
    assert SAYS.format(2, 2) in small_print(loss_16bit(narrow(kaplan), kind="response_params"))
