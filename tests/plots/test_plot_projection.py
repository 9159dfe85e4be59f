"""The projection shows what `Fit.project` and the published point answer."""

import numpy as np
import pytest
from drawn import areas, curves, small_print, x_labels

from qidbayes import InputError, published
from qidbayes.plots import projection, qid_map, tokens_to_threshold
from qidbayes.posterior import Fit


def test_lines_and_bands_are_the_answers_of_predict(unified: Fit) -> None:
    figure = projection(unified, n_params=[7e9, 70e9], bits=[3, 4], ci_prob=0.8)
    assert len(figure.axes) == 2
    for axes, size in zip(figure.axes, (7e9, 70e9), strict=True):
        for bits, (tokens, median), band in zip((3, 4), curves(axes), areas(axes), strict=False):
            answer = unified.predict(n_params=size, tokens=tokens, bits=bits, ci_prob=0.8)
            assert median == pytest.approx(answer["median"].to_numpy())
            assert [band[x][0] for x in tokens] == pytest.approx(answer["lower"].to_list())
            assert [band[x][1] for x in tokens] == pytest.approx(answer["upper"].to_list())


def test_kind_reaches_the_bands(unified: Fit) -> None:
    figure = projection(unified, n_params=[7e9], bits=[4], kind="response_params")
    answer = unified.predict(n_params=7e9, tokens=100e12, bits=4, kind="response_params")
    assert areas(figure.axes[0])[0][100e12] == pytest.approx(answer.select("lower", "upper").row(0))
    assert "of the law alone" in small_print(figure)


def test_shaded_region_starts_where_guessing_is_as_good(unified: Fit) -> None:
    figure = projection(unified, n_params=[7e9, 405e9], bits=[4])
    for axes, size in zip(figure.axes, (7e9, 405e9), strict=True):
        shaded = areas(axes)[-1]
        tokens = np.array(list(shaded))
        loss = ((4.74e19 / size) ** (0.045 / 0.399) + 7.63e10 / tokens) ** 0.399  # the paper's Eq. 3
        assert [low for low, _ in shaded.values()] == pytest.approx(np.log(128_256) - loss)
        assert min(high for _, high in shaded.values()) > axes.get_ylim()[1]
        assert "worse than" in axes.texts[-1].get_text()


def test_16bit_loss_may_come_from_a_fit(unified: Fit, kaplan: Fit) -> None:
    figure = projection(unified, n_params=[7e9], bits=[4], loss_16bit=kaplan)
    loss = kaplan.predict(n_params=7e9, tokens=100e12)["median"][0]
    assert areas(figure.axes[0])[-1][100e12][0] == pytest.approx(np.log(128_256) - loss)


def test_published_curves_are_dashed(unified: Fit) -> None:
    paper = published("per-bit")
    figure = projection(unified, n_params=[7e9], bits=[3, 4], published=paper)
    dashed = curves(figure.axes[0], "--")
    assert [c[1][-1] for c in dashed] == pytest.approx([9.88, 1.52], rel=0.01)  # the labels of the paper's Figure 1
    labels = [text.get_text() for text in figure.legends[0].texts]
    assert labels == ["3 bits", "4 bits", "published (per-bit:table1)", "16-bit loss + QiD > ln(vocabulary)"]


def test_data_end_and_numbers_and_ticks(unified: Fit) -> None:
    axes = projection(unified, n_params=[7e9], bits=[4]).axes[0]
    guide = next(line for line in axes.lines if line.get_linestyle() == ":")
    assert list(guide.get_xdata()) == [1e11, 1e11]
    median = unified.predict(n_params=7e9, tokens=100e12, bits=4)["median"][0]
    assert axes.texts[0].get_text() == f"{median:.2g}"
    assert x_labels(axes) == ["10B", "1T", "100T"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Training tokens $D$", "QiD (nats/token)")
    assert axes.get_xscale() == axes.get_yscale() == "log"


def test_titles_say_how_far_a_size_is_beyond_the_data(unified: Fit) -> None:
    axes = projection(unified, n_params=[5e8, 7e9, 80e9], bits=[4]).axes
    where = [a.get_title().split("\n")[1] for a in axes]
    assert where == ["0.5 × the smallest measured", "within the sizes measured", "10 × the largest measured"]


@pytest.mark.filterwarnings("ignore::qidbayes.errors.ExtrapolationWarning")
def test_small_print_names_bit_widths_beyond_the_fitted_ones(unified: Fit, saturating: Fit) -> None:
    fitted = unified.data["bits"]
    wide = 2 * fitted.max()
    for draw in (
        lambda bits: projection(unified, n_params=[1e9], bits=bits),
        lambda bits: tokens_to_threshold(unified, n_params=[1e9], bits=bits),
        lambda bits: qid_map(unified, bits=bits),
    ):
        told = f"{wide:g} bits lie outside the bit widths that were fitted ({fitted.min():g} to {fitted.max():g})"
        assert told in small_print(draw([fitted.max(), wide]))
        assert "outside the bit widths" not in small_print(draw([fitted.max()]))
    assert "outside the bit widths" not in small_print(projection(saturating, n_params=[1e9], bits=[16]))


def test_law_without_bits_has_one_curve(saturating: Fit) -> None:
    axes = projection(saturating, n_params=[1e9]).axes[0]
    assert len(curves(axes)) == 1


def test_law_by_bits(per_bit: Fit) -> None:
    axes = projection(per_bit, n_params=[1e9], bits=[3, 4]).axes[0]
    answer = per_bit.predict(n_params=1e9, tokens=100e12, bits=[3, 4])
    assert [c[1][-1] for c in curves(axes)] == pytest.approx(answer["median"].to_list())


@pytest.mark.parametrize("name", ["kaplan", "by_model", "by_size"])
def test_laws_it_is_not_for(name: str, request: pytest.FixtureRequest) -> None:
    with pytest.raises(InputError, match="projection is for laws of QiD with N and D"):
        projection(request.getfixturevalue(name))


@pytest.mark.filterwarnings("ignore::qidbayes.errors.ExtrapolationWarning")
def test_questions_that_cannot_be_drawn(unified: Fit, per_bit: Fit, saturating: Fit) -> None:
    with pytest.raises(InputError, match="tokens_max must be beyond"):
        projection(unified, tokens_max=1e8)
    with pytest.raises(InputError, match="one value of method"):
        projection(unified, method=["gptq", "awq"])
    with pytest.raises(InputError, match="knows bits 3, 4; not 2"):
        projection(per_bit)
    with pytest.raises(InputError, match="16-bit loss"):
        projection(unified, loss_16bit=unified)
    with pytest.raises(InputError, match="also needs bits"):
        projection(saturating, published=published("per-bit"))


def test_a_published_law_is_not_asked_what_only_the_fit_knows(by_method: Fit) -> None:
    axes = projection(by_method, n_params=[7e9], bits=[4], published=published("per-bit"), method="awq").axes[0]
    assert curves(axes, "--")[0][1][-1] == pytest.approx(1.53, rel=0.01)
    answer = by_method.predict(n_params=7e9, tokens=100e12, bits=4, method="awq")
    assert curves(axes)[0][1][-1] == pytest.approx(answer["median"][0])
