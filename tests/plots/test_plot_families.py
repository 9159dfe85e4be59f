"""Figures of a fit of many families: about the rows that it was given, with labels that stand apart."""

import re
from dataclasses import replace
from itertools import pairwise

import polars as pl
import pytest
from drawn import points, small_print
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import qidbayes as qb
from qidbayes.plots import caption, qid, style, tokens_to_threshold
from qidbayes.posterior import Fit
from qidbayes.posterior.assumed import shown
from qidbayes.reports import sections

pytestmark = pytest.mark.filterwarnings("ignore::qidbayes.errors.AssumptionWarning")
KINDS = {"method": "gptq", "group_size": 128, "dataset": "wikitext2"}


def rows(suite: str) -> pl.DataFrame:
    """Two models, two checkpoints, two widths."""
    asked = [(f"{suite}-{n:g}", n, d, p, 0.26 * (n / 3e8) ** -0.3 * (d / 2e11) ** 0.25 * (3 / p) ** 5)
             for n in (3e8, 8e8) for d in (2e11, 6e11) for p in (3, 4)]  # fmt: skip
    frame = pl.DataFrame(asked, schema=["model", "n_params", "tokens", "bits", "qid"], orient="row")
    return qb.read_table(
        frame.with_columns(pl.lit(value).alias(name) for name, value in {**KINDS, "suite": suite}.items())
    )


@pytest.fixture(scope="module")
def conditioned() -> Fit:
    return qb.load_fit("atlas").condition(rows("mine"))


def labels_are_apart(figure: Figure, axes: Axes) -> bool:
    FigureCanvasAgg(figure).draw()
    low, high = axes.get_xlim()
    ticks = [t.label1 for t in axes.xaxis.get_major_ticks() if low <= t.get_loc() <= high]
    boxes = [label.get_window_extent() for label in ticks if label.get_text()]
    return len(boxes) >= 2 and all(a.x1 < b.x0 for a, b in pairwise(boxes))


def test_what_is_shown_is_what_was_given(conditioned: Fit) -> None:
    assert shown(qb.load_fit("atlas")) == {}
    assert shown(conditioned) == {"suite": "mine", **KINDS}
    assert shown(conditioned, "response_params") == {}
    twice = (*conditioned.attributes["conditioned_on"], {"suite": "pythia"})
    both = replace(conditioned, attributes={**conditioned.attributes, "conditioned_on": twice})
    assert shown(both) == {}  # which of the two, nobody says


def test_points_are_the_given_rows(conditioned: Fit) -> None:
    figure = qid(conditioned)
    assert "Only suite mine is shown." in small_print(figure)
    drawn = set().union(*(points(axes) for axes in figure.axes))
    assert len(figure.axes) == 4 and drawn == set(rows("mine").select("tokens", "qid").iter_rows())
    assert labels_are_apart(figure, figure.axes[-1])  # where no power of ten lies between 200B and 600B


def test_titles_of_rows_have_the_height_of_their_panels(conditioned: Fit) -> None:
    of_nano = qb.load_table("atlas").filter(pl.col("model").is_in(["nano-192x4-cosine-0", "nano-512x12-stable-0"]))
    table = of_nano.filter(pl.col("bits") == 4)
    figure = qid(conditioned, table)
    FigureCanvasAgg(figure).draw()
    titles = [(text, axes) for axes in figure.axes for text in axes.texts]
    assert len(titles) > 2 and any("awq, groups of\n64" in text.get_text() for text, _ in titles)
    assert all(text.get_window_extent().height <= 1.15 * axes.get_window_extent().height for text, axes in titles)


def test_tokens_to_a_threshold_are_of_the_given_suite(conditioned: Fit) -> None:
    asked = {"qid": [0.2], "n_params": [1e9, 4e11]}
    figure = tokens_to_threshold(conditioned, **asked, bits=[2, 4])
    assert "Of suite mine, gptq, groups of 128, wikitext2." in small_print(figure)
    answer = conditioned.tokens_to_threshold(**asked, bits=[2, 4], suite="mine", **KINDS)
    said = {text.get_text() for axes in figure.axes for text in axes.texts}
    assert said == {f"never: {share:.0%}" for share in answer["never"] if round(100 * share)}  # and not 0%
    left = figure.axes[0].get_xlim()[0]
    assert left >= 1e6 and all(labels_are_apart(figure, axes) for axes in figure.axes)
    cut = sum(line.get_marker() == "<" for axes in figure.axes for line in axes.lines)
    assert cut == (answer["lower"] <= left).sum()


def test_a_page_names_the_suite_once_and_each_source_once(conditioned: Fit) -> None:
    answers = sections.answers_section(conditioned, 0.9)
    assert answers.count("Of suite mine, gptq, groups of 128, wikitext2.") == 1
    columns = set(re.findall('<th scope="col" title="([^"]*)"', answers))
    assert {"n_params", "bits", "median", "lower", "upper", "never"} <= columns
    assert not columns & {"suite", "method", "group_size", "dataset"}
    named = caption.sources(conditioned.data).split("; ")
    assert len(named) == len(set(named)) <= 7 and "arXiv:2210.17323" in named


@pytest.mark.parametrize("decades", [0.4, 0.9, 2, 3.9, 4.1, 6, 9.9, 10.1, 14])
def test_counts_are_labelled_without_running_into_each_other(decades: float) -> None:
    with style.context():
        figure = Figure(figsize=(2.5, 2))
        axes = figure.subplots()
        axes.set_xscale("log")
        axes.set_xlim(1.6e11 * 10**-decades, 1.6e11)
        style.counts_axis(axes.xaxis)
        assert labels_are_apart(figure, axes)
