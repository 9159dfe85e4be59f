"""One walk for NumPy, JAX and PyTensor, in linear and in log space."""

import math
import operator
import sys

import jax
import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from equations import NAMES, expressions, positive_expressions
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qidbayes.errors import InputError
from qidbayes.law import Law, Prior, law_names, load_law
from qidbayes.law.evaluate import Scope, evaluate, evaluate_log, is_positive
from qidbayes.law.expression import Binary, Call, Expression, Name, Negative, Number, parse

_ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "**": operator.pow,
               "max": max, "min": min}  # fmt: skip
points = st.fixed_dictionaries({name: st.floats(0.1, 10) for name in NAMES})


def by_hand(expression: Expression, values: dict[str, float]) -> float:
    """Evaluate with Python's own arithmetic, which raises where there is no finite real value.

    So does this where a part is too near 0 for all digits of a float, or a difference has lost half of its digits.
    """
    match expression:
        case Number(value):
            return value
        case Name(id):
            return values[id]
        case Negative(operand):
            return -by_hand(operand, values)
        case Call("exp", argument):
            return _normal(math.exp(by_hand(argument, values)))
        case Call(function, argument):
            return getattr(math, function)(by_hand(argument, values))
        case Binary(sign, left, right):
            a, b = by_hand(left, values), by_hand(right, values)
            found = _ARITHMETIC[sign](a, b)
            if sign in ("+", "-"):
                return _distinct(found, a, b)
            return found if 0.0 in (a, b) else _normal(found)


def _normal(value: float) -> float:
    if abs(value) < sys.float_info.min:
        raise FloatingPointError
    return value


def _distinct(found: float, a: float, b: float) -> float:
    if abs(found) < 1e-8 * max(abs(a), abs(b)):
        raise FloatingPointError
    return found


@settings(max_examples=300)
@given(expressions, points)
def test_values_are_those_of_pythons_arithmetic(expression: Expression, values: dict[str, float]) -> None:
    try:
        expected = by_hand(expression, values)
    except (ArithmeticError, ValueError, TypeError):  # TypeError: a complex number met math.exp
        assume(False)
    assume(isinstance(expected, float) and math.isfinite(expected))
    with np.errstate(all="ignore"):
        found = evaluate(expression, Scope(np, {name: np.float64(v) for name, v in values.items()}))
    # log(exp(x)) is worked out without leaving log space and so may differ in the last digits.
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)


@settings(max_examples=300)
@given(positive_expressions, points)
def test_log_space_agrees_with_the_logarithm_of_the_value(expression: Expression, values: dict[str, float]) -> None:
    scope = Scope(np, {name: np.float64(v) for name, v in values.items()})
    with np.errstate(all="ignore"):
        value = evaluate(expression, scope)
    assume(1e-300 < value < 1e300)
    assert evaluate_log(expression, scope) == pytest.approx(np.log(value), rel=1e-9, abs=1e-9)


@settings(max_examples=100)
@given(positive_expressions, points)
def test_a_name_known_by_its_logarithm_is_the_same(expression: Expression, values: dict[str, float]) -> None:
    by_value = Scope(np, {name: np.float64(v) for name, v in values.items()})
    by_log = Scope(np, logs={name: np.log(v) for name, v in values.items()})
    assert evaluate_log(expression, by_log) == pytest.approx(evaluate_log(expression, by_value), rel=1e-9, abs=1e-9)


def test_log_space_does_not_overflow() -> None:
    scope = Scope(np, logs={"k": -900.0, "D": 800.0}, values={"beta": 2.0})
    assert evaluate_log(parse("k * D**beta"), scope) == 700.0
    assert evaluate_log(parse("D**beta + k"), scope) == 1600.0
    assert evaluate(parse("log(D**beta)"), scope) == 1600.0


