"""The curves of coverage and the PIT histograms, read back from the figure."""

import numpy as np
import polars as pl
import pytest
from drawn import areas, curves, small_print
from scipy import stats

import qidbayes as qb


def made(pit: dict[tuple[str, str, str], np.ndarray]) -> qb.Backtest:
    """Return a backtest with PITs of each (split, law, how); three quantizations a checkpoint."""
    frames = [
        pl.DataFrame(
            {
                "split": split, "law": law, "how": how, "suite": "lab", "model": "lab/a",
                "revision": [f"step{i // 3}" for i in range(len(values))],
                "tokens": [i // 3 for i in range(len(values))],
                "method": "gptq", "bits": [i % 3 + 2.0 for i in range(len(values))], "dataset": "d", "pit": values,
            }
        )
        for (split, law, how), values in pit.items()
    ]  # fmt: skip
    return qb.Backtest(pl.DataFrame(), pl.concat(frames), {})


RNG = np.random.default_rng(0)
PIT = {
    ("tokens > 1B", "unified", "posterior"): RNG.uniform(size=60),
    ("tokens > 1B", "unified", "independent"): RNG.beta(3, 1, size=60),
    ("leave bits", "unified", "posterior"): RNG.beta(0.5, 0.5, size=30),
}


def test_coverage_is_the_share_of_points_in_central_bands() -> None:
    figure = qb.plot.backtest(made(PIT))
    left = figure.axes[0]
    drawn = curves(left) + curves(left, "--")
    for (x, y), key in zip(drawn, list(PIT)[:2], strict=True):
        for nominal in (0.5, 0.9):
            inside = np.mean(np.abs(PIT[key] - 0.5) <= nominal / 2)
            assert y[np.isclose(x, nominal)][0] == pytest.approx(inside)


def test_grey_counts_checkpoints_and_not_rows() -> None:
    (band,) = areas(qb.plot.backtest(made(PIT)).axes[0])
    low, high = band[min(band, key=lambda x: abs(x - 0.9))]
    assert (low, high) == pytest.approx(tuple(stats.binom(20, 0.9).ppf([0.05, 0.95]) / 20))


def test_histogram_is_of_pit() -> None:
    right = qb.plot.backtest(made(PIT)).axes[3]
    (steps,) = right.patches[-1:]
    expected = np.histogram(PIT["leave bits", "unified", "posterior"], np.linspace(0, 1, 11))[0] / 30
    np.testing.assert_allclose(steps.get_data().values, expected)
    assert right.get_title(loc="right") == "leave bits: 30 points of 10 checkpoints"


def test_splits_can_be_chosen_and_must_exist() -> None:
    assert len(qb.plot.backtest(made(PIT), splits=["leave bits"]).axes) == 2
    with pytest.raises(qb.InputError, match="no split 'rolling'; it has tokens > 1B, leave bits"):
        qb.plot.backtest(made(PIT), splits=["rolling"])
    many = made({(f"tokens > {i}B", "unified", "posterior"): RNG.uniform(size=6) for i in range(1, 11)})
    assert "8 of 10 splits are shown" in small_print(qb.plot.backtest(many))
