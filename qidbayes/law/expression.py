"""The equation language: arithmetic, powers, `exp`, `log`, `sqrt`, `max`, `min` and names, and nothing else.

Text is parsed by Python's own parser into an `ast`, and a whitelist turns that into the five node types below.
Nothing is ever evaluated as Python: a node that is not on the list is an error that says what is accepted.
"""

import ast
import math
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from qidbayes.errors import InputError

type Expression = Number | Name | Negative | Binary | Call
type Operator = Literal["+", "-", "*", "/", "**", "max", "min"]
type Function = Literal["exp", "log", "sqrt"]

MAX_LENGTH = 1000
MAX_DEPTH = 50
_ACCEPTED = "numbers, names, + - * / **, parentheses, exp(), log(), sqrt(), max() and min()"
_OPERATORS: dict[type[ast.operator], Operator] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.Pow: "**",
}
_FUNCTIONS: dict[str, Function] = {"exp": "exp", "log": "log", "sqrt": "sqrt"}
_EXTREMES: dict[str, Operator] = {"max": "max", "min": "min"}
_CHARACTERS = re.compile(r"[A-Za-z0-9_+\-*/(),. \t]*")


@dataclass(frozen=True, slots=True)
class Number:
    """A finite constant."""

    value: float


@dataclass(frozen=True, slots=True)
class Name:
    """A parameter, a definition or a covariate."""

    id: str


@dataclass(frozen=True, slots=True)
class Negative:
    """The negative of an expression."""

    operand: Expression


@dataclass(frozen=True, slots=True)
class Binary:
    """Two expressions joined by one of + - * / **, or the greater or the smaller of them."""

    operator: Operator
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Call:
    """One of the three functions, of one argument."""

    function: Function
    argument: Expression


def parse(text: str, where: str = "equation") -> Expression:
    """Parse an equation's right-hand side.

    Parameters
    ----------
    text
        Such as ``k * D**beta / (N**alpha * P**gamma)``; at most 1,000 characters, nested at most 50 deep.
    where
        What to call the text in an error.

    Raises
    ------
    InputError
        If the text holds anything but the equation language, or a constant part of it is not a finite real number.

    Examples
    --------
    >>> parse("2 * x")
    Binary(operator='*', left=Number(value=2.0), right=Name(id='x'))
    >>> parse("__import__('os').remove('x')")
    Traceback (most recent call last):
        ...
    qidbayes.errors.InputError: equation: "'" at character 12 is not part of the equation language; it accepts ...
    """
    if not isinstance(text, str):
        raise InputError(f"{where}: must be text, not {type(text).__name__}")
    if len(text) > MAX_LENGTH:
        raise InputError(f"{where}: is {len(text)} characters long; at most {MAX_LENGTH} are accepted")
    text = " ".join(text.split())
    known = _CHARACTERS.match(text)
    if known and known.end() < len(text):
        hint = " (write powers as **)" if text[known.end()] == "^" else ""
        raise InputError(
            f"{where}: {text[known.end()]!r} at character {known.end() + 1} is not part of the equation language"
            f"{hint}; it accepts {_ACCEPTED}"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # "2x" is only a warning to Python
            tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError, SyntaxWarning, DeprecationWarning) as error:
        detail = error.msg if isinstance(error, SyntaxError) else "it is too deep or has a number that is too long"
        raise InputError(f"{where}: {text[:60]!r} cannot be read: {detail}; it accepts {_ACCEPTED}") from None
    expression = _convert(tree.body, where, text)
    constant_value(expression, where)
    return expression


def _convert(node: ast.expr, where: str, text: str, depth: int = 0) -> Expression:
    if depth > MAX_DEPTH:
        raise InputError(f"{where}: is nested more than {MAX_DEPTH} deep; break it up with definitions")
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return Number(_finite(value, where))
        case ast.Name():
            return Name(node.id)
        case ast.UnaryOp(op=ast.UAdd()):
            return _convert(node.operand, where, text, depth + 1)
        case ast.UnaryOp(op=ast.USub()):
            return Negative(_convert(node.operand, where, text, depth + 1))
        case ast.BinOp() if type(node.op) in _OPERATORS:
            left, right = _convert(node.left, where, text, depth + 1), _convert(node.right, where, text, depth + 1)
            return Binary(_OPERATORS[type(node.op)], left, right)
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in _FUNCTIONS:
            return Call(_FUNCTIONS[name], _convert(argument, where, text, depth + 1))
        case ast.Call(func=ast.Name(id=name), args=[first, *others], keywords=[]) if name in _EXTREMES and others:
            found = _convert(first, where, text, depth + 1)
            for other in others:
                found = Binary(_EXTREMES[name], found, _convert(other, where, text, depth + 1))
            return found
    refused = ast.get_source_segment(text, node) or text
    raise InputError(f"{where}: {refused[:60]!r} is not part of the equation language; it accepts {_ACCEPTED}")


