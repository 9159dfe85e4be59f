"""Rows too noisy for the logarithm of what was measured: their true QiD is sampled, and so none is dropped.

A row is measured as q = exp(x) + s·N(0, 1), with s its standard error and x = log(true QiD), which scatters around
the law. Where s is small beside q, x is nearly normal around log q with standard deviation s/q. That approximation
pulls the law by up to 1.5 (s/q)² in log QiD, and has nothing to say of q ≤ 0. Rows above `LIMIT` enter in two steps.

First by a sketch: as if log q₊ had been measured with variance 1/p, where q₊ is the mean of a true QiD above 0 given
the row alone, and p = (q₊/s)² the information about x there. With sketches in their place all rows are normal, and
the density has a closed form (see `qidbayes.noise.random_effects`). Then the sketches are taken back: given them, the
shared effects and x can be drawn from standard normals ξ (`random_effects.effects`, `given_effects`). The density is

    p(rows | θ) = p(sketches | θ) · E_ξ Π p(q | x(θ, ξ)) / N(log q₊ | x(θ, ξ), 1/p)

so that NUTS, sampling ξ beside θ, samples the exact posterior. ξ stays near a standard normal whatever θ is, both for
good rows and for hopeless ones, whose x follows the law: there is no funnel to fall into.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import log_ndtr

from qidbayes.law import Law
from qidbayes.noise.random_effects import Level

NAME = "latent"
"""What ξ is called in the model: first the noisy rows', then those of the groups they are in, level by level."""
LIMIT = 0.05
"""The largest qid_se/QiD at which the logarithm is taken: the law is pulled by less than 0.004, 0.4% of QiD."""
BELOW = 5.0
"""A row that many standard errors below 0 contradicts every QiD above 0, whatever the law."""


def limit(law: Law) -> float:
    """Return the largest standard error, over QiD, whose logarithm a law takes as normal.

    Rows of many families scatter by a fifth and more beside it, so that there its skewness does not show.
    """
    return 0.2 if law.noise.discrepancy == "families" else LIMIT


def is_noisy(qid: np.ndarray, error: np.ndarray, limit: float = LIMIT) -> np.ndarray:
    """Return which rows' true QiD is sampled; shapes ``(rows,)``, nats per token."""
    return np.asarray(error > limit * qid)


def expected(qid: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Return q₊, the mean of a normal around the measured QiD cut off at 0; shapes ``(rows,)``, nats per token."""
    ratio = qid / error
    above = np.exp(-0.5 * ratio**2 - 0.5 * np.log(2.0 * np.pi) - log_ndtr(ratio))
    return np.asarray(error * (ratio + above))


def data(qid: np.ndarray, error: np.ndarray, levels: Sequence[Level], limit: float = LIMIT) -> dict[str, np.ndarray]:
    """Return what a model is told of the noisy rows, by the names it has there; empty if there are none.

    ``latent_row``, ``latent_qid`` and ``latent_error`` are the rows, their QiD and its standard error;
    ``latent_<level>`` are the groups they are in.
    """
    rows = np.flatnonzero(is_noisy(qid, error, limit))
    if not rows.size:
        return {}
    found = {"latent_row": rows, "latent_qid": qid[rows], "latent_error": error[rows]}
    members = rows
    for level in levels:
        members = np.unique(level.parent[members])
        found[f"latent_{level.name}"] = members
    return found


def given_effects(shared: Any, log_qid: Any, sketch: Any, variance: Any, normal: Any, sqrt: Any) -> Any:
    """Return x given the shared effects and the sketch.

    Parameters
    ----------
    shared
        Law and shared effects of each noisy row; shape ``(…, rows)``.
    log_qid, sketch
        log q₊ and 1/p.
    variance
        Of the rows' own errors.
    normal
        The rows' ξ, shape ``(…, rows)``.
    sqrt
        The square root of the array library in use.
    """
    total = sketch + variance
    return (variance * log_qid + sketch * shared) / total + sqrt(sketch * variance / total) * normal


def from_normal(log_qid: Any, sketch: Any, normal: Any, xp: Any) -> Any:
    """Return log(true QiD) from the variable that is sampled where the discrepancy is modelled.

    There the effects are not drawn one by one, and the sampled variable has the location and scale of the sketch.
    """
    return log_qid + xp.sqrt(xp.minimum(sketch, 1.0)) * normal
