"""The backtest a fit carries: kept, saved, told, refused."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from faults.artifacts import sound_fit
from scipy import stats

import qidbayes as qb
from qidbayes.errors import ExtrapolationWarning
from qidbayes.posterior.coverage import standard_error
from qidbayes.posterior.distance import COLUMNS
from qidbayes.reports.sections import backtest_section

INSIDE = "inside"
TWICE, FOURFOLD = "tokens up to 2× above", "tokens up to 4× above"


def entry(outside: str, pit: list[float], runs: int, checkpoints: int) -> pl.DataFrame:
    """Rows held out so far outside: of so many checkpoints, dealt out to runs in turn."""
    checkpoint = np.arange(len(pit)) % checkpoints
    return pl.DataFrame(
        {
            "outside": outside,
            "pit": pit,
            "suite": "pythia",
            "model": [f"run {c % runs}" for c in checkpoint],
            "revision": [f"step {c}" for c in checkpoint],
        }
    )


def points() -> pl.DataFrame:
    """40 points inside, of 20 checkpoints of 4 runs; 30 up to twofold outside; fewer further out."""
    found = pl.concat(
        [
            entry(INSIDE, [0.5] * 36 + [0.001] * 4, runs=4, checkpoints=20),
            entry(TWICE, [0.5] * 12 + [0.97] * 18, runs=3, checkpoints=10),
            entry(FOURFOLD, [0.5] * 30, runs=3, checkpoints=9),
            entry("tokens up to 2× below", [0.5] * 60, runs=2, checkpoints=30),
            entry("bits up to 2× above", [0.99] * 24, runs=6, checkpoints=24),
        ]
    )
    other = entry(INSIDE, [0.0] * 10, runs=4, checkpoints=10).with_columns(how=pl.lit("independent"))
    found = pl.concat([found.with_columns(how=pl.lit("posterior")), other])
    return found.with_columns(split=pl.lit("by hand"), law=pl.lit("unified"))


@pytest.fixture(scope="module")
def tested(unified: qb.Fit) -> qb.Fit:
    """A fit with a backtest made by hand."""
    return qb.Backtest(pl.DataFrame(), points(), {"unified": unified.law}).attach(unified)


def test_project_tells_how_bands_so_far_out_have_held(tested: qb.Fit) -> None:
    most = 205520896000
    asked = {"n_params": 7e9, "bits": 4, "tokens": [1e11, 1.9 * most, 3.9 * most, 1e14]}
    found = tested.project(**asked)
    np.testing.assert_allclose(found["tokens_beyond"], [1, 1.9, 3.9, 1e14 / most])
    assert found["held"].to_list() == [0.9, 0.4, None, None]  # 9 checkpoints are too few
    assert found.select("held_of", "held_checkpoints", "held_runs").rows() == [
        (40, 20, 4), (30, 10, 3), (30, 9, 3), (0, 0, 0),
    ]  # fmt: skip
    wider = tested.project(**asked, ci_prob=0.95)["held"].to_list()
    assert wider == [0.9, 1.0, None, None]


def test_sides_directions_and_bits_are_told_apart(tested: qb.Fit) -> None:
    asked = {"n_params": 7e9, "tokens": 1e11, "bits": 4}
    before = tested.project(**{**asked, "tokens": 0.6 * 1073741824})
    assert before.select("held_of", "held_checkpoints", "held_runs").row(0) == (60, 30, 2)
    assert not {"held", "held_se"} & {*before.columns}  # of two runs nothing is told
    both = tested.project(**{**asked, "n_params": 1.9 * 11327027200, "tokens": 3e11})
    assert both.select("n_params_beyond", "held_of").row(0) == (pytest.approx(1.9), 0)
    with pytest.warns(ExtrapolationWarning, match="8 bits lie outside"):
        wide = tested.project(**{**asked, "bits": 8})
    assert wide.select("n_params_beyond", "tokens_beyond", "bits_beyond").row(0) == (1.0, 1.0, 2.0)
    # 24 points of so wide a width were held out, and their bands held none.
    assert wide.select("held", "held_of", "held_runs").row(0) == (0.0, 24, 6)


def test_the_standard_error_is_what_shares_of_such_runs_vary_by() -> None:
    """Tables whose runs err together, simulated: the standard deviation of their shares, against what each says."""
    rng = np.random.default_rng(0)
    runs, each, tables = 12, 40, 3000
    chance = rng.beta(4.0, 1.0, (tables, runs, 1))  # of a run's bands to hold, 0.8 on average
    inside = rng.random((tables, runs, each)) < chance
    inside = inside.reshape(tables, -1)
    run = np.repeat(np.arange(runs), each)
    told = np.array([standard_error(one, run) for one in inside])
    true = inside.mean(axis=1).std()
    naive = np.sqrt(0.8 * 0.2 / inside.shape[1])
    assert 2.5 < true / naive < 3.5  # what counting rows leaves out
    assert np.sqrt(np.square(told).mean()) == pytest.approx(true, rel=0.04)


def test_the_standard_error_by_hand() -> None:
    inside = np.array([1, 1, 1, 0, 1, 1, 0, 0, 0, 1], dtype=bool)
    run = np.array([5, 5, 5, 5, 7, 7, 7, 9, 9, 9])
    left = np.array([3 - 0.6 * 4, 2 - 0.6 * 3, 1 - 0.6 * 3])
    assert standard_error(inside, run) == pytest.approx(np.sqrt(3 / 2 * np.sum(left**2)) / 10)
    # Repeating every row says nothing new.
    assert standard_error(np.tile(inside, 4), np.tile(run, 4)) == pytest.approx(standard_error(inside, run))


@pytest.mark.parametrize("runs", [3, 12])
def test_where_every_band_held_the_number_of_runs_says_how_sure_that_is(runs: int) -> None:
    for inside in (True, False):
        found = standard_error(np.full(7 * runs, inside), np.repeat(np.arange(runs), 7))
        assert found == pytest.approx(stats.beta(runs + 1, 1).std())


def test_a_row_of_several_splits_counts_once_each_but_is_one_checkpoint(unified: qb.Fit) -> None:
    once = points().filter(pl.col("outside") == TWICE)
    again = once.with_columns(split=pl.lit("another"), pit=pl.lit(0.5))
    backtest = qb.Backtest(pl.DataFrame(), pl.concat([once, again]), {"unified": unified.law})
    found = backtest.attach(unified).project(n_params=7e9, bits=4, tokens=3e11)
    assert found.select("held", "held_of", "held_checkpoints", "held_runs").row(0) == (0.7, 60, 10, 3)


def test_a_band_of_the_law_alone_was_not_tested(tested: qb.Fit) -> None:
    found = tested.project(n_params=7e9, bits=4, kind="response_params")
    assert "tokens_beyond" in found.columns
    assert "held" not in found.columns


def test_without_a_backtest_only_the_distance_is_told(unified: qb.Fit) -> None:
    told = [*COLUMNS, "held", "held_se", "held_of", "held_checkpoints", "held_runs"]
    found = [name for name in unified.project(n_params=7e9, bits=4).columns if name in told]
    assert found == ["n_params_beyond", "tokens_beyond", "bits_beyond"]  # and all of it is fitted


def test_it_is_saved_with_the_fit(tested: qb.Fit, tmp_path: Path) -> None:
    tested.save(tmp_path / "fit.nc")
    again = qb.load_fit(tmp_path / "fit.nc")
    assert again.project(n_params=7e9, bits=4, tokens=3e11).equals(tested.project(n_params=7e9, bits=4, tokens=3e11))


def test_another_laws_backtest_is_refused(tested: qb.Fit, per_bit: qb.Fit) -> None:
    other = qb.Backtest(pl.DataFrame(), pl.DataFrame(), {"per-bit": per_bit.law})
    with pytest.raises(qb.InputError, match="is of per-bit, not of the law 'unified'"):
        other.attach(tested)


def test_the_old_name_says_the_new_one(tested: qb.Fit) -> None:
    same = qb.Backtest(pl.DataFrame(), points(), {"unified": tested.law})
    with pytest.warns(DeprecationWarning, match=r"backtest\.attach\(fit\)"):
        assert tested.with_backtest(same).attributes == tested.attributes


WHOLE = {"splits": ["x"], "outside": [INSIDE] * 2, "pit": [0.5, 0.5], "run": [1, 2], "checkpoint": [1, 2]}


DAMAGED: list[object] = [
    {}, [], "x", None, 7, {"beyond": [1.0], "pit": [0.5], "splits": ["of an earlier version"]},
    WHOLE | {"pit": ["x", 0.5]}, WHOLE | {"pit": [0.5]}, WHOLE | {"pit": [math.nan, 0.5]}, WHOLE | {"pit": [0.5, None]},
    WHOLE | {"pit": [1.5, 0.5]}, WHOLE | {"pit": {"a": 0.5}}, WHOLE | {"outside": [INSIDE]}, WHOLE | {"outside": 3},
    WHOLE | {"run": None}, WHOLE | {"run": {}}, WHOLE | {"run": [1, math.inf]}, WHOLE | {"checkpoint": [1, 10**400]},
    WHOLE | {"splits": 1}, WHOLE | {"splits": [1]}, WHOLE | {"splits": None},
    *({name: value for name, value in WHOLE.items() if name != missing} for missing in WHOLE),
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_backtest_says_so(damage: object, tmp_path: Path) -> None:
    fit = sound_fit()
    replace(fit, attributes={**fit.attributes, "backtest": damage}).save(tmp_path / "fit.nc")
    broken = qb.load_fit(tmp_path / "fit.nc")  # `backtest --fit` has to be able to mend it
    with pytest.raises(qb.InputError, match="backtest is damaged"):
        broken.project(n_params=7e9, bits=4)
    with pytest.raises(qb.InputError, match="backtest is damaged"):
        backtest_section(broken)


def test_a_backtest_that_held_nothing_out_is_none_at_all() -> None:
    fit, none = sound_fit(), dict.fromkeys(WHOLE, ())
    empty = replace(fit, attributes={**fit.attributes, "backtest": none})
    assert empty.project(n_params=7e9, bits=4)["held_of"].to_list() == [0]
    assert "Held out: ." in backtest_section(empty)
