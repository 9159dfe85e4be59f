"""The mixture of normals against scipy, quadrature and closed forms."""

import numpy as np
import polars as pl
import pytest
from scipy import integrate, stats

import qidbayes as qb
from qidbayes.posterior.predictive import Predictive, crps


@pytest.fixture
def mixture() -> Predictive:
    rng = np.random.default_rng(0)
    return Predictive(rng.normal(-2.0, 0.7, (50, 3)), rng.uniform(0.1, 0.9, (50, 3)))


def test_density_and_pit_are_the_mixtures(mixture: Predictive) -> None:
    y = np.array([-2.0, -9.0, 1.0])
    each = stats.norm(mixture.mean, mixture.sd)
    np.testing.assert_allclose(mixture.log_density(y), np.log(each.pdf(y).mean(axis=0)), rtol=1e-10)
    np.testing.assert_allclose(mixture.pit(y), each.cdf(y).mean(axis=0), rtol=1e-10, atol=1e-300)


def test_density_integrates_to_one_and_is_the_slope_of_pit(mixture: Predictive) -> None:
    column = Predictive(mixture.mean[:, :1], mixture.sd[:, :1])
    area, _ = integrate.quad(lambda y: float(np.exp(column.log_density(np.array([y]))[0])), -12, 8, limit=300)
    assert area == pytest.approx(1.0, abs=1e-6)
    slope = (column.pit(np.array([-1.999])) - column.pit(np.array([-2.001]))) / 0.002
    assert slope[0] == pytest.approx(np.exp(column.log_density(np.array([-2.0]))[0]), rel=1e-4)


def test_a_hopeless_forecast_has_a_finite_density() -> None:
    far = Predictive(np.zeros((10, 1)), np.full((10, 1), 0.1))
    assert far.log_density(np.array([8.0]))[0] == pytest.approx(-3200 - np.log(0.1) - 0.5 * np.log(2 * np.pi))


def test_draws_have_the_mixtures_quantiles() -> None:
    normal = Predictive(np.full((4000, 2), 1.0), np.full((4000, 2), 2.0))
    draws = normal.draws(0)
    np.testing.assert_allclose(
        np.quantile(draws, [0.05, 0.5, 0.95], axis=0)[:, 0], stats.norm(1, 2).ppf([0.05, 0.5, 0.95]), atol=0.01
    )
    assert (draws == normal.draws(0)).all()


def test_crps_of_a_normal_has_a_closed_form() -> None:
    # Gneiting and Raftery (2007), Eq. 20.
    draws = Predictive(np.full((20_000, 3), 0.3), np.full((20_000, 3), 0.5)).draws(0)
    y = np.array([0.3, -1.0, 2.0])
    z = (y - 0.3) / 0.5
    exact = 0.5 * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi))
    np.testing.assert_allclose(crps(draws, y), exact, atol=2e-3)


def test_crps_is_the_double_loop() -> None:
    draws, y = np.random.default_rng(1).normal(size=(30, 2)), np.array([0.2, 3.0])
    loop = [
        np.mean([abs(a - y[j]) for a in draws[:, j]])
        - 0.5 * np.mean([abs(a - b) for a in draws[:, j] for b in draws[:, j]])
        for j in range(2)
    ]
    np.testing.assert_allclose(crps(draws, y), loop, rtol=1e-12)


def test_predictive_agrees_with_the_band_of_predict(unified: qb.Fit, pythia: pl.DataFrame) -> None:
    """Of a fitted model and of a new one; the band is from 4,000 draws, its ends known to some percent."""
    rows = pythia.filter(tokens=205520896000).head(4)
    asked = rows.select("n_params", "tokens", "bits", "model")
    for queries, named in ((asked, asked), (asked.drop("model"), asked.with_columns(model=pl.lit("another")))):
        band = unified.predict(queries)
        predictive = unified.predictive(named)
        for column, level in (("lower", 0.05), ("median", 0.5), ("upper", 0.95)):
            # Standard error of a tail probability over 4,000 draws: 0.0034 at 0.05, 0.0079 at 0.5.
            pit = predictive.pit(np.log(band[column].to_numpy()))
            np.testing.assert_allclose(pit, level, atol=4 * np.sqrt(level * (1 - level) / 4000))


def test_predictive_needs_the_laws_columns(unified: qb.Fit) -> None:
    with pytest.raises(qb.InputError, match="also needs bits"):
        unified.predictive(pl.DataFrame({"n_params": [1e9], "tokens": [1e11]}))
