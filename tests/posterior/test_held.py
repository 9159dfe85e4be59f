"""The backtest a fit carries: kept, saved, told, refused."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from faults.artifacts import sound_fit

import qidbayes as qb
from qidbayes.page.sections import backtest_section


@pytest.fixture(scope="module")
def tested(unified: qb.Fit) -> qb.Fit:
    """A fit with a backtest made by hand: 40 points inside, 30 up to twofold outside, 5 up to fourfold."""
    points = pl.DataFrame(
        {
            "split": "by hand",
            "law": "unified",
            "how": ["posterior"] * 75 + ["independent"],
            "beyond": [1.0] * 40 + [1.7] * 30 + [3.0] * 5 + [1.0],
            "pit": [0.5] * 36 + [0.001] * 4 + [0.5] * 12 + [0.97] * 18 + [0.5] * 5 + [0.0],
        }
    )
    return unified.with_backtest(qb.Backtest(pl.DataFrame(), points, {"unified": unified.law}))


def test_project_tells_how_bands_so_far_out_have_held(tested: qb.Fit) -> None:
    most = 205520896000
    asked = {"n_params": 7e9, "bits": 4, "tokens": [1e11, 1.9 * most, 3.9 * most, 1e14]}
    found = tested.project(**asked)
    np.testing.assert_allclose(found["tokens_beyond"], [1, 1.9, 3.9, 1e14 / most])
    assert found["held"].to_list() == [0.9, 0.4, None, None]
    assert found["held_of"].to_list() == [40, 30, 5, 0]
    wider = tested.project(**asked, ci_prob=0.95)["held"].to_list()
    assert wider == [0.9, 1.0, None, None]
    # Twofold in tokens and twofold in size are fourfold together.
    both = tested.project(n_params=1.9 * 11327027200, tokens=1.9 * most, bits=4)
    assert both.select("n_params_beyond", "held_of").row(0) == (pytest.approx(1.9), 5)


def test_a_band_of_the_law_alone_was_not_tested(tested: qb.Fit) -> None:
    found = tested.project(n_params=7e9, bits=4, kind="response_params")
    assert "tokens_beyond" in found.columns
    assert "held" not in found.columns


def test_without_a_backtest_only_the_distance_is_told(unified: qb.Fit) -> None:
    assert unified.project(n_params=7e9, bits=4).columns[-2:] == ["n_params_beyond", "tokens_beyond"]


def test_it_is_saved_with_the_fit(tested: qb.Fit, tmp_path: Path) -> None:
    tested.save(tmp_path / "fit.nc")
    again = qb.load_fit(tmp_path / "fit.nc")
    assert again.project(n_params=7e9, bits=4, tokens=3e11).equals(tested.project(n_params=7e9, bits=4, tokens=3e11))


def test_another_laws_backtest_is_refused(tested: qb.Fit, per_bit: qb.Fit) -> None:
    other = qb.Backtest(pl.DataFrame(), pl.DataFrame(), {"per-bit": per_bit.law})
    with pytest.raises(qb.InputError, match="is of per-bit, not of the law 'unified'"):
        tested.with_backtest(other)


SOUND = {"splits": ["tokens > 100B"], "beyond": [1.0, 2.0], "pit": [0.5, 0.5]}
DAMAGED: list[object] = [
    {},
    [],
    "x",
    None,
    7,
    SOUND | {"pit": [0.5, "x"]},
    SOUND | {"pit": [0.5]},
    SOUND | {"pit": [0.5, math.nan]},
    SOUND | {"pit": [0.5, None]},
    SOUND | {"pit": [0.5, 1.5]},
    SOUND | {"pit": [[0.5], [0.5]], "beyond": [[1.0], [1.0]]},
    SOUND | {"pit": {"a": 0.5}},
    SOUND | {"beyond": [1.0, math.inf]},
    SOUND | {"beyond": [1.0, -math.inf]},
    SOUND | {"beyond": [1.0, math.nan]},
    SOUND | {"beyond": [1.0, 0.0]},
    SOUND | {"beyond": [1.0, 10**400]},
    SOUND | {"beyond": "12"},
    SOUND | {"splits": None},
    SOUND | {"splits": [7]},
    *({name: value for name, value in SOUND.items() if name != missing} for missing in SOUND),
]


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_backtest_says_so(damage: object, tmp_path: Path) -> None:
    fit = sound_fit()
    replace(fit, attributes={**fit.attributes, "backtest": damage}).save(tmp_path / "fit.nc")
    broken = qb.load_fit(tmp_path / "fit.nc")  # `backtest --fit` has to be able to mend it
    with pytest.raises(qb.InputError, match="backtest is damaged; run `qidbayes backtest --fit` again"):
        broken.project(n_params=7e9, bits=4)
    with pytest.raises(qb.InputError, match="backtest is damaged; run `qidbayes backtest --fit` again"):
        backtest_section(broken)


def test_a_backtest_that_held_nothing_out_is_none_at_all() -> None:
    fit = sound_fit()
    empty = replace(fit, attributes={**fit.attributes, "backtest": {"splits": [], "beyond": [], "pit": []}})
    assert empty.project(n_params=7e9, bits=4)["held_of"].to_list() == [0]
    assert "Held out: ." in backtest_section(empty)