LAWS = [load_law(name) for name in law_names()]
# PyTensor takes Python numbers for 32-bit ones where it can.
LAWS.append(Law("k * exp(3) + sqrt(2) * P**exp(1)", priors={"k": Prior("HalfNormal", sigma=1)}, name="constants"))
LAWS.append(Law("max(k, P / 4) + min(3 - P, 0.2)", priors={"k": Prior("HalfNormal", sigma=1)}, name="extremes"))


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_three_array_libraries_agree(law: Law) -> None:
    rng = np.random.default_rng(5)
    values = {n: rng.uniform(0.1, 0.9, 4) for n in (*law.priors, *law.covariates)}
    values |= {n: 2.0 + values[n] for n in ("P", "group_size", "calibration_samples") if n in values}

    def answer(xp: object, given: dict[str, object]) -> object:
        scope = Scope(xp, given)
        for defined, expression in law.definitions.items():
            scope.define(defined, expression)
        return evaluate_log(law.expression, scope)

    expected = answer(np, dict(values))
    with jax.enable_x64(True):
        by_jax = answer(jax.numpy, {n: jax.numpy.asarray(v) for n, v in values.items()})
    symbols = {n: pt.vector(n, dtype="float64") for n in values}
    by_pytensor = pytensor.function(
        list(symbols.values()), answer(pt, dict(symbols)), on_unused_input="ignore", mode="FAST_COMPILE"
    )
    np.testing.assert_allclose(np.asarray(by_jax), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(by_pytensor(*values.values()), expected, rtol=1e-12, atol=1e-12)


def test_a_definition_is_worked_out_where_it_is_used() -> None:
    scope = Scope(np, {"a": 2.0})
    scope.define("b", parse("a + 1"))
    scope.define("c", parse("b**2"))
    assert evaluate(parse("c * a"), scope) == 18.0
    assert evaluate_log(parse("c"), scope) == pytest.approx(math.log(9.0))


@settings(max_examples=300)
@given(expressions, points)
def test_a_part_may_be_negative_where_the_whole_is_positive(expression: Expression, values: dict[str, float]) -> None:
    try:
        expected = math.log(by_hand(expression, values))
    except (ArithmeticError, ValueError, TypeError):
        assume(False)
    assume(math.isfinite(expected) and abs(expected) > 1e-3)
    with np.errstate(all="ignore"):
        found = evaluate_log(expression, Scope(np, {name: np.float64(v) for name, v in values.items()}))
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_what_is_too_near_zero_for_a_float_keeps_its_logarithm() -> None:
    """In linear space exp(−739) has four bits left, exp(−800) none; `by_hand` answers for neither."""
    scope = Scope(np, {"k": 739.0, "x": 800.0})
    assert evaluate_log(parse("exp(-k)"), scope) == -739.0
    assert evaluate_log(parse("exp(-x) * exp(-k)"), scope) == -1539.0
    assert evaluate_log(parse("exp(-x) + exp(-k)"), scope) == pytest.approx(-739.0, abs=1e-12)
    for text in ("exp(-k)", "exp(-x)", "exp(-k) * exp(700)", "1 + exp(-x)"):
        with pytest.raises(FloatingPointError):
            by_hand(parse(text), {"k": 739.0, "x": 800.0})


def test_a_logarithm_may_be_negative() -> None:
    """log(0.5)·log(0.25) = 2·log(2)² is positive, and neither factor is."""
    assert not is_positive(parse("log(x)"))
    assert not is_positive(parse("2 * log(x) + k"))
    assert not is_positive(parse("log(x)**2"))
    scope = Scope(np, {"x": 0.5, "y": 0.25, "k": 3.0})
    assert evaluate_log(parse("log(x) * log(y)"), scope) == pytest.approx(math.log(2 * math.log(2) ** 2))
    assert evaluate_log(parse("k + log(x)"), scope) == pytest.approx(math.log(3 - math.log(2)))
    assert evaluate_log(parse("log(x)**2"), scope) == pytest.approx(2 * math.log(math.log(2)))


def test_a_name_may_be_negative_if_it_is_said_to_be() -> None:
    scope = Scope(np, {"k": 3.0, "c": -2.0, "d": -1.0}, may_be_negative={"c", "d"})
    assert evaluate_log(parse("k + c"), scope) == 0.0
    assert evaluate_log(parse("c * d"), scope) == pytest.approx(math.log(2.0))
    assert evaluate_log(parse("c**2 / k"), scope) == pytest.approx(math.log(4 / 3))
    normal, positive = Prior("Normal", mu=0, sigma=1), Prior("HalfNormal", sigma=1)
    law = Law("k * D + c + e", priors={"k": positive, "c": normal}, define={"e": "k - c"})
    assert law.may_be_negative == {"c", "e"}


def test_a_share_leaves_something() -> None:
    """The sum of Kaplan's law, far out: in linear space 2⁵⁰⁰⁰ is infinite, and so would all of it be."""
    draws = {"a": np.array(5e3), "s": np.array(0.25)}
    expression = parse("((1 - s) * 2**a)**(1 / a)")
    with np.errstate(over="ignore"):
        assert evaluate_log(expression, Scope(np, draws)) == math.inf
    expected = math.log(2) + math.log(0.75) / 5e3
    assert evaluate_log(expression, Scope(np, draws, unit_interval={"s"})) == pytest.approx(expected, rel=1e-12)
    assert not is_positive(parse("0.5 - s"), unit_interval={"s"})
    share, positive = Prior("Beta", alpha=2, beta=2), Prior("Uniform", lower=0, upper=2)
    law = Law("k * D**b + c", priors={"k": positive, "s": share}, define={"b": "k / (1 - s)", "c": "b / (1 - k)"})
    assert (law.unit_interval, law.may_be_negative) == ({"s"}, {"c"})


def test_an_unknown_name_is_named() -> None:
    with pytest.raises(InputError, match="no value is known for 'x'"):
        evaluate(parse("2 * x"), Scope(np))
