"""What the data do not identify is said, not printed as a number."""

import polars as pl
import pytest

import qidbayes as qb
from qidbayes.posterior.fit import IdentificationWarning


def test_gamma_at_one_bit_width_is_not_identified(one_width: qb.Fit) -> None:
    assert one_width.diagnostics.unidentified == ("gamma",)
    assert [name for name in one_width.draws if not one_width.is_identified(name)] == ["gamma", "k"]
    assert one_width.diagnostics.problems() == []
    (remark,) = one_width.diagnostics.remarks()
    assert remark.startswith("gamma is not identified by these data")


def test_the_summary_has_no_numbers_for_it(one_width: qb.Fit) -> None:
    rows = one_width.summary()
    bare = rows.filter(~pl.col("identified"))
    assert set(bare["name"]) == {"gamma", "k"}
    numbers = bare.select("mean", "sd", "median", "lower", "upper")
    assert numbers.null_count().row(0) == (2, 2, 2, 2, 2)
    assert rows.filter("identified").select(numbers.columns).null_count().row(0) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize("name", ["gamma", "k"])
def test_an_interval_is_refused(one_width: qb.Fit, name: str) -> None:
    with pytest.raises(qb.InputError, match=f"'{name}' is not identified by these data"):
        one_width.interval(name)


def test_answers_warn_where_they_were_asked(
    one_width: qb.Fit, unified: qb.Fit, recwarn: pytest.WarningsRecorder
) -> None:
    asked = {"n_params": 1e9, "bits": 3}
    for ask in (
        lambda fit: fit.predict(tokens=1e11, **asked),
        lambda fit: fit.tokens_to_threshold(0.2, **asked),
        lambda fit: fit.project(**asked),
    ):
        with pytest.warns(
            IdentificationWarning, match="gamma is not identified .* so do answers that depend on it"
        ) as caught:
            ask(one_width)
        assert caught[0].filename == __file__
        ask(unified)
    assert not [w for w in recwarn if w.category is IdentificationWarning]


def test_what_is_identified_is_not_doubted(unified: qb.Fit, per_bit: qb.Fit) -> None:
    for fit in (unified, per_bit):
        assert fit.diagnostics.unidentified == ()
        assert fit.diagnostics.remarks() == []
        assert min(fit.diagnostics.contraction.values()) > 0.9
