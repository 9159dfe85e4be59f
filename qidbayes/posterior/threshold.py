"""The training tokens at which the QiD of a law reaches a threshold."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qidbayes.errors import InputError
from qidbayes.law.inverse import solve_log
from qidbayes.law.law import Law
from qidbayes.posterior import query
from qidbayes.posterior.constants import Curve


def threshold_query(
    curve: Curve, values: Mapping[str, Any], extra: Sequence[str] = ()
) -> tuple[query.Query, np.ndarray]:
    """Return the questions, a row for each threshold and combination, and the thresholds' logarithms."""
    law = curve.law
    check_grows(law)
    frame = query.combinations({name: v for name, v in values.items() if v is not None})
    asked = query.build(curve, frame, {}, leave_out="tokens")
    unused = [name for name in frame.columns if name not in ("qid", *query.needs(law, "tokens"), *extra)]
    if unused:
        raise InputError(f"law {law.name!r} does not depend on {unused[0]!r}")
    return asked, np.log(query.positive(frame, "qid"))


def check_grows(law: Law) -> None:
    """Refuse a law that has no QiD or no tokens."""
    if law.response != "qid" or "D" not in law.covariates:
        raise InputError(f"law {law.name!r} does not say how QiD grows with tokens")


def log_tokens(curve: Curve, asked: query.Query, log_qid: np.ndarray) -> np.ndarray:
    """Return the logarithm of the tokens at which each draw's curve rises to the threshold: ``inf`` if never.

    Parameters
    ----------
    curve
        The law with its constants.
    asked
        The questions.
    log_qid
        Logarithms of thresholds (nats per token), shape ``(queries,)`` or ``(draws, queries)``.

    Returns
    -------
    numpy.ndarray
        Shape ``(draws, queries)``.
    """
    scope = curve.scope(asked.log_covariates, asked.index)
    return solve_log(curve.law.expression, "D", np.atleast_2d(log_qid), scope)
