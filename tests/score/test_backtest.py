"""The backtest against refits by hand, simulated truth, and itself in several processes."""

import numpy as np
import polars as pl
import pytest
from plain import plain
from scipy import stats

import qidbayes as qb
from qidbayes.posterior.predictive import Predictive
from qidbayes.score.bootstrap import bootstrap
from qidbayes.score.forecasters import FORECASTERS, Forecast
from qidbayes.score.points import LEVELS

SPLITS = ["tokens > 100B", "n_params > 5B"]


@pytest.fixture(scope="module")
def found(pythia: pl.DataFrame) -> qb.Backtest:
    return qb.backtest(pythia, plain("unified"), SPLITS, baselines=["independent"])


def test_it_is_the_refit_asked_by_hand(pythia: pl.DataFrame, found: qb.Backtest) -> None:
    """Bands of `predict` and of the backtest come from other draws of the noise: some percent apart."""
    held_out = pl.col("tokens") > 100e9
    fit = qb.fit(pythia.filter(~held_out), plain("unified"), random_seed=0)
    asked = pythia.filter(held_out)
    band = fit.predict(asked.select("n_params", "tokens", "bits", "model", "qid"))
    ours = found.points.filter(split=SPLITS[0], how="posterior").join(
        band, on=["model", "tokens", "bits"], how="left", suffix="_by_hand", maintain_order="left"
    )
    assert ours.height == 108
    assert np.abs(np.log(ours["median"] / ours["median_by_hand"])).max() < 0.04
    assert np.abs(np.log(ours["upper_90"] / ours["upper"])).max() < 0.08
    inside = float(band["qid"].is_between(band["lower"], band["upper"]).mean())  # type: ignore[arg-type]
    assert found.by("split", "how")["coverage_90"][0] == pytest.approx(inside, abs=0.05)


def test_shared_effects_widen_the_bands_of_an_unseen_run(found: qb.Backtest) -> None:
    scores = {row["how"]: row for row in found.by("split", "how").filter(split=SPLITS[1]).rows(named=True)}
    assert scores["posterior"]["coverage_90"] > scores["independent"]["coverage_90"] + 0.15
    assert scores["posterior"]["log_density"] > scores["independent"]["log_density"] + 0.8


def test_scores_are_those_of_the_points(found: qb.Backtest) -> None:
    for row in found.scores.rows(named=True):
        points = found.points.filter(pl.all_horizontal(pl.col(k) == row[k] for k in ("split", "fold", "law", "how")))
        assert row["points"] == points.height == {SPLITS[0]: 108, SPLITS[1]: 120}[row["split"]]
        assert row["train_rows"] == 360 - row["points"]
        log_qid = np.log(points["qid"].to_numpy())
        for level in LEVELS:
            inside = points["qid"].is_between(points[f"lower_{level}"], points[f"upper_{level}"]).to_numpy()
            # By PIT in the scores, by quantiles of draws in the bands, which are known to four standard errors.
            tail = (1 - level / 100) / 2
            pit = points["pit"].to_numpy()
            edge = np.minimum(abs(pit - tail), abs(pit - (1 - tail)))
            near = edge < 4 * np.sqrt(tail * (1 - tail) / 4000)
            assert near.mean() < 0.25
            by_pit = (pit >= tail) & (pit <= 1 - tail)
            assert (inside == by_pit)[~near].all()
            assert row[f"coverage_{level}"] == pytest.approx(by_pit.mean(), rel=1e-12)
        assert row["bias"] == pytest.approx((log_qid - np.log(points["median"].to_numpy())).mean(), rel=1e-9)
        assert row["note"] is None
        assert row["left_out"] == 0


def test_processes_change_nothing(pythia: pl.DataFrame, found: qb.Backtest) -> None:
    again = qb.backtest(pythia, plain("unified"), SPLITS, baselines=["independent"], jobs=2)
    assert again.scores.equals(found.scores)
    assert again.points.equals(found.points)


def test_pit_is_uniform_where_the_model_is_true(pythia: pl.DataFrame) -> None:
    """Independent errors, so that the 360 PITs of six left-out sizes are nearly independent: Kolmogorov–Smirnov."""
    law = qb.load_law("unified").with_noise(groups=(), discrepancy="none")
    curve = qb.published("unified").predict(pythia.select("n_params", "tokens", "bits"))["median"].to_numpy()
    noise = 0.15 * np.random.default_rng(3).standard_normal(360)
    simulated = pythia.with_columns(pl.Series("qid", curve * np.exp(noise)), loss=None, loss_16bit=None)
    found = qb.backtest(simulated, law, "leave n_params")
    assert stats.kstest(found.points["pit"].to_numpy(), "uniform").pvalue > 0.001
    score = found.by("law").row(0, named=True)
    # The entropy of a normal error of sd 0.15 is -0.478 nats; 360 points know it to 0.037, parameters cost ~0.02.
    assert score["log_density"] == pytest.approx(0.478, abs=4 * 0.037 + 0.02)
    assert abs(score["coverage_90"] - 0.9) < 4 * np.sqrt(0.09 / 360)


