"""Answers of a fit agree with each other, with NumPy's arithmetic, and with ArviZ."""

import numpy as np
import polars as pl
import pytest

import qidbayes as qb

GRID = {"n_params": [1e9, 70e9], "bits": [2, 4]}


def flat(fit: qb.Fit, name: str) -> np.ndarray:
    values = fit.draws[name]
    return values.reshape(-1, *values.shape[2:])


def test_the_laws_band_is_the_formulas(unified: qb.Fit) -> None:
    found = unified.predict(n_params=7e9, tokens=1e14, bits=3, kind="response_params", ci_prob=0.8)
    k, beta, alpha, gamma = (flat(unified, name) for name in ("k", "beta", "alpha", "gamma"))
    by_hand = k * 1e14**beta / (7e9**alpha * 3**gamma)
    expected = [np.median(by_hand), *np.quantile(by_hand, [0.1, 0.9]), by_hand.mean(), by_hand.std(ddof=1)]
    assert found.columns == ["median", "lower", "upper", "mean", "sd", "n_params", "tokens", "bits"]
    np.testing.assert_allclose(found.row(0)[:5], expected, rtol=1e-9)


def test_a_new_checkpoints_band_has_the_errors_of_all_levels(unified: qb.Fit) -> None:
    asked = {"n_params": 1e9, "tokens": 1e11, "bits": 4}
    law = unified.predict(**asked, kind="response_params", ci_prob=0.6827)
    new = unified.predict(**asked, kind="response", ci_prob=0.6827)
    variance = sum(np.square(flat(unified, s)).mean() for s in ("sigma", "checkpoint_sd", "model_sd"))
    spread = [np.log(b["upper"].item() / b["lower"].item()) / 2 for b in (law, new)]
    assert spread[1] ** 2 - spread[0] ** 2 == pytest.approx(variance, rel=0.15)
    assert new["median"].item() == pytest.approx(law["median"].item(), rel=0.05)


def test_a_known_models_band_uses_its_effect(unified: qb.Fit) -> None:
    known = unified.coords["model"]
    size = dict(unified.data.select("model", "n_params").unique().iter_rows())
    asked = pl.DataFrame({"model": known, "n_params": [size[m] for m in known], "tokens": 1e11, "bits": 3.0})
    found = unified.predict(asked)
    law = unified.predict(asked.drop("model"), kind="response_params")
    effects = flat(unified, "model_effect")
    np.testing.assert_allclose(
        np.log(found["median"] / law["median"]), np.median(effects, axis=0), atol=0.1 * effects.std()
    )
    new = unified.predict(asked.drop("model"))
    assert (found["upper"] / found["lower"] < new["upper"] / new["lower"]).all()


@pytest.mark.parametrize("kind", ["response", "response_params"])
def test_the_threshold_band_is_the_prediction_band_cut_across(unified: qb.Fit, kind: str) -> None:
    for share in (0.2, 0.5, 0.9):
        tokens = unified.tokens_to_threshold(0.3, **GRID, kind=kind, ci_prob=share)
        for row in tokens.iter_rows(named=True):
            at = {"n_params": row["n_params"], "bits": row["bits"], "kind": kind, "ci_prob": share}
            upper = unified.predict(tokens=row["lower"], **at)["upper"].item()
            assert upper == pytest.approx(0.3, rel=0.005)
            lower = unified.predict(tokens=row["upper"], **at)["lower"].item()
            assert lower == pytest.approx(0.3, rel=0.005)


def test_a_curve_that_falls_never_reaches_the_threshold(unified: qb.Fit) -> None:
    # Shift beta so that a tenth of the draws fall with tokens.
    beta = unified.draws["beta"] - np.quantile(unified.draws["beta"], 0.1)
    shifted = qb.Fit(**{**vars_of(unified), "draws": {**unified.draws, "beta": beta}})
    found = shifted.tokens_to_threshold(0.5, n_params=1e9, bits=4, kind="response_params", ci_prob=0.5)
    assert found["never"].item() >= (beta <= 0).mean()
    assert (beta <= 0).mean() == pytest.approx(0.1, abs=1e-3)
    wide = shifted.tokens_to_threshold(0.5, n_params=1e9, bits=4, kind="response_params", ci_prob=0.9)
    assert wide["upper"].item() == np.inf
    assert not np.isnan(wide.select("tokens", "lower", "upper").to_numpy()).any()


