"""Solve an equation for one of its covariates: in closed form where it occurs once, by bisection otherwise."""

from itertools import pairwise

import numpy as np

from qidbayes.law.evaluate import Array, Scope, evaluate, evaluate_log, is_positive
from qidbayes.law.expression import Binary, Call, Expression, Name, Negative, names, walk

SEARCH = (0.0, 80.0)
"""Where a bracketed root is looked for, as logarithms: from 1 to about 10³⁵."""
_GRID = 161
_HALVINGS = 60


def solve_log(equation: Expression, symbol: str, log_target: Array, scope: Scope) -> np.ndarray:
    """Return the logarithm of the `symbol` at which the equation rises through a target.

    Parameters
    ----------
    equation
        The law's right-hand side, increasing or not.
    symbol
        The name to solve for; whatever `scope` holds under that name is replaced.
    log_target
        The logarithm of the response, any shape that broadcasts with what `scope` holds.

    Returns
    -------
    numpy.ndarray
        Logarithms; ``inf`` where the equation never rises to the target: it stays below it, or falls with `symbol`.

    Examples
    --------
    >>> from qidbayes.law.expression import parse
    >>> law = parse("k * D**beta")
    >>> found = solve_log(law, "D", np.log(12.0), Scope(np, {"k": 3.0, "beta": np.array([2.0, -2.0])}))
    >>> np.exp(found)
    array([ 2., inf])
    """
    once = sum(node == Name(symbol) for node in walk(equation)) == 1
    once = once and not any(isinstance(node, Binary) and node.operator in ("max", "min") for node in walk(equation))
    with np.errstate(all="ignore"):  # NaN marks "no solution" on the way and is turned into inf below
        root = _peel_log(equation, symbol, log_target, scope) if once else _bisect(equation, symbol, log_target, scope)
        root = np.asarray(root, dtype=float)
        scope.set(symbol, log=root)
        here = evaluate_log(equation, scope)
        scope.set(symbol, log=root + 1e-4)
        rises = evaluate_log(equation, scope) > here
    return np.where(np.isfinite(root) & rises, root, np.inf)


def _peel_log(expression: Expression, symbol: str, log_target: Array, scope: Scope) -> Array:
    """Undo one operation after the other from the outside in, holding the logarithm of what is left."""
    match expression:
        case Name():
            return log_target
        case Call("exp", argument):
            return _peel(argument, symbol, log_target, scope)
        case Call("sqrt", argument):
            return _peel_log(argument, symbol, 2.0 * log_target, scope)
        case Binary("*" | "/" | "+") if not is_positive(expression, scope.may_be_negative, scope.unit_interval):
            pass  # the parts may have no logarithm
        case Binary("*", left, right):
            inner, other = _split(left, right, symbol)
            return _peel_log(inner, symbol, log_target - evaluate_log(other, scope), scope)
        case Binary("/", left, right):
            if symbol in names(left):
                return _peel_log(left, symbol, log_target + evaluate_log(right, scope), scope)
            return _peel_log(right, symbol, evaluate_log(left, scope) - log_target, scope)
        case Binary("**", left, right):
            if symbol in names(left):
                return _peel_log(left, symbol, log_target / evaluate(right, scope), scope)
            return _peel(right, symbol, log_target / evaluate_log(left, scope), scope)
        case Binary("+", left, right):
            inner, other = _split(left, right, symbol)
            # log(target − other); NaN where the other term alone is above the target.
            return _peel_log(
                inner, symbol, log_target + np.log1p(-np.exp(evaluate_log(other, scope) - log_target)), scope
            )
    return _peel(expression, symbol, np.exp(log_target), scope)


def _peel(expression: Expression, symbol: str, target: Array, scope: Scope) -> Array:
    """Undo one operation after the other, holding the value of what is left."""
    match expression:
        case Negative(operand):
            return _peel(operand, symbol, -target, scope)
        case Call("log", argument):
            return _peel_log(argument, symbol, target, scope)
        case Binary("+", left, right):
            inner, other = _split(left, right, symbol)
            return _peel(inner, symbol, target - evaluate(other, scope), scope)
        case Binary("-", left, right):
            if symbol in names(left):
                return _peel(left, symbol, target + evaluate(right, scope), scope)
            return _peel(right, symbol, evaluate(left, scope) - target, scope)
        case Binary("*", left, right):
            inner, other = _split(left, right, symbol)
            return _peel(inner, symbol, target / evaluate(other, scope), scope)
        case Binary("/", left, right):
            if symbol in names(left):
                return _peel(left, symbol, target * evaluate(right, scope), scope)
            return _peel(right, symbol, evaluate(left, scope) / target, scope)
    return _peel_log(expression, symbol, np.log(target), scope)


def _split(left: Expression, right: Expression, symbol: str) -> tuple[Expression, Expression]:
    return (left, right) if symbol in names(left) else (right, left)


def _bisect(equation: Expression, symbol: str, log_target: Array, scope: Scope) -> Array:
    """Find the first interval of a grid where the equation rises through the target, then halve the bracket."""

    def above(log_symbol: Array) -> Array:
        scope.set(symbol, log=log_symbol)
        return evaluate_log(equation, scope) >= log_target

    grid = np.linspace(*SEARCH, _GRID)
    low = np.full(np.shape(above(SEARCH[0])), np.nan)
    before = above(grid[0])
    for left, right in pairwise(grid):
        now = above(right)
        low = np.where(np.isnan(low) & ~before & now, left, low)
        before = now
    high = low + (grid[1] - grid[0])
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        reached = above(middle)
        low, high = np.where(reached, low, middle), np.where(reached, middle, high)
    return 0.5 * (low + high)
