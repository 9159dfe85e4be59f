"""Advice against the normal distribution, quadrature, and the laws' own arithmetic."""

import warnings

import numpy as np
import polars as pl
import pytest
from made import NESTED, SMOOTH, unified_fit
from scipy import integrate, stats

import qidbayes as qb
from qidbayes.decide.formats import bits_per_weight
from qidbayes.errors import AssumptionWarning

ONE = {"k_ref": 0.04, "beta": 0.5, "alpha": 0.3, "gamma": 5.0}
SD = np.sqrt(0.1**2 + 0.2**2 + 0.3**2)
COUNT = 20_000


@pytest.fixture
def data() -> pl.DataFrame:
    return qb.load_table("pythia").filter(pl.col("n_params") < 1e9, pl.col("tokens") > 1.5e11)


@pytest.fixture
def fit(data: pl.DataFrame) -> qb.Fit:
    """20,000 draws of the same constants: what varies is the scatter, whose distribution is known."""
    return unified_fit({**ONE, "beta": np.full(COUNT, 0.5)}, NESTED, data)


def qid(n: float, d: float, p: float) -> float:
    return ONE["k_ref"] * (d / 1e11) ** 0.5 / ((n / 1e9) ** 0.3 * (p / 4) ** 5)


def test_the_chance_is_that_of_a_lognormal(fit: qb.Fit) -> None:
    found = qb.advise(fit, n_params=8e9, tokens=[1e12, 15e12], max_qid=0.1)
    assert found["bits"].to_list() == [2, 3, 4] * 2
    for row in found.iter_rows(named=True):
        expected = stats.norm(np.log(qid(8e9, row["tokens"], row["bits"])), SD).cdf(np.log(0.1))
        assert row["prob"] == pytest.approx(expected, abs=4 * np.sqrt(max(expected * (1 - expected), 1e-4) / COUNT))


@pytest.mark.filterwarnings("ignore::qidbayes.errors.ExtrapolationWarning")
def test_the_smallest_width_that_is_likely_enough_is_advised(fit: qb.Fit) -> None:
    found = qb.advise(fit, n_params=8e9, tokens=[1e10, 5e11, 1e14], max_qid=0.1, bits=[4, 2, 3, 8], prob=0.9)
    assert found.filter("advised").select("tokens", "bits").rows() == [(1e10, 3), (5e11, 4), (1e14, 8)]
    for row in found.filter("advised").iter_rows(named=True):
        less = found.filter(pl.col("tokens") == row["tokens"], pl.col("bits") < row["bits"])
        assert row["prob"] >= 0.9
        assert (less["prob"] < 0.9).all()
    assert not qb.advise(fit, n_params=8e9, tokens=1e14, max_qid=1e-6)["advised"].any()


def test_the_band_is_the_one_of_predict(unified: qb.Fit) -> None:
    asked = {"n_params": 8e9, "tokens": 15e12}
    for kind in ("response", "response_params"):
        found = qb.advise(unified, **asked, max_qid=0.3, prob=0.95, kind=kind)
        band = unified.predict(**asked, bits=[2.0, 3.0, 4.0], kind=kind)
        assert found.select("median", "lower", "upper").equals(band.select("median", "lower", "upper"))
        # The upper end of the 90% band is what 95% lie under.
        at_end = qb.advise(unified, **asked, max_qid=band["upper"][2], kind=kind)
        assert at_end["prob"][2] == pytest.approx(0.95, abs=5e-4)


def test_a_band_above_what_guessing_loses_is_told() -> None:
    """Two bits by any method reach far above; three of GPTQ do not."""
    atlas = qb.load_fit("atlas")
    with pytest.warns(AssumptionWarning, match=r"above ln\(128,256\) = 11\.8 nats"):
        wide = qb.advise(atlas, n_params=8e9, tokens=15e12, max_qid=0.1, bits=[2])
    assert wide["upper"].item() > np.log(128_256)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        narrow = qb.advise(atlas, n_params=8e9, tokens=15e12, max_qid=0.1, bits=[3], method="gptq")
    assert narrow["upper"].item() < 11 and not any("guessing" in str(one.message) for one in told)