def vars_of(fit: qb.Fit) -> dict[str, object]:
    return {name: getattr(fit, name) for name in fit.__dataclass_fields__}


def test_intervals_are_quantiles(unified: qb.Fit, per_bit: qb.Fit) -> None:
    found = unified.interval("beta", ci_prob=0.5)
    assert found.columns == ["name", "median", "lower", "upper", "mean", "sd"]
    expected = np.quantile(flat(unified, "beta"), [0.5, 0.25, 0.75])
    np.testing.assert_allclose(found.row(0)[1:4], expected)
    by_width = per_bit.interval("alpha")
    assert by_width["group"].to_list() == ["2", "3", "4"]
    np.testing.assert_allclose(by_width["mean"], flat(per_bit, "alpha").mean(axis=0))


def test_raw_constants_are_carried_from_the_reference_point(unified: qb.Fit) -> None:
    alpha, beta, gamma = (unified.draws[n] for n in ("alpha", "beta", "gamma"))
    expected = unified.draws["k_ref"] * 1e9**alpha * 4**gamma / 1e11**beta
    np.testing.assert_allclose(unified.draws["k"], expected, rtol=1e-10)
    summary = unified.summary(published="eq8")
    assert dict(summary.select("name", "published").drop_nulls().iter_rows()) == {
        "k": 0.017, "beta": 0.5251, "alpha": 0.2261, "gamma": 5.4967
    }  # fmt: skip


def test_projection_counts_what_is_worse_than_guessing(unified: qb.Fit) -> None:
    found = unified.project(n_params=[7e9, 405e9], bits=[2, 4], kind="response_params")
    loss = qb.published("kaplan-16bit").predict(n_params=[7e9, 405e9], tokens=100e12)["median"].to_list()
    for row in found.iter_rows(named=True):
        k, beta, alpha, gamma = (flat(unified, name) for name in ("k", "beta", "alpha", "gamma"))
        qid = k * 1e14**beta / (row["n_params"] ** alpha * row["bits"] ** gamma)
        base = loss[[7e9, 405e9].index(row["n_params"])]
        assert row["loss_16bit"] == pytest.approx(base)
        assert row["worse_than_random"] == np.mean(base + qid > np.log(128_256))


ASKED = {"n_params": 1e9, "tokens": 1e11, "bits": 4}
WRONG = {
    "no bits": ({"n_params": 1e9, "tokens": 1e11}, "also needs bits"),
    "a stranger": ({**ASKED, "colour": "red"}, "does not depend on 'colour'; it takes"),
    "text": ({**ASKED, "n_params": "big"}, "n_params: 'big' is not a count"),
    "zero": ({**ASKED, "tokens": 0}, "tokens must be positive and finite; got 0"),
    "billions": ({**ASKED, "n_params": [1e9, 7]}, "n_params: 7 is not accepted; .* at least 1000, like 7e9, or 7B"),
    "tokens in billions": ({**ASKED, "tokens": 300}, "tokens: 300 is not accepted; .* like 3e11, or 300B"),
    "a group of nothing": ({**ASKED, "group_size": 0}, "group_size"),
    "infinity": ({**ASKED, "tokens": np.inf}, "tokens must be positive and finite"),
    "nan": ({**ASKED, "n_params": np.nan}, "n_params must be positive and finite"),
    "nothing": ({**ASKED, "n_params": []}, "n_params: no values"),
    "a missing value": ({**ASKED, "n_params": [1e9, None]}, "n_params must be"),
    "a table of a table": ({**ASKED, "n_params": {"a": 1}}, "n_params must be a number, or a list"),
    "a kind": ({**ASKED, "kind": "mean"}, "kind must be 'response' or 'response_params'"),
    "a model": ({**ASKED, "model": "gpt"}, "model 'gpt' was not fitted; known are Eleuther"),
    "a probability": ({**ASKED, "ci_prob": 90}, "ci_prob must be between 0 and 1, not 90"),
    "a true probability": ({**ASKED, "ci_prob": "0.9"}, "ci_prob must be between 0 and 1"),
}


