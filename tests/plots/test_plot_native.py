"""The figure of models trained in low bits shows the table's differences; the one of years a least-squares line."""

import datetime

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from drawn import areas, curves, points, small_print
from matplotlib.dates import date2num
from scipy import stats

from qidbayes import InputError
from qidbayes.cli import cli
from qidbayes.plots import native_low_bit, tokens_by_year
from qidbayes.plots.tokens_by_year import Growth, releases
from qidbayes.posterior import Fit
from qidbayes.table import load_table


def test_every_difference_is_drawn_in_the_panel_of_its_format() -> None:
    figure = native_low_bit()
    table = load_table("bitnet", "nano-native").filter(pl.col("method") != "none")
    panels = table.select("suite", "method", "bits").unique().sort("suite", "bits", "method").rows(named=True)
    assert len(figure.axes) == len(panels) == 5
    for axes, panel in zip(figure.axes, panels, strict=True):
        own = table.filter(**panel)
        seen = {(x, y) for line in axes.lines[1:] for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)}
        assert seen == set(own.select(pl.col("tokens").cast(float), "qid").rows())
    dashed = {len(curves(axes, "--")) for axes in figure.axes[1:]}
    assert dashed == {5}, "five sizes at the higher rate"
    hollow = [line for line in points(figure.axes[1]).values() if line.get_markerfacecolor() == "white"]
    assert len(hollow) == table.filter(pl.col("model").str.contains("decayed"), method="native-b1.58").height
    assert "at most 0.022 nats" in small_print(figure)


def test_bars_are_of_the_standard_errors_asked_for() -> None:
    table = load_table("nano-native").filter(model="nano-native-64x2-stable-0-0.002", method="native-b1.58")
    (axes,) = native_low_bit(table, ci_prob=0.5).axes
    (first,) = {segment[1][1] - segment[0][1] for line in axes.collections[:1] for segment in line.get_segments()[:1]}
    assert first == pytest.approx(2 * stats.norm.ppf(0.75) * table["qid_se"][0])


def test_a_table_without_differences_is_refused() -> None:
    with pytest.raises(InputError, match="no row has a qid and tokens"):
        native_low_bit(load_table("nano-native").filter(method="none"))


def test_growth_is_least_squares_with_students_t() -> None:
    rng = np.random.default_rng(3)
    days = 19_000 + np.sort(rng.uniform(0, 1500, 12))
    tokens = 10 ** (12 + 0.4 * (days - 19_000) / 365.25 + 0.3 * rng.standard_normal(12))
    growth = Growth(days, tokens)
    plain = stats.linregress(days / 365.25, np.log10(tokens))
    assert growth.coefficients[1] == pytest.approx(plain.slope)
    drawn = growth.draws(20_000, rng)[:, 1]
    # Under a flat prior the slope is Student's t around the estimate: quantiles to five Monte Carlo errors and more.
    expected = plain.slope + plain.stderr * stats.t.ppf([0.05, 0.5, 0.95], 10)
    assert np.quantile(drawn, [0.05, 0.5, 0.95]) == pytest.approx(expected, abs=0.08 * plain.stderr)
    at = days.mean() + np.array([0.0, 2000.0])
    line, lower, upper = growth.band(at, 0.9)
    sigma = np.sqrt(((np.log10(tokens) - growth.band(days, 0.9)[0]) ** 2).sum() / 10)
    spread = ((days - days.mean()) ** 2).sum()
    half = stats.t.ppf(0.95, 10) * sigma * np.sqrt(1 + 1 / 12 + (at - days.mean()) ** 2 / spread)
    assert upper - line == pytest.approx(half)
    assert line - lower == pytest.approx(half)


def test_when_growth_reaches_tokens() -> None:
    days = np.linspace(18_000, 20_000, 9)
    growth = Growth(days, 10 ** (11 + (days - 18_000) / 1000))
    reached = growth.reaches(np.full(50, 14.0), np.random.default_rng(0))
    assert reached == pytest.approx(np.full(50, 21_000.0))
    falling = Growth(days, 10 ** (13 - (days - 18_000) / 1000))
    assert np.isinf(falling.reaches(np.full(5, 14.0), np.random.default_rng(0))).all()


def test_releases_name_their_sources() -> None:
    table = releases()
    assert table.height >= 20
    assert table["model"].is_unique().all()
    assert table["tokens"].is_between(1e11, 1e14).all()
    assert table["released"].is_between(datetime.date(2021, 1, 1), datetime.date(2026, 11, 30)).all()
    for column in ("tokens_source", "date_source"):
        assert table[column].str.starts_with("https://").all()
    assert (table.filter(day_known="no")["released"].dt.day() == 15).all()


def test_tokens_by_year_shows_the_models_and_the_fits_own_answer(unified: Fit) -> None:
    figure = tokens_by_year(unified, qid=[0.05, 0.3], n_params=8e9, bits=4, ci_prob=0.8, kind="response_params")
    left, right = figure.axes
    table = releases()
    shown = {(x, y) for (x, y) in points(left)}
    assert shown == set(zip(date2num(table["released"].to_list()), table["tokens"], strict=True))
    answer = unified.tokens_to_threshold([0.05, 0.3], n_params=8e9, bits=4, ci_prob=0.8, kind="response_params")
    medians = sorted(line.get_ydata()[0] for line in left.lines if line.get_linestyle() == "-.")
    assert medians == pytest.approx(sorted(answer["tokens"]), rel=1e-3)
    bars = [line.get_ydata() for line in right.lines if len(line.get_xdata()) == 2 and line.get_linestyle() == "-"]
    limits = left.get_ylim()
    for bar, (lower, upper) in zip(bars, answer.select("lower", "upper").rows(), strict=True):
        assert list(bar) == pytest.approx([max(lower, limits[0]), min(upper, limits[1])], rel=1e-3)
    known, beyond = areas(left)  # they meet, and the line in each has its own dashes
    assert max(known) == min(beyond) <= date2num(table["released"].max())
    note = small_print(figure)
    assert "in sample" in note
    assert "The line reaches QiD 0.05 in " in note


def test_the_command_refuses_what_has_no_place(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = CliRunner().invoke(cli, ["plot", "native-low-bit", "atlas"])
    assert fitted.exit_code == 2
    assert "drawn from measurements (--table), not from a fit" in fitted.stderr
    kind = CliRunner().invoke(cli, ["plot", "native-low-bit", "--kind", "response"])
    assert kind.exit_code == 2
    assert "--kind has no place in native-low-bit" in kind.stderr
