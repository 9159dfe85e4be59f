"""What the figures that look beyond the data share."""

from collections.abc import Mapping
from typing import Any

from qidbayes.errors import InputError
from qidbayes.posterior.fit import Fit


def check_law(fit: Fit, figure: str, further: Mapping[str, Any]) -> None:
    """Refuse a law that does not give QiD for any size and tokens, and questions of more than one curve."""
    law = fit.law
    if law.response != "qid" or not {"N", "D"} <= set(law.covariates):
        raise InputError(f"{figure} is for laws of QiD with N and D in the equation; law {law.name!r} is not one")
    several = [name for name, value in further.items() if not isinstance(value, str | int | float)]
    if several:
        raise InputError(f"{figure} takes one value of {several[0]}, not {further[several[0]]!r}")
