"""Constants at the reference point and in raw counts describe one law."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qidbayes.errors import InputError
from qidbayes.law import Law, Prior, law_names, load_law
from qidbayes.law.evaluate import Scope, evaluate, evaluate_log
from qidbayes.law.expression import parse, to_text
from qidbayes.law.unit_powers import unit_powers
from qidbayes.posterior.constants import raw_constants

LAWS = {name: load_law(name).with_reference({"N": 1e9, "D": 3e10}) for name in law_names()}
LAWS["saturating"] = Law(
    "E / (1 + D0 / D) * exp(-P / g) + sqrt(N / N0)",
    priors={n: Prior("LogNormal", mu=0, sigma=1) for n in ("E", "D0", "g", "N0")},
    reference={"D": 3e10, "N": 2e9, "P": 3},
)

LAWS["of a root"] = Law(
    "k * sqrt(D / N)", priors={"k": Prior("LogNormal", mu=0, sigma=1)}, reference={"D": 3e10, "N": 2e9}
)


@pytest.mark.parametrize("name", LAWS)
@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1))
def test_the_law_is_the_same_at_the_reference_point_and_in_raw_counts(name: str, seed: int) -> None:
    law = LAWS[name]
    rng = np.random.default_rng(seed)
    parameters = {p: prior.sample(3, rng) for p, prior in law.priors.items()}
    raw = {"N": rng.uniform(1e7, 1e12, 3), "D": rng.uniform(1e9, 1e14, 3), "P": rng.uniform(1, 16, 3)}

    raw |= {c: rng.uniform(2, 16, 3) for c in law.covariates if c not in raw}
    if "gaussian_mse" in raw:  # below that of no data at all
        raw["gaussian_mse"] = raw["gaussian_mse"] / 20

    relative = Scope(np, parameters | {c: v / math.exp(law.log_reference.get(c, 0.0)) for c, v in raw.items()})
    for defined, expression in law.definitions.items():
        relative.define(defined, expression)
    sampled = {law.sampled_name(p): v[:, None] if law.priors[p].by else v for p, v in parameters.items()}
    constants = sampled | raw_constants(law, sampled)
    absolute = Scope(np, {c: np.ravel(constants[c]) for c in law.constants} | raw)
    expected = evaluate_log(law.expression, relative)
    usable = np.isfinite(expected)
    for constant in law.constants:  # 1e-300 and beyond is out of range of a printed constant, not of the law
        usable &= np.isfinite(absolute.value(constant)) & (np.abs(np.log(np.abs(absolute.value(constant)))) < 650)
    with np.errstate(all="ignore"):
        found = evaluate_log(law.expression, absolute)
    np.testing.assert_allclose(found[usable], expected[usable], rtol=1e-7, atol=1e-7)


def test_published_reference_constants_by_hand() -> None:
    law = load_law("unified")
    sampled = {"k_ref": 0.035, "beta": 0.47, "alpha": 0.3, "gamma": 5.8}
    found = raw_constants(law, {n: np.array([v]) for n, v in sampled.items()})
    assert found["k"][0] == pytest.approx(0.035 * (1e9**0.3) * (4**5.8) / (1e11**0.47))


def test_powers_are_those_of_the_units() -> None:
    found = unit_powers(parse("((Nc / N)**(a / d) + Dc / D)**d"), ["N", "D"], ["Nc", "a", "d", "Dc"])
    assert {n: {c: to_text(p) for c, p in powers.items()} for n, powers in found.items()} == {
        "Nc": {"N": "1"},
        "Dc": {"D": "1"},
    }


def test_the_greater_of_two_has_their_common_unit() -> None:
    found = unit_powers(parse("max(k * D**beta, c * D)"), ["D"], ["k", "c", "beta"])
    assert {n: {c: to_text(p) for c, p in powers.items()} for n, powers in found.items()} == {
        "k": {"D": "-beta"},
        "c": {"D": "-1"},
    }
    with pytest.raises(InputError, match=r"units of D in 'max.D, 3.'"):
        unit_powers(parse("k * max(D, 3)"), ["D"], ["k"])


def test_a_root_halves_the_powers() -> None:
    """k·√(D/N)·P in raw counts: k carries √N/√D; and a law of it says the same in both."""
    found = unit_powers(parse("k * sqrt(D / N**2) * P"), ["N", "D", "P"], ["k"])
    assert set(found) == {"k"} and set(found["k"]) == {"N", "D", "P"}
    powers = {c: float(evaluate(power, Scope(np))) for c, power in found["k"].items()}
    assert powers == {"N": 1.0, "D": -0.5, "P": -1.0}
    law = LAWS["of a root"]
    raw = raw_constants(law, {"k_ref": np.array([2.0])})
    assert raw["k"][0] == pytest.approx(2.0 * math.sqrt(2e9) / math.sqrt(3e10), rel=1e-12)


@pytest.mark.parametrize("equation", ["exp(-P) * k", "k * log(D)", "k + D", "k * D**N", "N**a + D**b"])
def test_a_covariate_whose_units_no_constant_carries_is_refused(equation: str) -> None:
    with pytest.raises(InputError, match="no constant carries the units of"):
        unit_powers(parse(equation), ["N", "D", "P"], ["k", "a", "b"])


def test_an_exponent_with_units_of_its_own_is_refused() -> None:
    with pytest.raises(InputError, match="'k' would need an exponent that has units itself"):
        unit_powers(parse("k * D**(P * b)"), ["D", "P"], ["k", "b"])


def test_one_constant_cannot_carry_two_units() -> None:
    with pytest.raises(InputError, match="'k' carries different units"):
        unit_powers(parse("k * D + k * N"), ["N", "D"], ["k"])
