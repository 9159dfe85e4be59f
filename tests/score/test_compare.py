"""A comparison: grouped scores first, weights that are those of its points, a stack that answers."""

import dataclasses

import numpy as np
import polars as pl
import pytest
from plain import plain

import qidbayes as qb
from qidbayes.errors import DiagnosticsWarning
from qidbayes.score.compare import _clustered_se, _say_what_failed
from qidbayes.score.stacking import stacking_weights

NO_SIZE = qb.Law(
    "k * D**beta / P**gamma",
    name="bits",  # as a column of the table is called
    priors={
        "k": qb.Prior("LogNormal", mu=-3.0, sigma=2.0),
        "beta": qb.Prior("Normal", mu=0.5, sigma=0.5),
        "gamma": qb.Prior("Normal", mu=5.0, sigma=3.0),
    },
    reference={"D": 1e11, "P": 4},
    noise=qb.Noise(discrepancy="none"),
)


@pytest.fixture(scope="module")
def found(pythia: pl.DataFrame) -> qb.Comparison:
    return qb.compare(pythia, [plain("unified"), NO_SIZE], ["n_params > 5B", "tokens > 100B"])


def test_the_table_is_of_the_held_out_points(found: qb.Comparison) -> None:
    assert found.table["law"].to_list() == ["unified", "bits"]
    for row in found.table.rows(named=True):
        points = found.backtest.points.filter(law=row["law"])
        assert row["log_density"] == pytest.approx(points["log_density"].mean())
        late = points.filter(split="tokens > 100B")
        assert row["tokens > 100B"] == pytest.approx(late["log_density"].mean())
    first, second = found.table.rows(named=True)
    assert first["behind"] == 0
    assert second["behind"] == pytest.approx(first["log_density"] - second["log_density"])
    density = np.stack([found.backtest.points.filter(law=n)["log_density"].to_numpy() for n in found.weights], axis=1)
    np.testing.assert_allclose(list(found.weights.values()), stacking_weights(density), atol=1e-6)


def test_rows_and_checkpoints_that_stay_in_the_fit_flatter(found: qb.Comparison) -> None:
    row = found.table.filter(law="unified").row(0, named=True)
    assert row["loo_row"] > row["loo_checkpoint"] > row["log_density"]


def test_a_fit_that_failed_is_named(found: qb.Comparison, recwarn: pytest.WarningsRecorder) -> None:
    fit = found.fits["unified"]
    _say_what_failed("unified", fit)
    assert not recwarn.list
    failed = dataclasses.replace(fit, diagnostics=dataclasses.replace(fit.diagnostics, divergences=3))
    with pytest.warns(DiagnosticsWarning, match="fit of unified .* 3 divergent transitions"):
        _say_what_failed("unified", failed)


def test_the_stack_answers_like_a_fit(found: qb.Comparison) -> None:
    stack, fit = found.stack(), found.fits["unified"]
    asked = {"n_params": [1e9, 7e9], "bits": [3, 4]}
    assert stack.predict(tokens=1e12, **asked).columns == fit.predict(tokens=1e12, **asked).columns
    assert stack.project(**asked).columns == fit.project(**asked).columns
    held_out = fit.data.head(3)
    assert stack.predictive(held_out).mean.shape == (4000, 3)


def test_standard_error_over_runs_is_that_of_their_means() -> None:
    # As many rows in each run: the textbook standard error of the mean of the runs' means.
    means = np.array([0.1, 0.5, -0.2, 0.4])
    difference, runs = np.repeat(means, 5), pl.Series(np.repeat(list("abcd"), 5))
    assert _clustered_se(difference, runs) == pytest.approx(means.std(ddof=1) / 2)


def test_refusals(pythia: pl.DataFrame) -> None:
    with pytest.raises(qb.InputError, match="at least two laws"):
        qb.compare(pythia, ["unified"])
    with pytest.raises(qb.InputError, match="at least two laws"):
        qb.compare(pythia, "unified")