def test_equal_bytes() -> None:
    assert bits_per_weight(4, 128) == 4 + (16 + 4) / 128
    fit = unified_fit(ONE, NESTED, qb.load_table("pythia"))
    found = qb.pareto(fit, memory=[1e9, 8e9], tokens=1e12, group_size=64)
    np.testing.assert_allclose(found["n_params"] * found["bits_per_weight"] / 8, found["memory"])
    assert found["bits"].to_list() == [2, 3, 4, 16] * 2
    assert found.filter(bits=16)["n_params"].to_list() == [0.5e9, 4e9]


def test_the_loss_is_the_sum_of_both_laws(fit: qb.Fit) -> None:
    found = qb.pareto(fit, memory=8e9, tokens=15e12, kind="response_params")
    for row in found.iter_rows(named=True):
        own = qid(row["n_params"], 15e12, row["bits"]) if row["bits"] < 16 else 0.0
        loss = qb.published("kaplan-16bit").predict(n_params=row["n_params"], tokens=15e12)["median"].item()
        assert row["median"] == pytest.approx(loss + own, rel=1e-9)
        assert row["qid"] == pytest.approx(own, rel=1e-9)
    assert found["prob_best"].to_list() == [float(m == found["median"].min()) for m in found["median"]]


def test_the_chance_of_being_best_is_an_integral(fit: qb.Fit) -> None:
    """Two new models, each with its own luck: P(a + e^x < b + e^y) by quadrature."""
    found = qb.pareto(fit, memory=8e9, tokens=15e12, bits=[3, 4])
    law = qb.published("kaplan-16bit")
    a, b = (law.predict(n_params=n, tokens=15e12)["median"].item() for n in found["n_params"])
    x, y = (stats.norm(np.log(qid(n, 15e12, p)), SD) for n, p in found.select("n_params", "bits").rows())
    expected, _ = integrate.quad(lambda v: y.pdf(v) * x.cdf(np.log(max(b + np.exp(v) - a, 1e-300))), -6, 4, limit=200)
    assert found["prob_best"].sum() == pytest.approx(1.0)
    assert found["prob_best"][0] == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / COUNT))


def test_what_the_law_misses_is_shared_by_neighbouring_sizes(data: pl.DataFrame) -> None:
    """With a discrepancy the candidates' logarithms have its covariance: R·Q by hand, far from the fitted rows."""
    fit = unified_fit(ONE, SMOOTH, data)
    far = pl.DataFrame(
        {"model": ["a", "b", "b"], "n_params": [1e15, 2e15, 2e15], "tokens": 1e22, "bits": [3.0, 3.0, 4.0]}
    )
    found = fit.joint(far).covariance[0, 0]

    def matern(distance: float) -> float:
        r = np.sqrt(5) * abs(distance)
        return (1 + r + r**2 / 3) * np.exp(-r)

    apart = matern(np.log(2) / SMOOTH["length_params"])
    widths = matern(np.log(4 / 3) / SMOOTH["length_bits"])
    # Of the one fitted suite, whose effect the rows have told a part of; what is left of it is in all.
    suite = found[0, 1] - 0.4**2 * apart
    assert 0 < suite < 0.3**2
    assert found[0, 0] == pytest.approx(0.4**2 + suite + 0.15**2 + 0.05**2 + 0.1**2, abs=1e-6)
    assert found[1, 2] > found[0, 2] > 0
    assert found[1, 2] < (0.4**2 + 0.3**2 + 0.15**2 + 0.05**2) * widths


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"prob": 1.5}, "prob must be between 0 and 1"),
        ({"max_qid": 0.0}, "max_qid must be a positive number"),
        ({"colour": "red"}, "does not depend on 'colour'"),
        ({"model": "nobody's"}, "was not fitted"),
    ],
)
def test_refusals(fit: qb.Fit, asked: dict, message: str) -> None:
    with pytest.raises(qb.InputError, match=message):
        qb.advise(fit, **{"n_params": 8e9, "tokens": 1e12, "max_qid": 0.1, **asked})


def test_more_refusals(fit: qb.Fit) -> None:
    with pytest.raises(qb.InputError, match="memory must be positive"):
        qb.pareto(fit, memory=-1.0, tokens=1e12)
    with pytest.raises(qb.InputError, match="group_size must be 1 or more"):
        qb.pareto(fit, memory=1e9, tokens=1e12, group_size=0)
    with pytest.raises(qb.InputError, match="must come from a law of the 16-bit loss"):
        qb.pareto(fit, memory=1e9, tokens=1e12, loss_16bit=fit)
