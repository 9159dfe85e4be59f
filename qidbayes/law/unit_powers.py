"""Which constants of an equation carry the units of N, D and P.

A law is sampled with its covariates relative to a reference point (N/10⁹, D/10¹¹, P/4), where its constants are well
conditioned, and reported in raw counts, as papers print them. Rescaling a covariate changes those constants that
multiply it: in ``k * D**beta / N**alpha``, the raw k is k_ref · N₀^alpha / D₀^beta; in ``(Nc/N)**a``, Nc is
Nc_ref · N₀. This module finds them, in the manner of a check of units.
"""

from collections.abc import Collection

from qidbayes.errors import InputError
from qidbayes.law.expression import Binary, Call, Expression, Name, Negative, Number, names, to_text

type Dimension = dict[str, Expression]
"""For each covariate, the power it stands in."""


def unit_powers(equation: Expression, relative: Collection[str], constants: Collection[str]) -> dict[str, Dimension]:
    """Return, for each constant that changes with the reference point, the powers that carry it to raw counts.

    Parameters
    ----------
    equation
        The law's right-hand side.
    relative
        The covariates that enter divided by their reference.
    constants
        The names that may carry units.

    Returns
    -------
    dict
        ``{name: {covariate: power}}`` such that ``raw = at_reference * product(reference[covariate]**power)``.

    Raises
    ------
    InputError
        If a covariate's unit cannot be carried by a constant, as in ``exp(-P)``.

    Examples
    --------
    >>> from qidbayes.law.expression import parse, to_text
    >>> found = unit_powers(parse("k * D**beta / N**alpha"), ["N", "D"], ["k", "alpha", "beta"])
    >>> {name: {c: to_text(p) for c, p in powers.items()} for name, powers in found.items()}
    {'k': {'D': '-beta', 'N': 'alpha'}}
    """
    finder = _Finder(set(relative), set(constants))
    left_over = finder.dimension(equation)
    if left_over:
        raise _unbound(left_over, equation)
    moved = set(finder.found)
    for name, powers in finder.found.items():
        if any(names(power) & moved for power in powers.values()):
            raise InputError(f"equation: {name!r} would need an exponent that has units itself; leave [reference] out")
    return finder.found


class _Finder:
    def __init__(self, relative: set[str], constants: set[str]) -> None:
        self.relative = relative
        self.constants = constants
        self.found: dict[str, Dimension] = {}

    def dimension(self, expression: Expression) -> Dimension:
        match expression:
            case Name(id) if id in self.relative:
                return {id: Number(1.0)}
            case Negative(operand):
                return self.dimension(operand)
            case Call("sqrt", argument):
                return {c: _times(power, Number(0.5)) for c, power in self.dimension(argument).items()}
            case Call(_, argument):
                return self._bound(argument)
            case Binary("+" | "-" | "max" | "min", left, right):
                a, b = self.dimension(left), self.dimension(right)
                if a != b:
                    raise _unbound(a or b, expression)
                return a
            case Binary("**", base, exponent):
                self._bound(exponent)
                return {c: _times(power, exponent) for c, power in self.dimension(base).items()}
            case Binary("*" | "/"):
                return self._product(expression)
        return {}

    def _bound(self, expression: Expression) -> Dimension:
        left_over = self.dimension(expression)
        if left_over:
            raise _unbound(left_over, expression)
        return {}

    def _product(self, expression: Expression) -> Dimension:
        total: Dimension = {}
        carriers: list[tuple[str, float]] = []
        for factor, sign in _factors(expression, 1.0):
            match factor:
                case Name(id) if id in self.constants:
                    carriers.append((id, sign))
            for covariate, power in self.dimension(factor).items():
                total[covariate] = _plus(total.get(covariate), _times(power, Number(sign)))
        total = {covariate: power for covariate, power in total.items() if power != Number(0.0)}
        if not total or not carriers:
            return total
        name, sign = carriers[0]
        powers = {covariate: _times(power, Number(-sign)) for covariate, power in total.items()}
        if self.found.setdefault(name, powers) != powers:
            raise InputError(f"equation: {name!r} carries different units in different terms; leave [reference] out")
        return {}


def _factors(expression: Expression, sign: float) -> list[tuple[Expression, float]]:
    match expression:
        case Binary("*", left, right):
            return _factors(left, sign) + _factors(right, sign)
        case Binary("/", left, right):
            return _factors(left, sign) + _factors(right, -sign)
        case Negative(operand):
            return _factors(operand, sign)
    return [(expression, sign)]


def _times(a: Expression, b: Expression) -> Expression:
    match a, b:
        case Number(x), Number(y):
            return Number(x * y)
        case (Number(1.0), other) | (other, Number(1.0)):
            return other
        case (Number(-1.0), Negative(inner)) | (Negative(inner), Number(-1.0)):
            return inner
        case (Number(-1.0), other) | (other, Number(-1.0)):
            return Negative(other)
    return Binary("*", a, b)


def _plus(a: Expression | None, b: Expression) -> Expression:
    match a, b:
        case None, _:
            return b
        case Number(x), Number(y):
            return Number(x + y)
    assert a is not None
    return Binary("+", a, b)


def _unbound(left_over: Dimension, expression: Expression) -> InputError:
    which = ", ".join(sorted(left_over))
    return InputError(
        f"equation: no constant carries the units of {which} in '{to_text(expression)}'; "
        f"write it relative to a constant, or leave {which} out of [reference]"
    )
