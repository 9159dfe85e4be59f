"""The equation language: what it reads, what it refuses, and how quickly."""

import ast
import contextlib
import math
import operator
import string
import sys

import pytest
from equations import accepted, expressions
from hypothesis import given, settings
from hypothesis import strategies as st
from quick import quick

from qidbayes.errors import InputError
from qidbayes.law.expression import (
    Binary,
    Call,
    Expression,
    Name,
    Negative,
    Number,
    constant_value,
    names,
    parse,
    to_text,
)

ATTACKS = [
    "__import__('os').system('touch /tmp/owned')",
    "().__class__.__bases__[0].__subclasses__()",
    "k.__class__",
    "exp.__globals__",
    "eval(k)",
    "open(k)",
    "exp(k)(k)",
    "exp(k, k)",
    "exp(x=k)",
    "exp(*k)",
    "exp()",
    "sin(k)",
    "lambda: k",
    "[k for k in N]",
    "exp(k for k in N)",
    "{k: 1 for k in N}",
    "(k := 3)",
    "k if N else D",
    "k and N",
    "not k",
    "k < N",
    "k in N",
    "k == N",
    "k[0]",
    "k @ N",
    "k % 2",
    "k // 2",
    "k << 9999",
    "~k",
    "k ^ 2",
    "f'{k}'",
    "'k'",
    "b'k'",
    "(k, N)",
    "()",
    "await k",
    "(yield k)",
    "None",
    "True",
    "...",
    "1j",
    "k; N",
    "k = N",
    "k # N",
    "import os",
    "2k",
    "k N",
    "",
    "   ",
    "9**9**9",
    "9**9**9**9**9",
    "9e999",
    "1/0",
    "0**-1",
    "(-8)**(1/3)",
    "log(0)",
    "log(-1)",
    "sqrt(-1)",
    "exp(1000)",
    "k * (1/0)",
    "1" + "0" * 500,
    "9" * 10**6,
    "2**" + "9" * 10**6,
    "(" * 300 + "k" + ")" * 300,
    "(" * 10**6 + "k" + ")" * 10**6,
    "-" * 900 + "k",
    "-" * 10**6 + "k",
    "exp(" * 60 + "k" + ")" * 60,
    "+".join(["k"] * 400),
    "**".join(["k"] * 300),
    "a" * 10**6,
    "ｋ * N",  # a full-width k, which Python would read as k
    "α * N",
    "𝐤",
    "k × N",
    "k\u2212N",  # a minus sign that is not a hyphen
    "k\u200b",
    "k\x00",
    "\ud800",
]


@pytest.mark.parametrize("text", ATTACKS, ids=lambda text: ascii(text[:24]))
def test_an_attack_is_refused_quickly(text: str) -> None:
    with quick(), pytest.raises(InputError) as refusal:
        parse(text)
    assert len(str(refusal.value)) < 400
    assert refusal.value.__cause__ is None


@pytest.mark.parametrize("other", [None, 3, b"k", ["k"], 1.5, {"k": 1}])
def test_what_is_not_text_is_refused(other: object) -> None:
    with pytest.raises(InputError, match="must be text"):
        parse(other)  # type: ignore[arg-type]


def test_nothing_is_run_while_parsing() -> None:
    events: list[str] = []
    watching = True

    def watch(event: str, args: object) -> None:
        if watching and event in ("exec", "import", "open", "os.system", "subprocess.Popen"):
            events.append(event)

    sys.addaudithook(watch)  # cannot be removed, only told to look away
    try:
        for text in ATTACKS:
            with pytest.raises(InputError):
                parse(text)
    finally:
        watching = False
    assert events == []


_WORDS = ["k", "N", "exp", "log", "1", "2.5", "9" * 40, "+", "-", "*", "/", "**", "(", ")", " ", ".", "_", "if", "for"]
_WORDS += ["in", "lambda", "[", "]", "{", "}", "'", '"', ":", ":=", ",", "=", "@", "__import__", "os", "\n", "\\", "#"]


@settings(max_examples=1000)
@given(st.text(max_size=60) | st.text(string.printable, max_size=60) | st.lists(st.sampled_from(_WORDS)).map("".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    read = None
    with quick(), contextlib.suppress(InputError):
        read = parse(text)
    if read is not None:
        # What is accepted uses no syntax beyond the language's, by Python's own account.
        allowed = (ast.Expression, ast.BinOp, ast.UnaryOp, ast.Constant, ast.Name, ast.Call, ast.Load)
        allowed += (ast.operator, ast.unaryop)
        assert all(isinstance(node, allowed) for node in ast.walk(ast.parse(" ".join(text.split()), mode="eval")))


@settings(max_examples=500)
@given(expressions)
def test_text_and_back(expression: Expression) -> None:
    assert accepted(expression) == expression


_ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "**": operator.pow,
               "max": max, "min": min}  # fmt: skip


def _by_hand(expression: Expression) -> float:
    match expression:
        case Number(value):
            return value
        case Negative(operand):
            return -_by_hand(operand)
        case Call(function, argument):
            return getattr(math, function)(_by_hand(argument))
        case Binary(sign, left, right):
            return _ARITHMETIC[sign](_by_hand(left), _by_hand(right))
    raise AssertionError(expression)


@pytest.mark.parametrize(
    "text",
    ["1 - 2 - 3", "8 / 4 / 2", "2**3**2", "-2**2", "2**-1", "(-2)**2", "2 * -3", "1 + 2 * 3 - 4 / 5", "-(1 - 2)", "+3"],
)
def test_precedence_is_pythons(text: str) -> None:
    by_python = eval(text)
    assert constant_value(parse(text)) == by_python
    assert _by_hand(parse(text)) == by_python


def test_names() -> None:
    assert names(parse("k * D**beta / (N**alpha + exp(-P / gamma))")) == {"k", "D", "beta", "N", "alpha", "P", "gamma"}
    assert parse("log(x)") == Call("log", Name("x"))


def test_the_message_points_at_what_is_wrong() -> None:
    with pytest.raises(InputError, match=r"equation: '\^' at character 3 .*write powers as \*\*"):
        parse("k ^ 2")
    with pytest.raises(InputError, match=r"'k // 2' is not part of the equation language; it accepts numbers"):
        parse("1 + k // 2")
    with pytest.raises(InputError, match=r"'log\(0\)' has no finite real value"):
        parse("k + 2 * log(0)")
    with pytest.raises(InputError, match="nested more than 50 deep"):
        parse("exp(" * 60 + "k" + ")" * 60)


def test_the_greater_and_the_smaller() -> None:
    assert to_text(parse("max(16 - P, 0)**gamma")) == "max(16 - P, 0)**gamma"
    assert parse("min(a, b, c)") == parse("min(min(a, b), c)")
    assert constant_value(parse("max(2, 3) * min(2, 3)")) == 6.0
    for wrong in ("max(a)", "max()", "min(a, b=c)", "max(*a)", "abs(a, b)", "a, b"):
        with pytest.raises(InputError, match=r"equation"):
            parse(wrong)
