"""The figure of the 16-bit loss shows the points and each run's own band."""

import polars as pl
import pytest
from drawn import areas, curves, points, small_print

from qidbayes import InputError
from qidbayes.plots import loss_16bit
from qidbayes.posterior import Fit


def test_points_and_bands(kaplan: Fit) -> None:
    figure = loss_16bit(kaplan)
    (axes,) = figure.axes
    assert set(points(axes)) == set(kaplan.data.select("tokens", "loss_16bit").iter_rows())
    runs = (("lab/small", 1e9), ("lab/large", 8e9))
    for (model, size), (tokens, median), band in zip(runs, curves(axes), areas(axes), strict=True):
        answer = kaplan.predict(n_params=size, tokens=tokens, model=model)
        assert median == pytest.approx(answer["median"].to_numpy())
        assert [band[x] for x in tokens] == [pytest.approx(edge) for edge in answer.select("lower", "upper").rows()]
    assert [text.get_text() for text in figure.legends[0].texts] == ["small (1B)", "large (8B)"]
    assert "of the same training run" in small_print(figure)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Training tokens $D$", "16-bit loss (nats/token)")


def test_runs_of_one_size_share_the_band_of_the_law(kaplan: Fit) -> None:
    one_size = kaplan.data.with_columns(n_params=pl.lit(1e9))
    fit = Fit(kaplan.law, kaplan.draws, kaplan.dims, kaplan.coords, kaplan.stats, one_size, kaplan.diagnostics,
              kaplan.attributes)  # fmt: skip
    assert len(areas(loss_16bit(fit, kind="response_params").axes[0])) == 1
    assert len(areas(loss_16bit(fit).axes[0])) == 2


def test_models_can_be_chosen(kaplan: Fit) -> None:
    assert len(curves(loss_16bit(kaplan, models=["lab/small"]).axes[0])) == 1
    with pytest.raises(InputError, match="not 'huge'"):
        loss_16bit(kaplan, models=["huge"])


def test_laws_it_is_not_for(unified: Fit) -> None:
    with pytest.raises(
        InputError, match="loss_16bit is for laws of the 16-bit loss with D in the equation; law 'unified'"
    ):
        loss_16bit(unified)
