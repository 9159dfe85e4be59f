"""Evaluate an expression on NumPy, JAX or PyTensor arrays, also in log space.

The same walk serves all three: only `exp`, `log`, `sqrt`, `logaddexp`, `maximum` and `minimum` are asked of the array
library.
Log space keeps products of 10⁻⁶ and 10¹³ to the power of a draw in range, and is where the noise of a law lives.
"""

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from qidbayes.errors import InputError
from qidbayes.law.expression import Binary, Call, Expression, Name, Negative, Number, Operator

type Array = Any
"""An array of the chosen library, or a float."""


type ArrayLibrary = Any
"""An array library with `exp`, `log`, `sqrt`, `logaddexp`, `maximum` and `minimum`, as `numpy` or `jax.numpy`."""


class Scope:
    """Names and what they stand for, in linear space, in log space or both.

    A value known in one space is carried to the other when it is first asked for. The names in `may_be_negative` may be
    negative, and every other is taken to be positive; those in `unit_interval` lie between 0 and 1.
    """

    def __init__(
        self,
        xp: ArrayLibrary,
        values: Mapping[str, Array] | None = None,
        logs: Mapping[str, Array] | None = None,
        may_be_negative: Collection[str] = (),
        unit_interval: Collection[str] = (),
    ) -> None:
        self.xp = xp
        self.may_be_negative = may_be_negative
        self.unit_interval = unit_interval
        self._values = dict(values or {})
        self._logs = dict(logs or {})
        self._definitions: dict[str, Expression] = {}

    def set(self, name: str, *, value: Array = None, log: Array = None) -> None:
        """Add or replace a name."""
        self._values.pop(name, None)
        self._logs.pop(name, None)
        if value is not None:
            self._values[name] = value
        if log is not None:
            self._logs[name] = log

    def define(self, name: str, expression: Expression) -> None:
        """Let a name stand for an expression of names known before it."""
        self._definitions[name] = expression

    def value(self, name: str) -> Array:
        """Return the name's value."""
        if name not in self._values:
            if name in self._logs:
                self._values[name] = self.xp.exp(self._logs[name])
            else:
                self._values[name] = evaluate(self._definition(name), self)
        return self._values[name]

    def log(self, name: str) -> Array:
        """Return the logarithm of the name's value."""
        if name not in self._logs:
            if name in self._values:
                self._logs[name] = self.xp.log(self._values[name])
            else:
                self._logs[name] = evaluate_log(self._definition(name), self)
        return self._logs[name]

    def _definition(self, name: str) -> Expression:
        if name not in self._definitions:
            raise InputError(f"no value is known for {name!r}")
        return self._definitions[name]


def evaluate(expression: Expression, scope: Scope) -> Array:
    """Return the expression's value.

    Examples
    --------
    >>> import numpy as np
    >>> from qidbayes.law.expression import parse
    >>> evaluate(parse("a * x**2"), Scope(np, {"a": 3.0, "x": np.array([1.0, 2.0])}))
    array([ 3., 12.])
    """
    match expression:
        case Number(value):
            return np.float64(value)  # PyTensor would take the exp of a Python number in 32 bits
        case Name(id):
            return scope.value(id)
        case Negative(operand):
            return -evaluate(operand, scope)
        case Call("exp", argument):
            return scope.xp.exp(evaluate(argument, scope))
        case Call("log", argument):
            return evaluate_log(argument, scope)
        case Call("sqrt", argument):
            return scope.xp.sqrt(evaluate(argument, scope))
        case Binary("+", left, right):
            return evaluate(left, scope) + evaluate(right, scope)
        case Binary("-", left, right):
            return evaluate(left, scope) - evaluate(right, scope)
        case Binary("*", left, right):
            return evaluate(left, scope) * evaluate(right, scope)
        case Binary("/", left, right):
            return evaluate(left, scope) / evaluate(right, scope)
        case Binary("max", left, right):
            return scope.xp.maximum(evaluate(left, scope), evaluate(right, scope))
        case Binary("min", left, right):
            return scope.xp.minimum(evaluate(left, scope), evaluate(right, scope))
        case Binary(_, left, right):
            return evaluate(left, scope) ** evaluate(right, scope)


def evaluate_log(expression: Expression, scope: Scope) -> Array:
    """Return the logarithm of the expression's value, without leaving log space where the expression allows it.

    Examples
    --------
    >>> import numpy as np
    >>> from qidbayes.law.expression import parse
    >>> float(evaluate_log(parse("x**500 * y**500"), Scope(np, {"x": 1e-3, "y": 1e3})))
    0.0
    """
    match expression:
        case Number(value) if value > 0:
            return math.log(value)
        case Name(id):
            return scope.log(id)
        case Call("exp", argument):
            return evaluate(argument, scope)
        case Call("sqrt", argument):
            return 0.5 * evaluate_log(argument, scope)
        case Binary("**", left, right) if is_positive(left, scope.may_be_negative, scope.unit_interval):
            return evaluate(right, scope) * evaluate_log(left, scope)
        case Binary("+" | "*" | "/" | "max" | "min" as operator, left, right) if is_positive(
            expression, scope.may_be_negative, scope.unit_interval
        ):
            return _of_logs(operator, evaluate_log(left, scope), evaluate_log(right, scope), scope.xp)
    return scope.xp.log(evaluate(expression, scope))


def _of_logs(operator: Operator, a: Array, b: Array, xp: ArrayLibrary) -> Array:
    match operator:
        case "+":
            return xp.logaddexp(a, b)
        case "*":
            return a + b
        case "/":
            return a - b
        case "max":
            return xp.maximum(a, b)
    return xp.minimum(a, b)


def is_positive(
    expression: Expression, may_be_negative: Collection[str] = (), unit_interval: Collection[str] = ()
) -> bool:
    """Return whether an expression and its parts are positive by their form, all names but `may_be_negative` being so.

    Only then can its logarithm be taken part by part: that of a negative summand or factor is NaN. What is left of 1
    by a name of `unit_interval` is positive too.

    Examples
    --------
    >>> from qidbayes.law.expression import parse
    >>> is_positive(parse("k * D**beta + c")), is_positive(parse("k * D**beta + c"), may_be_negative={"c"})
    (True, False)
    >>> is_positive(parse("a / (1 - s)")), is_positive(parse("a / (1 - s)"), unit_interval={"s"})
    (False, True)
    """
    match expression:
        case Number(value):
            return value > 0
        case Name(id):
            return id not in may_be_negative
        case Call(function, _):
            return function != "log"
        case Binary("**", base, _):
            return is_positive(base, may_be_negative, unit_interval)
        case Binary("-", Number(value), Name(id)):
            return value >= 1 and id in unit_interval
        case Binary("+" | "*" | "/" | "max" | "min", left, right):
            return is_positive(left, may_be_negative, unit_interval) and is_positive(
                right, may_be_negative, unit_interval
            )
    return False
