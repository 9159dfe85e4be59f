"""Laws of the KL divergence from the 16-bit model: fitted, kept, asked and scored as laws of QiD are."""

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import qidbayes as qb
from qidbayes.infer.design import design

LAW = qb.Law(
    "k * D**beta / P**gamma",
    priors={
        "k": qb.Prior("LogNormal", mu=-3, sigma=2),
        "beta": qb.Prior("Normal", mu=0.5, sigma=0.5),
        "gamma": qb.Prior("Normal", mu=5, sigma=3),
    },
    response="kld",
    reference={"D": 1e11, "P": 4},
    noise=qb.Noise(groups=(), discrepancy="none"),
)


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    """QiD at 8 bits is drowned in its error; the divergence is not."""
    rng = np.random.default_rng(5)
    tokens, bits = np.tile([1e10, 1e11, 1e12], 12), np.repeat([2.0, 4.0, 6.0, 8.0], 9)
    kld = 0.02 * (tokens / 1e11) ** 0.4 * (bits / 4) ** -5.0 * np.exp(0.1 * rng.standard_normal(36))
    made = {"model": [f"m{i}" for i in range(36)], "n_params": 10**9, "method": "rtn", "suite": "made"}
    measured = {"qid": kld / 2 + 0.001 * rng.standard_normal(36), "qid_se": 0.001}
    return pl.DataFrame({**made, "tokens": tokens, "bits": bits, **measured, "kld": kld, "kld_se": kld / 20})


@pytest.fixture(scope="module")
def fit(table: pl.DataFrame) -> qb.Fit:
    return qb.fit(table, LAW, random_seed=0)


def test_from_the_table_to_the_answers(fit: qb.Fit, tmp_path: Path) -> None:
    assert fit.diagnostics.problems() == []
    for name, true in {"beta": 0.4, "gamma": 5.0}.items():
        draws = fit.draws[name]
        assert abs(draws.mean() - true) < 4 * draws.std(), name  # four posterior standard deviations
    fit.save(tmp_path / "kld.nc")
    kept = qb.load_fit(tmp_path / "kld.nc")
    assert kept.law == fit.law
    assert kept.data.select("kld", "kld_se").equals(fit.data.select("kld", "kld_se"))
    found = kept.predict(tokens=1e12, bits=8, kind="response_params")["median"].item()
    assert found == pytest.approx(0.02 * 10**0.4 * 2**-5.0, rel=0.2)
    with pytest.raises(qb.InputError, match="does not say how QiD grows"):
        kept.tokens_to_threshold(qid=0.1, bits=4)


def test_the_rows_errors_are_the_divergences(table: pl.DataFrame, fit: qb.Fit) -> None:
    rows = design(table, LAW)
    assert rows.error.tolist() == pytest.approx((rows.response / 20).tolist())
    np.testing.assert_allclose(rows.variance, 1 / 400)
    forecast, without = fit.predictive(table), fit.predictive(table.drop("kld_se"))
    added = np.square(forecast.sd) - np.square(without.sd)  # of the logarithm, at the divergence that is expected
    np.testing.assert_allclose(added, np.square(table["kld_se"].to_numpy() * np.exp(-forecast.mean)))


def test_a_divergence_of_0_needs_its_error(table: pl.DataFrame) -> None:
    wrong = table.with_columns(kld=pl.when(pl.int_range(pl.len()) == 3).then(0.0).otherwise("kld"), kld_se=None)
    with pytest.raises(qb.InputError, match=r"1 of 36 rows have KL divergence ≤ 0 and no kld_se .* give kld_se"):
        design(wrong, LAW)


def test_a_table_without_divergences_is_refused(table: pl.DataFrame) -> None:
    with pytest.raises(qb.InputError, match="no row of the table has a KL divergence, which law 'law' is about"):
        design(table.drop("kld", "kld_se"), LAW)


@pytest.mark.parametrize("response", ["qid", "kld"])
def test_the_quantizers_own_error_adds_to_the_evaluations(table: pl.DataFrame, response: str, fit: qb.Fit) -> None:
    law = LAW if response == "kld" else dataclasses.replace(LAW, response="qid")
    both = table.with_columns((3 * pl.col(f"{response}_se")).alias(f"{response}_se_quantizer"))
    error = design(table, law).error
    np.testing.assert_allclose(design(both, law).error, error * np.sqrt(10))
    if response == "kld":
        summed, one, none = (np.square(fit.predictive(some).sd) for some in (both, table, table.drop("kld_se")))
        np.testing.assert_allclose(summed - none, 10 * (one - none))
