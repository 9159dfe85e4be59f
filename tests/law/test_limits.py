"""What the paper asks of a law: where QiD must vanish, and where it must stop growing."""

import numpy as np
import polars as pl
import pytest

import qidbayes as qb
from qidbayes.law import load_law
from qidbayes.posterior.point import PointEstimate

CONSTANTS = {"k": 0.034 * 1e9**0.3 / 1e11**0.47, "beta": 0.47, "alpha": 0.3, "gamma": 4.8}
"""0.034 nats at 1B parameters, 100B tokens and 4 bits."""


def law(name: str) -> PointEstimate:
    further = {"ceiling": 9.0} if name == "ceiling" else {}
    return PointEstimate(load_law(name), CONSTANTS | further, name)


@pytest.mark.parametrize("name", ["vanishing", "ceiling"])
def test_qid_ends_at_16_bits(name: str) -> None:
    found = law(name).predict(n_params=1e9, tokens=1e14, bits=[15, 16, 17, 32])["median"].to_numpy()
    assert found[0] > 0
    assert (found[1:] < 1e-50).all()
    # No count of tokens a machine could ever see brings it back.
    assert (law(name).tokens_to_threshold(0.2, n_params=1e9, bits=[16, 32])["tokens"] > 1e100).all()
    # Eq. 8 does not end: at 100T tokens 16 bits cost a 1B model 0.0008 nats more than 16 bits.
    assert qb.published("unified").predict(n_params=1e9, tokens=1e14, bits=16)["median"].item() > 5e-4


@pytest.mark.parametrize("name", ["vanishing", "ceiling", "unified"])
def test_the_other_limits_hold_too(name: str) -> None:
    point = law(name) if name != "unified" else qb.published("unified")
    ask = {"n_params": 1e9, "tokens": 1e11, "bits": 3}
    assert point.predict(**{**ask, "n_params": 1e60})["median"].item() < 1e-6
    here, early = (point.predict(**{**ask, "tokens": tokens})["median"].item() for tokens in (1e11, 1e5))
    assert early < 2e-3 * here  # a millionth of the tokens, to the power of .47 or more
    falling = point.predict(**{**ask, "bits": list(np.linspace(0.5, 15.5, 31))})["median"].to_numpy()
    assert (np.diff(falling) < 0).all()


def test_a_ceiling_is_never_passed_and_changes_little_far_below() -> None:
    ceiling, without = law("ceiling"), law("vanishing")
    grid = {"n_params": [1e8, 1e10], "tokens": [1e10, 1e12, 1e15, 1e30], "bits": [1, 2, 4]}
    low, high = (point.predict(**grid)["median"].to_numpy() for point in (ceiling, without))
    assert (low <= 9.0 * (1 + 1e-12)).all() and high.max() > 1000
    np.testing.assert_allclose(low, high / (1 + (high / 9.0) ** 4) ** 0.25, rtol=1e-12)
    half = high < 4.5
    np.testing.assert_allclose(low[half], high[half], rtol=0.016)


def test_a_threshold_above_the_ceiling_is_never_reached() -> None:
    found = law("ceiling").tokens_to_threshold([8.9, 9.1], n_params=1e9, bits=2)["tokens"]
    assert np.isfinite(found[0]) and np.isinf(found[1])


def test_points_are_the_formulas_of_their_papers() -> None:
    ask = {"n_params": 2e9, "tokens": 3e11}
    kumar = 0.0598 * 3e11**0.5068 / 2e9**0.3439 * np.exp(-3 / 0.5907)
    assert qb.published("precision-ptq").predict(**ask, bits=3)["median"].item() == pytest.approx(kumar)
    hoffmann = 1.69 + 406.4 / 2e9**0.34 + 410.7 / 3e11**0.28
    assert qb.published("chinchilla-16bit").predict(**ask)["median"].item() == pytest.approx(hoffmann)
    table1, own = qb.published("per-bit"), qb.published("pooled-bit", "table1")
    for bits in (2, 3, 4):
        expected = table1.predict(**ask, bits=bits)["median"].item()
        assert own.predict(**ask, bits=bits)["median"].item() == pytest.approx(expected, rel=1e-5)
    asked = pl.DataFrame({**ask, "bits": [2.0, 3.0, 4.0]})
    np.testing.assert_allclose(
        qb.published("pooled-bit", "eq8").predict(asked)["median"], qb.published("unified").predict(asked)["median"]
    )
