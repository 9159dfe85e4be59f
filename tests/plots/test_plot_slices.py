"""The figures of one factor, of methods and of evaluation sets show the points and what `Fit.predict` answers."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from drawn import areas, curves, points, small_print, x_labels
from matplotlib.axes import Axes

from qidbayes import InputError
from qidbayes.plots import datasets, methods, qid_by_bits, qid_by_size, qid_by_tokens
from qidbayes.plots.slices import most_measured
from qidbayes.posterior import Fit
from qidbayes.table.schema import validate

SMALL, LARGE = "lab/small", "lab/large"
COLUMNS = ["model", "revision", "n_params", "tokens", "method", "bits", "dataset", "qid"]


def hold(axes: Axes, curve: int, answer: pl.DataFrame, linestyle: str = "-") -> None:
    """Check that a curve and its band are an answer."""
    x, median = curves(axes, linestyle)[curve if linestyle == "-" else 0]
    band = areas(axes)[curve]
    assert median == pytest.approx(answer["median"].to_numpy())
    assert [band[at] for at in x] == [pytest.approx(edge) for edge in answer.select("lower", "upper").rows()]


def table(fit: Fit, **changed: pl.Expr) -> pl.DataFrame:
    return validate(fit.data.select(COLUMNS).with_columns(**changed), "made.csv")


def test_by_tokens_has_a_panel_a_model_and_a_curve_a_width(unified: Fit) -> None:
    figure = qid_by_tokens(unified, ci_prob=0.8)
    assert [axes.get_title() for axes in figure.axes] == ["small, $N$ = 1B", "large, $N$ = 8B"]
    for axes, model, size in zip(figure.axes, (SMALL, LARGE), (1e9, 8e9), strict=True):
        assert set(points(axes)) == set(unified.data.filter(model=model).select("tokens", "qid").iter_rows())
        for i, bits in enumerate((3.0, 4.0)):
            tokens = curves(axes)[i][0]
            answer = unified.predict(n_params=size, tokens=tokens, bits=bits, model=model, ci_prob=0.8)
            hold(axes, i, answer)
    assert [text.get_text() for text in figure.legends[0].texts] == ["3 bits", "4 bits"]
    assert x_labels(figure.axes[0]) == ["1B", "10B", "100B"]


def test_the_law_of_tokens_and_the_law_alone(by_model: Fit) -> None:
    axes = qid_by_tokens(by_model, kind="response_params").axes[1]
    tokens = curves(axes)[1][0]
    hold(axes, 1, by_model.predict(tokens=tokens, bits=4, model=LARGE, kind="response_params"))


def test_by_size_has_a_panel_a_width_and_a_curve_a_count_of_tokens(unified: Fit, by_size: Fit) -> None:
    for fit in (unified, by_size):
        figure = qid_by_size(fit)
        assert [axes.get_title() for axes in figure.axes] == ["3 bits", "4 bits"]
        for axes, bits in zip(figure.axes, (3.0, 4.0), strict=True):
            assert set(points(axes)) == set(fit.data.filter(bits=bits).select("n_params", "qid").iter_rows())
            for i, tokens in enumerate((1e9, 1e10, 1e11)):
                sizes = curves(axes)[i][0]
                hold(axes, i, fit.predict(pl.DataFrame({"n_params": sizes, "tokens": tokens, "bits": bits})))
        assert [text.get_text() for text in figure.legends[0].texts] == ["$D$ = 1B", "$D$ = 10B", "$D$ = 100B"]
        assert figure.axes[0].get_xlabel() == "Non-embedding parameters $N$"
    assert "of a new training run" in small_print(qid_by_size(unified))


@pytest.mark.filterwarnings("ignore::qidbayes.errors.ExtrapolationWarning")  # the curves' own ends are asked about
def test_by_bits_has_a_panel_a_model_and_a_curve_a_checkpoint(unified: Fit, by_checkpoint: Fit) -> None:
    for fit in (unified, by_checkpoint):
        figure = qid_by_bits(fit)
        for axes, model, size in zip(figure.axes, (SMALL, LARGE), (1e9, 8e9), strict=True):
            for i, tokens in enumerate((1e9, 1e10, 1e11)):
                bits = curves(axes)[i][0]
                asked = {"n_params": size, "tokens": tokens, "bits": bits, "model": model, "revision": f"at{tokens:g}"}
                hold(axes, i, fit.predict(pl.DataFrame(asked)))
            assert x_labels(axes) == ["3", "4"]


def test_series_are_those_measured_most_and_spread_over_their_range(unified: Fit) -> None:
    tokens = [1e9, 2e9, 4e9, 9e9, 1e11, 2e11]
    measured = pl.DataFrame({"model": "m", "n_params": 1e9, "tokens": tokens, "method": "gptq", "qid": 0.1})
    widths = pl.DataFrame({"bits": [3.0, 4.0]})
    measured = measured.join(widths, how="cross").filter((pl.col("tokens") < 2e11) | (pl.col("bits") == 3))
    figure = qid_by_bits(unified, validate(measured, "made.csv"))
    assert [text.get_text() for text in figure.legends[0].texts] == ["$D$ = 1B", "$D$ = 9B", "$D$ = 100B"]
    assert "3 of 6 counts of tokens are shown." in small_print(figure)


def test_smooth_discrepancy_is_asked_of_the_run_and_kind(smooth: Fit) -> None:
    axes = qid_by_tokens(smooth).axes[0]
    tokens = curves(axes)[1][0]
    named = {"suite": "made", "model": SMALL, "method": "gptq", "dataset": "text"}
    hold(axes, 1, smooth.predict(n_params=1e9, tokens=tokens, bits=4.0, **named))
    new = smooth.predict(n_params=1e9, tokens=tokens, bits=4.0)
    assert np.log(new["upper"] / new["lower"]).min() > 1.2 * np.log(np.divide(*areas(axes)[1][tokens[10]][::-1]))
    assert "of the same training run" in small_print(qid_by_tokens(smooth))


def test_the_law_alone_is_dotted_where_curves_leave_it(smooth: Fit, unified: Fit) -> None:
    figure = qid_by_tokens(smooth)
    for axes, size in zip(figure.axes, (1e9, 8e9), strict=True):
        for i, bits in enumerate((3.0, 4.0)):
            tokens, median = curves(axes, ":")[i]
            law = smooth.predict(n_params=size, tokens=tokens, bits=bits, kind="response_params")["median"].to_numpy()
            assert median == pytest.approx(law)
            assert np.abs(np.log(curves(axes)[i][1] / median)).max() > 0.1
    assert "Dotted: the law alone" in small_print(figure)
    for plain in (qid_by_tokens(unified), qid_by_tokens(smooth, kind="response_params")):
        assert not curves(plain.axes[0], ":") and "Dotted" not in small_print(plain)


def test_methods_are_answered_each_by_its_fit(unified: Fit) -> None:
    data = unified.data.with_columns(pl.col("qid") * 2, method=pl.lit("awq"))
    awq = replace(unified, data=data, draws={**unified.draws, "k": unified.draws["k"] * 2})
    figure = methods(unified, awq)
    assert [axes.get_title() for axes in figure.axes] == [
        f"{name}, $N$ = {size}\n{bits} bits" for name, size in (("small", "1B"), ("large", "8B")) for bits in (3, 4)
    ]
    for i, (fit, line) in enumerate(((unified, "-"), (awq, "--"))):
        tokens = curves(figure.axes[3], line)[0][0]
        hold(figure.axes[3], i, fit.predict(n_params=8e9, tokens=tokens, bits=4, model=LARGE), line)
    measured = pl.concat([unified.data, data]).filter(model=LARGE, bits=4)
    assert set(points(figure.axes[3])) == set(measured.select("tokens", "qid").iter_rows())
    assert [text.get_text() for text in figure.legends[0].texts] == ["gptq", "awq"]
    assert "Law unified, fitted apart to 12 and 12 points of made." in small_print(figure)


def test_one_fit_of_several_methods(by_method: Fit) -> None:
    data = by_method.data
    both = replace(by_method, data=pl.concat([data, data.with_columns(pl.col("qid") * 3, method=pl.lit("awq"))]))
    axes = methods(both).axes[0]
    for i, (method, line) in enumerate((("gptq", "-"), ("awq", "--"))):
        tokens = curves(axes, line)[0][0]
        hold(axes, i, both.predict(n_params=1e9, tokens=tokens, bits=4, model=SMALL, method=method), line)


def test_an_evaluation_set_that_was_not_fitted_has_points_alone(unified: Fit) -> None:
    web, wiki = table(unified), table(unified, qid=pl.col("qid") * 1.1, dataset=pl.lit("wiki"))
    figure = datasets(unified, table=pl.concat([web, wiki.filter(pl.col("model") == LARGE)]))
    assert len(figure.axes) == 2  # of the model that has both
    for axes, bits in zip(figure.axes, (3, 4), strict=True):
        assert len(areas(axes)) == 1
        shown = points(axes)
        hollow = {xy for xy, line in shown.items() if line.get_markerfacecolor() == "none"}
        assert hollow == set(wiki.filter(model=LARGE, bits=bits).select("tokens", "qid").iter_rows())
        assert len(shown) == 6


def test_what_cannot_be_compared(unified: Fit) -> None:
    with pytest.raises(InputError, match=r"methods: no model and bit width has points of more than one method.*gptq"):
        methods(unified)
    awq = unified.data.with_columns(method=pl.lit("awq"))
    with pytest.raises(InputError, match="several of the fits were fitted to gptq"):
        methods(unified, unified, table=pl.concat([table(unified), table(replace(unified, data=awq))]))
    with pytest.raises(InputError, match="methods needs a fit"):
        methods()
    with pytest.raises(InputError, match="datasets: no model and bit width has points of more than one dataset"):
        datasets(unified)


def test_a_curve_stands_for_one_method_and_set(unified: Fit) -> None:
    both = pl.concat([table(unified), table(unified, dataset=pl.lit("wiki"))])
    with pytest.raises(InputError, match="qid_by_tokens draws one dataset, and the points have text, wiki"):
        qid_by_tokens(unified, both)
    with pytest.raises(InputError, match="methods draws one dataset"):
        methods(unified, table=pl.concat([both, table(unified, method=pl.lit("awq"))]))


@pytest.mark.parametrize(
    ("figure", "name", "symbol"),
    [
        (qid_by_tokens, "by_size", "D"),
        (qid_by_size, "by_model", "N"),
        (qid_by_bits, "by_model", "P"),
        (qid_by_bits, "per_bit", "P"),
        (methods, "kaplan", "D"),
    ],
)
def test_laws_they_are_not_for(figure: object, name: str, symbol: str, request: pytest.FixtureRequest) -> None:
    fit = request.getfixturevalue(name)
    with pytest.raises(InputError, match=rf"is for laws of QiD with {symbol} in the equation; law '{fit.law.name}'"):
        figure(fit)  # type: ignore[operator]


def test_a_law_that_changes_along_the_axis_has_no_curve(unified: Fit) -> None:
    law = replace(unified.law, equation="k * learning_rate * D**beta / (N**alpha * P**gamma)")
    for figure, along in ((qid_by_tokens, "a training run"), (qid_by_size, "model sizes")):
        with pytest.raises(InputError, match=f"stay the same along {along}; law 'unified' also needs learning_rate"):
            figure(replace(unified, law=law))


def test_points_of_unknown_tokens_have_no_curve_over_them() -> None:
    points = pl.DataFrame({"tokens": [None, 10**11, 10**11, 10**12], "n_params": [1e9, 1e9, 2e9, 1e9]})
    drawn, notes = most_measured(points, "tokens", "n_params", 4)
    assert drawn["tokens"].to_list() == [10**11, 10**11] and notes == ["1 of 2 counts of tokens are shown."]
    with pytest.raises(InputError, match="no point says its tokens"):
        most_measured(points.head(1), "tokens", "n_params", 4)
