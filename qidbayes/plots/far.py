"""What the figures that look beyond the data share."""

from collections.abc import Mapping
from typing import Any

from qidbayes.errors import InputError
from qidbayes.posterior import query
from qidbayes.posterior.assumed import shown
from qidbayes.posterior.fit import Fit, Kind
from qidbayes.posterior.point import PointEstimate


def check_law(fit: Fit, figure: str, further: Mapping[str, Any]) -> None:
    """Refuse a law that does not give QiD for any size and tokens, and questions of more than one curve."""
    law = fit.law
    if law.response != "qid" or not {"N", "D"} <= set(law.covariates):
        raise InputError(f"{figure} is for laws of QiD with N and D in the equation; law {law.name!r} is not one")
    several = [name for name, value in further.items() if not isinstance(value, str | int | float)]
    if several:
        raise InputError(f"{figure} takes one value of {several[0]}, not {further[several[0]]!r}")


def with_suite(fit: Fit, further: Mapping[str, Any], kind: Kind) -> dict[str, Any]:
    """Return the further columns of a question, with what is shown of the fit unless they name a suite or a model."""
    return {**({} if {"suite", "model"} & set(further) else shown(fit, kind)), **further}


def asked_of(published: PointEstimate, question: Mapping[str, Any], further: Mapping[str, Any]) -> dict[str, Any]:
    """Return the question as a published point is asked it: without such further columns as its law does not know."""
    known = query.needs(published.law)
    return {name: value for name, value in question.items() if name not in further or name in known}