class Recorder:
    """A forecaster that keeps what it is fitted to and asked, and expects the same of every row."""

    def __init__(self) -> None:
        self.fitted: list[pl.DataFrame] = []
        self.asked: list[pl.DataFrame] = []

    def __call__(self, table: pl.DataFrame, law: qb.Law, random_seed: int) -> Forecast:
        self.fitted.append(table)
        return Forecast(self, [], [])

    def predictive(self, frame: pl.DataFrame) -> Predictive:
        self.asked.append(frame)
        return Predictive(np.full((10, frame.height), -2.0), np.ones((10, frame.height)))


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    found = Recorder()
    monkeypatch.setitem(FORECASTERS, "posterior", found)
    return found


def test_a_rolling_fold_is_fitted_to_what_came_before_it(pythia: pl.DataFrame, recorder: Recorder) -> None:
    table = pythia.sample(fraction=1.0, shuffle=True, seed=1)
    found = qb.backtest(table, plain("unified"), "rolling tokens")
    tokens = table["tokens"].unique().sort()
    assert len(recorder.fitted) == len(recorder.asked) == 5
    for block, fitted, asked in zip(range(5), recorder.fitted, recorder.asked, strict=True):
        # Twenty checkpoints of each size: the later ten in five blocks of two.
        held_out = tokens[10 + 2 * block : 12 + 2 * block]
        assert fitted["tokens"].max() < held_out.min()  # type: ignore[operator]
        assert fitted["tokens"].unique().sort().equals(tokens[: 10 + 2 * block])
        assert asked["tokens"].unique().sort().equals(held_out)
    assert found.scores["train_rows"].to_list() == [18 * n for n in (10, 12, 14, 16, 18)]
    assert found.points.height == 180
    # How far a point lies beyond is told from the rows that were fitted.
    assert found.points["tokens_beyond"].to_list() == [
        row["tokens"] / fitted["tokens"].max()
        for fitted, asked in zip(recorder.fitted, recorder.asked, strict=True)
        for row in asked.rows(named=True)
    ]


@pytest.mark.parametrize("split", ["leave n_params", "tokens > 100B", "leave model seeing 6", "leave bits"])
def test_a_fold_is_fitted_to_no_row_that_it_asks_of(pythia: pl.DataFrame, recorder: Recorder, split: str) -> None:
    found = qb.backtest(pythia, plain("unified"), split)
    keys = ["model", "revision", "bits"]
    column = split.split()[1] if split.startswith("leave") else None
    for fitted, asked in zip(recorder.fitted, recorder.asked, strict=True):
        both = pl.concat([fitted, asked])
        assert both.height == both.unique(keys).height == 360
        seen = 6 if "seeing" in split else 0
        if column:
            assert asked[column].n_unique() == 1
            assert fitted.filter(pl.col(column) == asked[column][0]).height == seen
        else:
            assert asked["tokens"].min() > 100e9 >= fitted["tokens"].max()  # type: ignore[operator]
    assert found.scores["points"].to_list() == [asked.height for asked in recorder.asked]


def test_a_law_that_cannot_answer_says_why(pythia: pl.DataFrame) -> None:
    small = pythia.filter(pl.col("n_params") < 1e9)
    found = qb.backtest(small, [plain("unified"), plain("per-bit")], "bits = 3")
    ours, per_bit = found.scores.rows(named=True)
    assert ours["points"] == 60
    assert per_bit["points"] is None
    assert "knows bits 2, 4; not 3" in per_bit["note"]
    with pytest.raises(qb.InputError, match=r"no fold could be scored; the first: .*not 3"):
        qb.backtest(small, plain("per-bit"), "bits = 3")


def test_bootstrap_constants_surround_least_squares(pythia: pl.DataFrame) -> None:
    found = bootstrap(pythia, plain("unified"), random_seed=0, resamples=60)
    best = qb.least_squares(pythia, "unified").constants
    constants = found.curve.scope({}, {})
    for name in ("beta", "alpha", "gamma"):
        draws = constants.value(name)[:, 0]
        assert abs(draws.mean() - best[name]) < 1.0 * draws.std()
        assert 0 < draws.std() < 0.5
    predictive = found.predictive(pythia)
    residual = np.log(pythia["qid"].to_numpy()) - predictive.mean
    np.testing.assert_allclose(found.scatter.mean(), np.sqrt((residual**2).mean()), rtol=0.1)


def test_refusals(pythia: pl.DataFrame) -> None:
    for options, message in (
        ({"baselines": ["none"]}, "no baseline is called 'none'; choose from independent, least-squares"),
        ({"jobs": 0}, "jobs must be a whole number"),
        ({"splits": "tokens > x"}, "is not a count"),
    ):
        with pytest.raises(qb.InputError, match=message):
            qb.backtest(pythia, plain("unified"), **options)  # type: ignore[arg-type]
    with pytest.raises(qb.InputError, match="a name of its own"):
        qb.backtest(pythia, ["unified", "unified"])
    with pytest.raises(qb.InputError, match="laws of one response"):
        qb.backtest(pythia, ["unified", "kaplan-16bit"])