def _finite(value: float, where: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InputError(f"{where}: a number in it is too large for a 64-bit float")
    return number


def constant_value(expression: Expression, where: str = "equation") -> float | None:
    """Return the value of an expression without names, None if it has any; every constant part is checked.

    Raises
    ------
    InputError
        If a constant part is infinite, complex or undefined, such as ``9**9**9`` or ``log(0)``.
    """
    try:
        match expression:
            case Number(value):
                return value
            case Name():
                return None
            case Negative(operand):
                inner = constant_value(operand, where)
                return None if inner is None else -inner
            case Call(function, argument):
                inner = constant_value(argument, where)
                return None if inner is None else getattr(math, function)(inner)
            case Binary(operator, left, right):
                a, b = constant_value(left, where), constant_value(right, where)
                if a is None or b is None:
                    return None
                value = _binary(operator, a, b)
    except InputError:  # of a part, which it names
        raise
    except (OverflowError, ZeroDivisionError, ValueError):
        value = math.nan
    if isinstance(value, complex) or not math.isfinite(value):
        raise InputError(f"{where}: '{to_text(expression)}' has no finite real value")
    return value


def _binary(operator: Operator, a: float, b: float) -> float:
    match operator:
        case "+":
            return a + b
        case "-":
            return a - b
        case "*":
            return a * b
        case "/":
            return a / b
        case "max":
            return max(a, b)
        case "min":
            return min(a, b)
        case "**":
            return float(a**b) if not isinstance(a**b, complex) else math.nan


def names(expression: Expression) -> set[str]:
    """Return every name the expression uses.

    Examples
    --------
    >>> sorted(names(parse("k * D**beta")))
    ['D', 'beta', 'k']
    """
    return {node.id for node in walk(expression) if isinstance(node, Name)}


def walk(expression: Expression) -> Iterator[Expression]:
    """Yield the expression and every part of it, outermost first."""
    yield expression
    match expression:
        case Negative(operand):
            yield from walk(operand)
        case Call(_, argument):
            yield from walk(argument)
        case Binary(_, left, right):
            yield from walk(left)
            yield from walk(right)


def substitute(expression: Expression, replacements: dict[str, Expression]) -> Expression:
    """Return the expression with names replaced by other expressions."""
    match expression:
        case Name(id):
            return replacements.get(id, expression)
        case Negative(operand):
            return Negative(substitute(operand, replacements))
        case Call(function, argument):
            return Call(function, substitute(argument, replacements))
        case Binary(operator, left, right):
            return Binary(operator, substitute(left, replacements), substitute(right, replacements))
    return expression


_BINDING = {"+": 1, "-": 1, "*": 2, "/": 2, "**": 4}
_NEGATIVE = 3


def to_text(expression: Expression) -> str:
    """Write an expression back in the equation language; parsing the result gives the same expression.

    Examples
    --------
    >>> to_text(parse("k*D**beta/((N**alpha)*P**gamma)"))
    'k * D**beta / (N**alpha * P**gamma)'
    """
    match expression:
        case Number(value):
            return repr(int(value)) if value.is_integer() and abs(value) < 1e6 else repr(value)
        case Name(id):
            return id
        case Call(function, argument):
            return f"{function}({to_text(argument)})"
        case Negative(operand):
            return f"-{_wrapped(operand, _NEGATIVE)}"
        case Binary("max" | "min" as operator, left, right):
            return f"{operator}({to_text(left)}, {to_text(right)})"
        case Binary("**", left, right):
            # Right-associative, and a minus sign may stand in the exponent but not before the base.
            return f"{_wrapped(left, _BINDING['**'] + 1)}**{_wrapped(right, _NEGATIVE)}"
        case Binary(operator, left, right):
            binding = _BINDING[operator]
            return f"{_wrapped(left, binding)} {operator} {_wrapped(right, binding + 1)}"


def _wrapped(expression: Expression, binding: int) -> str:
    match expression:
        case Binary(operator):
            own = _BINDING.get(operator, 9)
        case Negative():
            own = _NEGATIVE
        case _:
            own = 9
    return to_text(expression) if own >= binding else f"({to_text(expression)})"
