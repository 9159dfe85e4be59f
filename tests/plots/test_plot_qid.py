"""The figure of QiD shows the points and each run's own band."""

import numpy as np
import polars as pl
import pytest
from drawn import areas, curves, points, small_print, x_labels

from qidbayes import InputError
from qidbayes.plots import qid
from qidbayes.posterior import Fit
from qidbayes.table.schema import validate

SMALL, LARGE = "lab/small", "lab/large"


def test_panels_hold_their_points(unified: Fit) -> None:
    axes = np.array(qid(unified).axes).reshape(2, 2)
    for row, bits in zip(axes, (3, 4), strict=True):
        for panel, model in zip(row, (SMALL, LARGE), strict=True):
            rows = unified.data.filter(pl.col("model") == model, pl.col("bits") == bits)
            assert set(points(panel)) == set(rows.select("tokens", "qid").iter_rows())
    assert axes[0, 0].get_title() == "small\n$N$ = 1B"
    assert [row[-1].texts[0].get_text() for row in axes] == ["3 bits", "4 bits"]


def test_band_is_that_of_the_run(unified: Fit) -> None:
    figure = qid(unified, bits=[4], ci_prob=0.5)
    for panel, model, size in zip(figure.axes, (SMALL, LARGE), (1e9, 8e9), strict=True):
        grey, (tokens, median) = curves(panel)
        answer = unified.predict(n_params=size, tokens=tokens, bits=4, model=model, ci_prob=0.5)
        band = areas(panel)[0]
        assert median == pytest.approx(answer["median"].to_numpy())
        assert [band[x] for x in tokens] == [pytest.approx(edge) for edge in answer.select("lower", "upper").rows()]
        assert not np.allclose(grey[1], median)
    assert "50% for a newly measured checkpoint of the same training run" in small_print(figure)


def test_the_law_alone_is_dotted_where_curves_leave_it(smooth: Fit) -> None:
    figure = qid(smooth, bits=[3])
    for axes, size in zip(figure.axes, (1e9, 8e9), strict=True):
        ((tokens, median),) = curves(axes, ":")
        law = smooth.predict(n_params=size, tokens=tokens, bits=3, kind="response_params")["median"].to_numpy()
        assert median == pytest.approx(law)
    assert "Dotted: the law alone" in small_print(figure)


def test_law_alone(unified: Fit) -> None:
    figure = qid(unified, bits=[4], models=[LARGE], kind="response_params")
    (tokens, median), band = curves(figure.axes[0])[0], areas(figure.axes[0])[0]
    answer = unified.predict(n_params=8e9, tokens=tokens, bits=4, kind="response_params")
    assert median == pytest.approx(answer["median"].to_numpy())
    assert [band[x] for x in tokens] == [pytest.approx(edge) for edge in answer.select("lower", "upper").rows()]
    assert "of the law alone" in small_print(figure)


def test_points_that_were_not_fitted_are_hollow(unified: Fit) -> None:
    made = unified.data.select("model", "revision", "n_params", "tokens", "method", "bits", "dataset", "qid")
    more = made.head(1).with_columns(tokens=pl.lit(2e11), revision=pl.lit("later"), qid=pl.lit(0.5))
    table = validate(pl.concat([made, more]).with_columns(source=pl.lit("made up")), "made.csv")
    figure = qid(unified, table)
    found = points(figure.axes[0])
    assert {xy for xy, line in found.items() if line.get_markerfacecolor() == "none"} == {(2e11, 0.5)}
    assert "Hollow points were not fitted." in small_print(figure)
    assert "Points: made up." in small_print(figure)
    assert "Hollow" not in small_print(qid(unified))


def test_a_new_run_has_the_band_of_a_new_run(unified: Fit) -> None:
    table = validate(
        pl.DataFrame(
            {"model": "new", "n_params": 1e9, "tokens": [1e10, 1e11], "method": "gptq", "bits": 4, "qid": 0.1}
        ),
        "made.csv",
    )
    figure = qid(unified, table)
    tokens, median = curves(figure.axes[0])[0]
    assert median == pytest.approx(unified.predict(n_params=1e9, tokens=tokens, bits=4)["median"].to_numpy())
    assert "of a new training run" in small_print(figure)


def test_methods_have_their_own_rows_and_negative_qid_is_counted(unified: Fit) -> None:
    point = {"model": "new", "n_params": 1e9, "tokens": 1e10, "bits": 4}
    table = validate(
        pl.DataFrame([point | {"method": "awq", "qid": 0.1}, point | {"method": "gptq", "qid": 0.2},
                      point | {"method": "gptq", "qid": -0.001, "bits": 8}]),
        "made.csv",
    )  # fmt: skip
    figure = qid(unified, table)
    assert [axes.texts[0].get_text() for axes in figure.axes] == ["4 bits, awq", "4 bits, gptq"]
    assert [list(points(axes)) for axes in figure.axes] == [[(1e10, 0.1)], [(1e10, 0.2)]]
    assert "Not drawn, being at or below 0: 1 of 3 points." in small_print(figure)
    with pytest.raises(InputError, match="no point has a positive qid"):
        qid(unified, table, bits=[8])


def test_many_models_are_thinned(unified: Fit) -> None:
    sizes = [1e9 * 2**i for i in range(9)]
    table = validate(
        pl.DataFrame({"model": [f"m{i}" for i in range(9)], "n_params": sizes, "tokens": 1e10, "method": "gptq",
                      "bits": 4, "qid": 0.1}),
        "made.csv",
    )  # fmt: skip
    figure = qid(unified, table)
    assert len(figure.axes) == 6
    assert "6 of 9 models are shown" in small_print(figure)
    assert figure.axes[-1].get_title() == "m8\n$N$ = 256B"


def test_laws_by_bits_and_by_model(per_bit: Fit, by_model: Fit) -> None:
    for fit in (per_bit, by_model):
        panel = qid(fit, bits=[3], models=[SMALL]).axes[0]
        tokens, median = curves(panel)[0]
        question = pl.DataFrame({"n_params": 1e9, "tokens": tokens, "bits": 3.0, "model": SMALL})
        assert median == pytest.approx(fit.predict(question)["median"].to_numpy())


def test_axes(unified: Fit) -> None:
    figure = qid(unified, bits=[4])
    assert x_labels(figure.axes[0]) == ["1B", "10B", "100B"]
    assert (figure.get_supxlabel(), figure.get_supylabel()) == ("Training tokens $D$", "QiD (nats/token)")


@pytest.mark.parametrize("name", ["kaplan", "by_size"])
def test_laws_it_is_not_for(name: str, request: pytest.FixtureRequest) -> None:
    with pytest.raises(InputError, match=r"qid is for laws of QiD with D in the equation; law .* is not one"):
        qid(request.getfixturevalue(name))


def test_what_is_not_there(unified: Fit) -> None:
    with pytest.raises(InputError, match=r"bits: the points have 3.0, 4.0; not 2"):
        qid(unified, bits=[2])
    with pytest.raises(InputError, match="model: the points have lab/large, lab/small; not 'small'"):
        qid(unified, models=["small"])
    with pytest.raises(InputError, match="not none"):
        qid(unified, models=[])
    empty = validate(
        pl.DataFrame({"model": "m", "n_params": 1e9, "tokens": 1e9, "method": "none", "bits": 16, "loss_16bit": 3.0}),
        "losses.csv",
    )
    with pytest.raises(InputError, match="no row of the table has a QiD"):
        qid(unified, empty)
