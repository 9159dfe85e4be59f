"""Figures look the same everywhere, leave no trace in matplotlib, and are written the same each time."""

import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from qidbayes import InputError
from qidbayes.plots import projection, qid, save, style, tokens_to_threshold
from qidbayes.posterior import Fit


def grey(color: str) -> float:
    return float(np.dot(to_rgb(color), (0.299, 0.587, 0.114)))


@pytest.mark.parametrize(("looks", "sign"), [(style.by_size, -1), (style.by_bits, 1)])
@pytest.mark.parametrize("count", [2, 3, 6])
def test_colours_can_be_told_apart_in_grey(looks: object, sign: int, count: int) -> None:
    found = looks([10.0**i for i in range(count)])  # type: ignore[operator]
    steps = sign * np.diff([grey(look.color) for look in found.values()])
    assert steps.min() > 0.06
    assert len({look.marker for look in found.values()}) == count


def test_global_settings_are_neither_used_nor_changed(unified: Fit, tmp_path: Path) -> None:
    save(qid(unified, bits=[4], models=["lab/small"]), tmp_path / "before.svg")
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "axes.facecolor": "black"}):
        before = dict(matplotlib.rcParams)
        save(qid(unified, bits=[4], models=["lab/small"]), tmp_path / "after.svg")
        assert dict(matplotlib.rcParams) == before
    assert (tmp_path / "before.svg").read_bytes() == (tmp_path / "after.svg").read_bytes()


@pytest.mark.parametrize("suffix", [".svg", ".png", ".pdf"])
def test_the_same_bytes_twice(suffix: str, unified: Fit, tmp_path: Path) -> None:
    figure = tokens_to_threshold(unified, qid=[0.2], n_params=[1e9], bits=[4])
    save(figure, tmp_path / f"one{suffix}")
    save(figure, tmp_path / f"again{suffix}")
    save(tokens_to_threshold(unified, qid=[0.2], n_params=[1e9], bits=[4]), tmp_path / f"anew{suffix}")
    first = (tmp_path / f"one{suffix}").read_bytes()
    assert first == (tmp_path / f"again{suffix}").read_bytes() == (tmp_path / f"anew{suffix}").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"again{suffix}", f"anew{suffix}", f"one{suffix}"]


def test_names_of_no_figure_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ends in \.png, \.svg, \.pdf"):
        save(Figure(), tmp_path / "figure.jpg")
    assert not list(tmp_path.iterdir())


def test_nothing_is_cut_off(unified: Fit) -> None:
    figure = projection(unified, n_params=[7e9, 405e9], bits=[3, 4])
    figure.canvas.draw()
    width, height = figure.get_size_inches() * figure.dpi
    drawn = [*figure.texts, *figure.legends, *(t for axes in figure.axes for t in (axes.title, *axes.texts))]
    for box in (artist.get_window_extent() for artist in drawn):
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= width
        assert box.y1 <= height


def test_a_failed_fit_says_so(unified: Fit) -> None:
    from dataclasses import replace

    failed = replace(unified, diagnostics=replace(unified.diagnostics, divergences=7))
    assert "1 of its sampler's checks FAILED" in qid(failed, bits=[4]).texts[1].get_text()


def test_plots_need_no_display_and_nothing_heavy() -> None:
    program = (
        "import sys, qidbayes as qb\n"
        "qb.plot.projection\n"
        "heavy = {'matplotlib.pyplot', 'jax', 'pymc', 'arviz', 'xarray', 'scipy', 'torch', 'netCDF4'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND")}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
