"""Random equations for hypothesis."""

from hypothesis import assume
from hypothesis import strategies as st

from qidbayes.errors import InputError
from qidbayes.law.expression import Binary, Call, Expression, Name, Negative, Number, parse, to_text

NAMES = ("k", "alpha", "beta", "N", "D", "P")

_numbers = st.floats(1e-3, 1e3).map(Number) | st.integers(0, 10**7).map(lambda n: Number(float(n)))
_leaves = _numbers | st.sampled_from(NAMES).map(Name)


def _branches(parts: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    return (
        st.builds(Binary, st.sampled_from(["+", "-", "*", "/", "**", "max", "min"]), parts, parts)
        | st.builds(Negative, parts)
        | st.builds(Call, st.sampled_from(["exp", "log", "sqrt"]), parts)
    )


def _positive_branches(parts: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    return st.builds(Binary, st.sampled_from(["+", "*", "/", "max", "min"]), parts, parts) | st.builds(
        lambda base, power: Binary("**", base, power), parts, st.floats(0.1, 2.0).map(Number)
    )


expressions = st.recursive(_leaves, _branches, max_leaves=20)
"""Any expression, also ones that a law could not use."""

positive_expressions = st.recursive(
    st.floats(0.1, 10).map(Number) | st.sampled_from(NAMES).map(Name), _positive_branches, max_leaves=12
)
"""Expressions all of whose parts are positive where the names are."""


def accepted(expression: Expression) -> Expression:
    """Return what the parser makes of an expression's text, passing over those with an undefined constant part."""
    try:
        return parse(to_text(expression))
    except InputError as error:
        assume("finite real value" not in str(error))
        raise