@pytest.mark.parametrize(("asked", "message"), WRONG.values(), ids=WRONG)
def test_a_question_that_cannot_be_answered_says_why(unified: qb.Fit, asked: dict, message: str) -> None:
    with pytest.raises(qb.InputError, match=message):
        unified.predict(**asked)


def test_numbers_of_numpy_are_numbers(unified: qb.Fit) -> None:
    known = unified.predict(n_params=1e9, tokens=1e11, bits=3.3)
    asked = unified.predict(n_params=np.float32(1e9), tokens=np.int64(10**11), bits=np.float32(3.3))
    np.testing.assert_allclose(asked["upper"].item(), known["upper"].item(), rtol=1e-12)
    assert qb.pareto(unified, memory=8e9, tokens=np.int64(10**12)).equals(qb.pareto(unified, memory=8e9, tokens=10**12))


def test_more_questions_that_cannot_be_answered(unified: qb.Fit, per_bit: qb.Fit) -> None:
    with pytest.raises(qb.InputError, match=r"law 'per-bit' knows bits 2, 3, 4; not 5"):
        per_bit.predict(n_params=1e9, tokens=1e11, bits=5)
    with pytest.raises(qb.InputError, match=r"law 'per-bit' knows bits 2, 3, 4; not 5"):
        per_bit.tokens_to_threshold(0.2, n_params=1e9, bits=5)
    with pytest.raises(qb.InputError, match="no parameter is called 'delta'; there are k_ref, beta"):
        unified.interval("delta")
    with pytest.raises(qb.InputError, match="does not depend on 'tokens'"):
        unified.tokens_to_threshold(0.2, n_params=1e9, bits=4, tokens=1e11)
    with pytest.raises(qb.InputError, match="qid must be positive and finite"):
        unified.tokens_to_threshold([0.2, -0.1], n_params=1e9, bits=4)
    with pytest.raises(qb.InputError, match="no published point 'eq9'; it has eq8"):
        unified.summary(published="eq9")
    with pytest.raises(qb.InputError, match="16-bit loss, not 'unified'"):
        unified.project(n_params=1e9, bits=4, loss_16bit=unified)
    with pytest.raises(qb.InputError, match="either a frame of queries or values"):
        unified.predict(pl.DataFrame({"n_params": [1e9], "tokens": [1e11], "bits": [4]}), bits=4)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_answer_of_the_atlas_does_not_depend_on_what_else_is_asked_nor_on_who_asks() -> None:
    atlas = qb.load_fit("atlas")
    asked = {"n_params": 8e9, "tokens": 15e12, "bits": 4.0, "method": "gptq", "dataset": "wikitext2"}
    suites = ["deepseek", "qwen", "another"]  # of 52, 9 and no rows: not of equally many draws
    together = atlas.predict(suite=suites, **asked)
    assert together["suite"].to_list() == suites
    for suite in suites:
        alone = atlas.predict(suite=suite, **asked)
        beside = together.filter(suite=suite)
        for column in ("median", "lower", "upper"):
            assert alone[column][0] == pytest.approx(beside[column][0], rel=1e-9)
        advice = qb.advise(atlas, max_qid=0.1, suite=suite, **{**asked, "bits": [4.0]})
        assert advice["median"][0] == pytest.approx(alone["median"][0], rel=1e-9)
        assert atlas.project(suite=suite, **asked)["median"][0] == pytest.approx(alone["median"][0], rel=1e-9)
