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
from qidbayes.errors import DiagnosticsWarning
from qidbayes.plots import projection, qid, save, style, tokens_to_threshold
from qidbayes.posterior import Fit


def grey(color: str) -> float:
    return float(np.dot(to_rgb(color), (0.299, 0.587, 0.114)))


@pytest.mark.parametrize(
    ("looks", "sign", "values"),
    [
        (style.by_size, -1, [1e8, 1e9, 1e10, 1e11, 1e12, 1e13]),
        (style.by_tokens, -1, [1e9, 1e10, 1e11, 1e12]),
        (style.by_bits, 1, [2.0, 3.0, 4.0, 8.0]),
        (style.by_name, 1, ["gptq", "awq", "rtn", "bnb"]),
    ],
)
@pytest.mark.parametrize("count", [2, 3, 4, 6])
def test_series_can_be_told_apart_in_grey(looks: object, sign: int, values: list[object], count: int) -> None:
    count = min(count, len(values))
    found = looks(values[:count])  # type: ignore[operator]
    steps = sign * np.diff([grey(look.color) for look in found.values()])
    assert steps.min() > 0.06
    assert len({look.marker for look in found.values()}) == count


def test_a_bit_width_looks_the_same_in_every_figure() -> None:
    few, many = style.by_bits([3, 4]), style.by_bits([1.58, 2, 3, 4, 6, 8, 16])
    assert all(few[bits] == many[bits] for bits in (3, 4))
    assert len({look.marker for look in many.values()}) == 7
    assert [bits for bits, look in many.items() if look.line == "--"] == [16]


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (1e-6, 1e-2, ["0.000001", "0.00001", "0.0001", "0.001", "0.01"]),
        (0.05, 1.0, ["0.05", "0.1", "0.2", "0.5", "1"]),
        (2.5, 13.0, ["3", "4", "5", "7", "10"]),
        (2.5, 4.0, ["2.5", "3", "3.5", "4"]),
    ],
)
def test_nats_are_labelled_in_plain_decimals(low: float, high: float, labels: list[str]) -> None:
    axes = Figure().subplots()
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    style.nats_axis(axes.yaxis)
    inside = [tick for tick in axes.get_yticks() if low * 0.999 <= tick <= high * 1.001]
    assert [axes.yaxis.get_major_formatter()(tick) for tick in inside] == labels


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
    with pytest.warns(DiagnosticsWarning, match="7 divergent transitions"):
        figure = qid(failed, bits=[4])
    assert "1 of its sampler's checks FAILED" in figure.texts[1].get_text()


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
