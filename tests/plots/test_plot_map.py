"""The map of QiD: its line is where the median reaches the threshold, its hatched region where the band holds it."""

import numpy as np
import polars as pl
import pytest
from drawn import points, small_print, x_labels
from matplotlib.axes import Axes
from matplotlib.contour import QuadContourSet

from qidbayes import InputError
from qidbayes.plots import qid_map
from qidbayes.posterior import Fit


def contours(axes: Axes) -> list[QuadContourSet]:
    """Return the shades, the hatched region and the line."""
    return [c for c in axes.collections if isinstance(c, QuadContourSet)]


def test_line_is_where_the_median_reaches_the_threshold(unified: Fit) -> None:
    figure = qid_map(unified, bits=[3, 4], qid=0.1)
    for axes, bits in zip(figure.axes, (3, 4), strict=False):
        assert axes.get_title() == f"{bits} bits"
        line = contours(axes)[2].get_paths()[0].vertices
        inner = line[len(line) // 4 : -len(line) // 4]
        asked = pl.DataFrame({"n_params": inner[:, 0], "tokens": inner[:, 1], "bits": float(bits)})
        assert unified.predict(asked)["median"].to_numpy() == pytest.approx(0.1, rel=0.01)


def test_hatched_is_where_the_band_holds_the_threshold(unified: Fit) -> None:
    axes = qid_map(unified, bits=[4], qid=0.1, ci_prob=0.8).axes[0]
    sizes, tokens = np.geomspace(2e9, 3e11, 12), np.geomspace(2e9, 5e13, 12)
    answer = unified.predict(n_params=sizes.tolist(), tokens=tokens.tolist(), bits=4, ci_prob=0.8)
    # Points within 2% of the region's edge may lie on either side of what is drawn.
    clear = answer.filter(
        ((pl.col("lower") / 0.1).log().abs() > 0.02) & ((pl.col("upper") / 0.1).log().abs() > 0.02)
    ).with_columns(holds=pl.lit(0.1).is_between("lower", "upper"))
    assert clear["holds"].sum() > 10 and (~clear["holds"]).sum() > 10
    region = contours(axes)[1].get_paths()[0]
    inside = region.contains_points(clear.select("n_params", "tokens").to_numpy())
    assert (inside == clear["holds"].to_numpy()).all()


def test_checkpoints_and_axes(unified: Fit) -> None:
    figure = qid_map(unified, bits=[4])
    axes = figure.axes[0]
    assert set(points(axes)) == set(unified.data.filter(bits=4).select("n_params", "tokens").iter_rows())
    assert x_labels(axes) == ["1B", "10B", "100B"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Non-embedding parameters $N$", "Training tokens $D$")
    assert figure.axes[-1].get_ylabel() == "QiD (nats/token)"
    assert axes.get_xlim()[1] == pytest.approx(405e9) and axes.get_ylim()[1] == pytest.approx(100e12)
    assert "where its 90% band holds 0.2 nats/token" in small_print(figure)


def test_shades_are_the_median(unified: Fit) -> None:
    shades = contours(qid_map(unified, bits=[3]).axes[0])[0]
    median = unified.predict(n_params=[1e9, 405e9], tokens=[1e9, 100e12], bits=3)["median"]
    for edge in shades.levels:
        assert np.log(median.min()) < edge < np.log(median.max()) + 0.5


def test_law_without_bits_has_one_panel(saturating: Fit) -> None:
    figure = qid_map(saturating, n_params_max=1e10)
    assert len([axes for axes in figure.axes if axes.get_xlabel()]) == 1


def test_what_cannot_be_drawn(unified: Fit, kaplan: Fit, by_method: Fit) -> None:
    with pytest.raises(InputError, match="qid_map is for laws of QiD with N and D in the equation; law 'kaplan-16bit'"):
        qid_map(kaplan)
    with pytest.raises(InputError, match="tokens_max must be beyond the least that was fitted, 1B"):
        qid_map(unified, tokens_max=1e9)
    with pytest.raises(InputError, match="one value of method"):
        qid_map(by_method, method=["gptq", "awq"])
    with pytest.raises(InputError, match="also needs method"):
        qid_map(by_method)
