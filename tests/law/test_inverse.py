"""Solving a law for a covariate: closed form, bisection, and SciPy's root finder."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from qidbayes.law.evaluate import Scope, evaluate_log
from qidbayes.law.expression import parse
from qidbayes.law.inverse import solve_log

# Each law once with D in one place, which is solved in closed form, and once with D in two, which is bisected.
TWICE = {
    "k * D**beta / N**alpha": "k * D**(beta / 2) * D**(beta / 2) / N**alpha",
    "c + k * D**beta": "c + k * D**(beta / 2) * D**(beta / 2)",
    "k * log(D)": "k * (log(D) / 2 + log(D) / 2)",
    "k * sqrt(D) * exp(-N)": "k * D**0.25 * D**0.25 * exp(-N)",
    "c - k / D**beta": "c - k / (D**(beta / 2) * D**(beta / 2))",
    "-(k / D) + c": "-(k / D**0.5 / D**0.5) + c",
    "-c * (k / D - 1)": "-c * (k / D**0.5 / D**0.5 - 1)",
    "1 / (k / D + c)": "1 / (k / (sqrt(D) * sqrt(D)) + c)",
    "exp(k * log(D) - N)": "exp(k * (log(D) / 2 + log(D) / 2) - N)",
    "k**(-(1 / D))": "k**(-(1 / (sqrt(D) * sqrt(D))))",
}
constants = st.fixed_dictionaries(
    {"k": st.floats(0.2, 0.9), "beta": st.floats(0.2, 1.5), "alpha": st.floats(0, 1), "c": st.floats(2, 3)}
)


@pytest.mark.parametrize(("once", "twice"), TWICE.items())
@settings(max_examples=30)
@given(constants, st.floats(1.0, 50.0))
def test_closed_form_bisection_and_brentq_agree(
    once: str, twice: str, values: dict[str, float], log_tokens: float
) -> None:
    scope = Scope(np, {name: np.float64(v) for name, v in values.items()} | {"N": np.float64(1.7)})
    target = _log_response(once, scope, log_tokens)
    if _log_response(once, scope, log_tokens + 1e-3) - target < 1e-8:  # too flat there to have one answer in 64 bits
        return
    closed = solve_log(parse(once), "D", np.array([target]), scope)[0]
    bisected = solve_log(parse(twice), "D", np.array([target]), scope)[0]
    by_scipy = optimize.brentq(lambda x: _log_response(once, scope, x) - target, 0.5, 60.0, xtol=1e-12)
    slack = 1e-12 / (_log_response(once, scope, log_tokens + 1e-3) - target)  # rounding over the slope
    assert closed == pytest.approx(log_tokens, rel=1e-9, abs=slack)
    assert bisected == pytest.approx(log_tokens, rel=1e-9, abs=slack)
    assert by_scipy == pytest.approx(log_tokens, rel=1e-9, abs=slack)


def _log_response(equation: str, scope: Scope, log_tokens: float) -> float:
    scope.set("D", log=np.float64(log_tokens))
    with np.errstate(all="ignore"):
        return float(evaluate_log(parse(equation), scope))


@settings(max_examples=200)
@given(st.lists(st.floats(-2, 2), min_size=1, max_size=20), st.floats(-20, 20))
def test_a_target_is_met_or_the_curve_never_rises_to_it(slopes: list[float], log_target: float) -> None:
    beta = np.array(slopes)
    equation = parse("k * D**beta")
    found = solve_log(equation, "D", np.array(log_target), Scope(np, {"k": 0.3, "beta": beta}))
    rising = beta > 1e-9
    assert np.isinf(found[beta <= 0]).all() and (found[beta <= 0] > 0).all()
    np.testing.assert_allclose(found[rising], (log_target - np.log(0.3)) / beta[rising], rtol=1e-12)


def test_a_constant_that_may_be_negative() -> None:
    scope = Scope(np, {"k": np.float64(2.0), "c": np.array([-3.0, 3.0])}, may_be_negative={"c"})
    for equation in ("k * D + c", "c + D * k", "c - (-k) * D"):
        found = np.exp(solve_log(parse(equation), "D", np.log(5.0), scope))
        np.testing.assert_allclose(found, [4.0, 1.0])


def test_a_target_above_a_ceiling_is_never_reached() -> None:
    # 1 − exp(−D/10) stays below 1.
    scope = Scope(np, {"s": np.float64(10.0)})
    found = solve_log(parse("1 - exp(-D / s)"), "D", np.log([0.5, 0.999, 1.0, 2.0]), scope)
    np.testing.assert_allclose(np.exp(found), [10 * np.log(2), 10 * np.log(1000), np.inf, np.inf])


def test_bisection_takes_the_first_rise() -> None:
    # log D · exp(−log D) rises to 1/e at D = e and falls after it.
    found = solve_log(parse("log(D) * D**(-s)"), "D", np.log([0.2, 0.36, 0.4]), Scope(np, {"s": np.float64(1.0)}))
    expected = [optimize.brentq(lambda x, y=y: x * np.exp(-x) - y, 1e-9, 1.0) for y in (0.2, 0.36)]
    np.testing.assert_allclose(found[:2], expected, rtol=1e-9)
    assert np.isinf(found[2])


@pytest.mark.parametrize("roots", [(10.25, 20.6, 30.1), (2.3, 41.0, 63.9)])
def test_of_a_law_that_dips_the_first_crossing_is_meant(roots: tuple[float, float, float]) -> None:
    """A cubic in log D rises through its middle at the first root, falls at the second and rises at the third."""
    cubic = " * ".join(f"(log(D) - {root})" for root in roots)
    found = solve_log(parse(f"c + s * {cubic}"), "D", np.log([1e5, 1e5]), Scope(np, {"c": 1e5, "s": np.float64(1.0)}))
    np.testing.assert_allclose(found, roots[0], rtol=1e-9)


def test_it_solves_for_any_covariate_and_broadcasts() -> None:
    scope = Scope(np, {"k": np.array([[1.0], [2.0]]), "gamma": np.float64(3.0), "D": np.array([[8.0, 27.0, 64.0]])})
    found = np.exp(solve_log(parse("k * P**gamma / D"), "P", np.log(1.0), scope))
    np.testing.assert_allclose(found, np.array([[2.0, 3.0, 4.0], 0.5 ** (1 / 3) * np.array([2.0, 3.0, 4.0])]))


def test_of_several_crossings_the_first_is_found() -> None:
    """A bump, a dip, and a rise for good far out."""
    law = parse("exp(-(log(D) - 10)**2) + D * exp(-40)")
    found = solve_log(law, "D", np.log(0.5), Scope(np))
    assert found == pytest.approx(10 - np.sqrt(np.log(2)), abs=1e-9)
    # Above the bump only the rise is left.
    assert solve_log(law, "D", np.log(2.0), Scope(np)) == pytest.approx(40 + np.log(2), abs=1e-9)


def test_a_law_with_a_floor_rises_through_a_target_above_it() -> None:
    scope = Scope(np, {"k": 3.0, "beta": 2.0, "floor": np.array([1.0, 20.0])})
    found = solve_log(parse("max(k * D**beta, floor)"), "D", np.log(12.0), scope)
    np.testing.assert_allclose(np.exp(found), [2.0, np.inf], rtol=1e-9)
