"""The figures of loss after quantization show measured losses and what `Fit.predict` answers of their sum."""

from dataclasses import replace

import polars as pl
import pytest
from drawn import areas, curves, points, small_print

from qidbayes import InputError
from qidbayes.plots import loss, loss_quantized
from qidbayes.posterior import Fit
from qidbayes.table.schema import validate

MODELS = (("lab/small", 1e9), ("lab/large", 8e9))


def measured(unified: Fit, kaplan: Fit) -> pl.DataFrame:
    """Return the checkpoints that both were fitted to, with their losses."""
    keys = ["model", "tokens"]
    joined = unified.data.join(kaplan.data.select(*keys, "loss_16bit"), on=keys)
    return joined.with_columns(loss=pl.col("loss_16bit") + pl.col("qid"))


def test_loss_before_and_after(unified: Fit, kaplan: Fit) -> None:
    figure = loss(unified, loss_16bit=kaplan, ci_prob=0.8)
    both = replace(unified, loss_16bit=kaplan)
    found = measured(unified, kaplan)
    for axes, (model, size) in zip(figure.axes, MODELS, strict=True):
        own = found.filter(model=model)
        expected = {*own.select("tokens", "loss").iter_rows(), *own.select("tokens", "loss_16bit").iter_rows()}
        assert set(points(axes)) == expected
        *after, before = areas(axes)
        for bits, (tokens, median), band in zip((3.0, 4.0), curves(axes), after, strict=True):
            asked = {"n_params": size, "tokens": tokens, "bits": bits, "model": model}
            answer = both.predict(**asked, response="loss", ci_prob=0.8)
            assert median == pytest.approx(answer["median"].to_numpy())
            assert [band[x] for x in tokens] == [pytest.approx(edge) for edge in answer.select("lower", "upper").rows()]
        ((tokens, median),) = curves(axes, "--")
        answer = kaplan.predict(n_params=size, tokens=tokens, model=model, ci_prob=0.8)
        assert median == pytest.approx(answer["median"].to_numpy())
        assert [before[x] for x in tokens] == [pytest.approx(edge) for edge in answer.select("lower", "upper").rows()]
    assert [text.get_text() for text in figure.legends[0].texts] == ["3 bits", "4 bits", "16 bits"]
    assert "16-bit loss: law kaplan-16bit, fitted to 6 points of made." in small_print(figure)


def test_quantized_loss_is_the_sum(unified: Fit, kaplan: Fit) -> None:
    figure = loss_quantized(unified, loss_16bit=kaplan)
    both = replace(unified, loss_16bit=kaplan)
    found = measured(unified, kaplan)
    for axes, bits in zip(figure.axes, (3.0, 4.0), strict=True):
        assert set(points(axes)) == set(found.filter(bits=bits).select("tokens", "loss").iter_rows())
        for (model, size), whole, dashed in zip(MODELS, curves(axes), curves(axes, "--"), strict=True):
            tokens = whole[0]
            asked = {"n_params": size, "tokens": tokens, "model": model}
            assert whole[1] == pytest.approx(both.predict(bits=bits, response="loss", **asked)["median"].to_numpy())
            assert dashed[1] == pytest.approx(kaplan.predict(**asked)["median"].to_numpy())
            assert (whole[1] > dashed[1]).all()


def test_with_a_smooth_discrepancy(smooth: Fit, smooth_kaplan: Fit) -> None:
    both = replace(smooth, loss_16bit=smooth_kaplan)
    named = {"suite": "made", "model": "lab/small", "method": "gptq", "dataset": "text", "n_params": 1e9}
    axes = loss_quantized(smooth, loss_16bit=smooth_kaplan).axes[1]
    assert (len(curves(axes)), len(curves(axes, "--"))) == (2, 2)
    tokens, median = curves(axes)[0]
    answer = both.predict(pl.DataFrame({**named, "tokens": tokens, "bits": 4.0}), response="loss")
    assert median == pytest.approx(answer["median"].to_numpy())
    (tokens, median), *more = curves(loss(smooth, loss_16bit=smooth_kaplan).axes[0], "--")
    answer = smooth_kaplan.predict(pl.DataFrame({**named, "tokens": tokens, "bits": 16.0}))
    assert median == pytest.approx(answer["median"].to_numpy()) and not more


def test_losses_of_a_table(unified: Fit, kaplan: Fit) -> None:
    columns = ["model", "revision", "n_params", "tokens", "method", "bits", "dataset", "qid", "loss_16bit"]
    later = (
        measured(unified, kaplan).head(1).select(columns).with_columns(tokens=pl.lit(2e11), revision=pl.lit("later"))
    )
    table = validate(later.with_columns(loss=pl.col("loss_16bit") + pl.col("qid")), "made.csv")
    (axes,) = loss_quantized(unified, table, loss_16bit=kaplan).axes
    ((xy, line),) = points(axes).items()
    assert xy == pytest.approx((2e11, later["loss_16bit"][0] + later["qid"][0]))
    assert line.get_markerfacecolor() == "none"


def test_what_cannot_be_drawn(unified: Fit, kaplan: Fit, by_size: Fit) -> None:
    for figure in (loss, loss_quantized):
        with pytest.raises(InputError, match=r"also needs a fit of the 16-bit loss.*law 'unified' says nothing of it"):
            figure(unified)
        with pytest.raises(InputError, match="is for laws of the 16-bit loss with D in the equation; law 'unified'"):
            figure(unified, loss_16bit=unified)
        with pytest.raises(InputError, match="is for laws of QiD with D in the equation; law 'size'"):
            figure(by_size, loss_16bit=kaplan)
        elsewhere = replace(kaplan, data=kaplan.data.with_columns(dataset=pl.lit("other")))
        with pytest.raises(InputError, match="fitted to no common checkpoint"):
            figure(unified, loss_16bit=elsewhere)
        no_losses = validate(
            unified.data.select("model", "revision", "n_params", "tokens", "method", "bits", "dataset", "qid"), "q.csv"
        )
        with pytest.raises(InputError, match="no row of the table has a loss_16bit"):
            figure(unified, no_losses, loss_16bit=kaplan)
