"""The figure of tokens to threshold shows what `Fit.tokens_to_threshold` answers."""

import polars as pl
import pytest
from drawn import small_print, x_labels
from matplotlib.axes import Axes

from qidbayes import InputError, published
from qidbayes.plots import tokens_to_threshold
from qidbayes.posterior import Fit

pytestmark = pytest.mark.filterwarnings("ignore::qidbayes.errors.ExtrapolationWarning")  # fits are of 3 and 4 bits

QID, SIZES = [0.2, 0.3], [1e9, 7e9]


def bars(axes: Axes) -> list[tuple[float, float]]:
    return [tuple(map(float, line.get_xdata())) for line in axes.lines if line.get_linewidth() == 1.6]  # type: ignore[misc]


def marks(axes: Axes, markers: str) -> list[float]:
    return [float(x) for line in axes.lines if line.get_marker() in tuple(markers) for x in line.get_xdata()]


def test_intervals_are_the_answers(unified: Fit) -> None:
    figure = tokens_to_threshold(unified, qid=QID, n_params=SIZES, bits=[3, 4], ci_prob=0.8)
    assert [axes.get_title() for axes in figure.axes] == ["3 bits", "4 bits"]
    for axes, bits in zip(figure.axes, (3, 4), strict=True):
        answer = unified.tokens_to_threshold(QID, n_params=SIZES, bits=bits, ci_prob=0.8).sort("n_params", "qid")
        shown = sorted(zip(bars(axes), marks(axes, "os"), strict=True))
        expected = sorted(zip(answer.select("lower", "upper").rows(), answer["tokens"], strict=True))
        assert [(*bar, mark) for bar, mark in shown] == [pytest.approx((*bar, mark)) for bar, mark in expected]
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == ["1B   0.2", "0.3", "7B   0.2", "0.3"]
    assert "bars: 80% for a newly measured checkpoint of a new training run" in small_print(figure)


def test_rows_are_level_with_their_labels(unified: Fit) -> None:
    axes = tokens_to_threshold(unified, qid=QID, n_params=SIZES, bits=[4]).axes[0]
    heights = {
        float(line.get_ydata()[0]): tuple(line.get_xdata()) for line in axes.lines if line.get_linewidth() == 1.6
    }
    answer = unified.tokens_to_threshold(QID, n_params=SIZES, bits=4)
    wanted = [(1e9, 0.2), (1e9, 0.3), (7e9, 0.2), (7e9, 0.3)]
    for tick, (size, threshold) in zip(axes.get_yticks(), wanted, strict=True):
        row = answer.filter(pl.col("n_params") == size, pl.col("qid") == threshold)
        assert heights[float(tick)] == pytest.approx(row.select("lower", "upper").row(0))


def test_published_values_are_marked(unified: Fit) -> None:
    figure = tokens_to_threshold(unified, qid=[0.2], n_params=SIZES, bits=[3, 4], published=published("per-bit"))
    table1 = {3: [108.9e9, 303.8e9], 4: [1442.4e9, 4506.6e9]}
    for axes, bits in zip(figure.axes, (3, 4), strict=True):
        assert marks(axes, "|") == pytest.approx(table1[bits], rel=0.002)
    assert figure.legends[0].texts[-1].get_text() == "published (per-bit:table1)"


def test_what_is_never_reached(saturating: Fit) -> None:
    figure = tokens_to_threshold(saturating, qid=[0.1, 0.3, 0.9], n_params=[1e9])
    (axes,) = figure.axes
    answer = saturating.tokens_to_threshold([0.1, 0.3, 0.9], n_params=1e9)
    assert answer["never"][0] == 0 < answer["never"][1] < 1 == answer["never"][2]
    right = axes.get_xlim()[1]
    assert marks(axes, ">") == [right, right]
    assert "Arrows: on beyond the axis." in small_print(figure)
    assert [text.get_text() for text in axes.texts] == [f"never: {answer['never'][1]:.0%}", "never: 100%"]
    assert bars(axes)[0] == pytest.approx(answer.select("lower", "upper").row(0))
    assert len(marks(axes, "o")) == answer["tokens"].is_finite().sum()


def test_axis(unified: Fit) -> None:
    axes = tokens_to_threshold(unified, n_params=[1e9, 405e9]).axes[-1]
    assert x_labels(axes)[-3:] == ["10B", "1T", "100T"]
    assert axes.get_xlabel() == "Training tokens $D$"


@pytest.mark.parametrize("name", ["kaplan", "by_model", "by_size"])
def test_laws_it_is_not_for(name: str, request: pytest.FixtureRequest) -> None:
    with pytest.raises(InputError, match="tokens_to_threshold is for laws of QiD with N and D"):
        tokens_to_threshold(request.getfixturevalue(name))
