"""Write an expression as LaTeX."""

import re

from qidbayes.law.expression import Binary, Call, Expression, Name, Negative, Number

GREEK = {
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "kappa", "lambda", "mu", "nu", "xi", "pi",
    "rho", "sigma", "tau", "phi", "chi", "psi", "omega",
}  # fmt: skip


def to_latex(expression: Expression) -> str:
    r"""Return the expression as LaTeX, without dollar signs.

    Examples
    --------
    >>> from qidbayes.law.expression import parse
    >>> print(to_latex(parse("k * D**beta / (N**alpha * P**gamma)")))
    \frac{k D^{\beta}}{N^{\alpha} P^{\gamma}}
    """
    match expression:
        case Number(value):
            return _number(value)
        case Name(id):
            return symbol(id)
        case Negative(operand):
            return f"-{_wrapped(operand, additive=True)}"
        case Call("exp", argument):
            return rf"\exp\left({to_latex(argument)}\right)"
        case Call("log", argument):
            return rf"\log\left({to_latex(argument)}\right)"
        case Call(_, argument):  # sqrt
            return rf"\sqrt{{{to_latex(argument)}}}"
        case Binary("max" | "min" as operator, left, right):
            return rf"\{operator}\left({to_latex(left)}, {to_latex(right)}\right)"
        case Binary("/", left, right):
            return rf"\frac{{{to_latex(left)}}}{{{to_latex(right)}}}"
        case Binary("**", left, right):
            base = to_latex(left)
            plain = isinstance(left, Name) or (isinstance(left, Number) and "cdot" not in base)
            return f"{base if plain else _parentheses(base)}^{{{to_latex(right)}}}"
        case Binary("*", left, right):
            a, b = _wrapped(left, additive=True), _wrapped(right, additive=True)
            return rf"{a} \cdot {b}" if b[0].isdigit() or b[0] == "-" else f"{a} {b}"
        case Binary(operator, left, right):
            return f"{to_latex(left)} {operator} {_wrapped(right, additive=operator == '-')}"


def symbol(name: str) -> str:
    r"""Return a name as LaTeX: Greek letters by their names, the rest of it as a subscript.

    Examples
    --------
    >>> symbol("alphaN"), symbol("Nc"), symbol("learning_rate")
    ('\\alpha_{N}', 'N_{c}', '\\mathrm{learning\\_rate}')
    """
    head = next((g for g in sorted(GREEK, key=len, reverse=True) if name.startswith(g)), "")
    tail = name[len(head) :].strip("_")
    if head:
        return rf"\{head}" + (f"_{{{tail}}}" if tail else "")
    if re.fullmatch(r"[A-Za-z]_?[A-Za-z0-9]?|[A-Za-z]_[A-Za-z0-9]+", name):
        rest = name[1:].strip("_")
        return name[0] + (f"_{{{rest}}}" if rest else "")
    escaped = name.replace("_", r"\_")
    return rf"\mathrm{{{escaped}}}"


def _number(value: float) -> str:
    text = f"{value:g}"
    if "e" not in text:
        return text
    mantissa, exponent = text.split("e")
    return rf"{mantissa} \cdot 10^{{{int(exponent)}}}"


def _wrapped(expression: Expression, *, additive: bool) -> str:
    text = to_latex(expression)
    needs = isinstance(expression, Negative) or (
        additive and isinstance(expression, Binary) and expression.operator in "+-"
    )
    return _parentheses(text) if needs else text


def _parentheses(text: str) -> str:
    return rf"\left({text}\right)"
