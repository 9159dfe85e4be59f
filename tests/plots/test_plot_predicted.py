"""Predicted against measured QiD: measured across, predicted up, as `Fit.predict` answers each row."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from drawn import points, small_print
from matplotlib.axes import Axes

from qidbayes import InputError, load_table
from qidbayes.plots import predicted_against_measured
from qidbayes.posterior import Fit

pytestmark = pytest.mark.filterwarnings("ignore::qidbayes.errors.ExtrapolationWarning")  # fits are of 3 and 4 bits

DATA = Path(__file__).parents[1] / "data"


def bars(axes: Axes) -> set[tuple[float, float, float]]:
    segments = [segment for lines in axes.collections for segment in lines.get_segments()]  # type: ignore[attr-defined]
    return {(float(x), float(low), float(high)) for (x, low), (_, high) in segments}


def test_fitted_points_are_predicted_as_their_own_run(unified: Fit) -> None:
    figure = predicted_against_measured(unified, ci_prob=0.8)
    (axes,) = figure.axes
    asked = unified.data.select("model", "n_params", "tokens", "bits", "qid")
    answer = unified.predict(asked, ci_prob=0.8)
    assert set(points(axes)) == set(answer.select("qid", "median").iter_rows())
    assert bars(axes) == set(answer.select("qid", "lower", "upper").iter_rows())
    inside = answer.filter(pl.col("qid").is_between("lower", "upper")).height
    assert axes.get_title() == f"Law unified, fitted to 12 points of made\n{inside} of 12 measured are inside the bars"
    assert "of the same training run" in small_print(figure)
    assert axes.get_xlim() == axes.get_ylim()


def test_measured_lies_across_and_predicted_up(unified: Fit) -> None:
    (axes,) = predicted_against_measured(unified, table=load_table("llama-qwen")).axes
    assert axes.get_xlabel() == "Measured QiD (nats/token)"
    assert axes.get_ylabel() == "Predicted QiD (nats/token)"
    # What the authors predicted are the vertical values of their figure, whatever its labels say.
    across = sorted(x for x, _ in points(axes))
    assert across == pytest.approx(sorted(load_table("llama-qwen")["qid"]))
    theirs = pl.read_csv(DATA / "fig10_predictions.csv")["qid"].sort().to_numpy()
    assert not np.allclose(across, theirs, rtol=0.05)


def test_models_that_were_not_fitted_are_new_ones(unified: Fit) -> None:
    table = load_table("llama-qwen")
    figure = predicted_against_measured(unified, unified, table=table)
    answer = unified.predict(table.select("n_params", "tokens", "bits", "qid"))
    for axes in figure.axes:
        assert set(points(axes)) == set(answer.select("qid", "median").iter_rows())
        assert {line.get_markerfacecolor() for line in points(axes).values()} == {"none"}
    assert "of a new training run" in small_print(figure) and "Fig 10 right" in small_print(figure)


def test_a_new_suite_is_asked_as_one(smooth: Fit) -> None:
    table = load_table("spectra")
    (axes,) = predicted_against_measured(smooth, table=table).axes
    answer = smooth.predict(
        table.select("suite", "n_params", "tokens", "bits", "method", "group_size", "dataset", "qid")
    )
    assert bars(axes) == set(answer.select("qid", "lower", "upper").iter_rows())


def test_what_cannot_be_predicted(unified: Fit, kaplan: Fit, per_bit: Fit) -> None:
    with pytest.raises(InputError, match="is for laws of QiD; law 'kaplan-16bit' is not one"):
        predicted_against_measured(kaplan)
    with pytest.raises(InputError, match="needs a fit"):
        predicted_against_measured()
    with pytest.raises(InputError, match="knows bits 3, 4; not 2"):
        predicted_against_measured(per_bit, table=load_table("llama-qwen"))
    with pytest.raises(InputError, match="no row of the table has a QiD"):
        predicted_against_measured(unified, table=load_table("chinchilla"))
