"""Power priors: the prior is another fit's posterior, taken as normal on the real line, to the power of a weight.

A posterior raised to the power w and taken as the prior lets every row of the other table count for w of a row (and the
prior it had for w of a prior). A normal distribution N(m, S) to the power w is N(m, S/w).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from qidbayes.errors import InputError
from qidbayes.law.law import Law
from qidbayes.law.prior import Prior
from qidbayes.posterior.posterior import Posterior
from qidbayes.table.groups import dimension


@dataclass(frozen=True)
class PowerPrior:
    """The law's parameters and the noise's standard deviations, jointly normal on the real line.

    Attributes
    ----------
    sizes
        The sampler's variables, in order, and how many numbers each has.
    mean
        Shape ``(numbers,)``.
    root
        R with R'R the precision; shape ``(numbers, numbers)``.
    unidentified
        The numbers that the other fit did not identify either.
    """

    sizes: Mapping[str, int]
    mean: np.ndarray
    root: np.ndarray
    unidentified: tuple[str, ...]

    @property
    def sd(self) -> np.ndarray:
        """Each number's standard deviation; shape ``(numbers,)``."""
        return np.linalg.norm(np.linalg.inv(self.root), axis=1)


def power_prior(
    law: Law, coords: Mapping[str, tuple[str, ...]], errors: Mapping[str, Prior], other: Posterior, weight: float
) -> PowerPrior:
    """Return the posterior of another fit of the same law as a prior.

    Parameters
    ----------
    law, coords
        The law to be fitted, and its groups' labels.
    errors
        The priors of what scatters around the law in the table to be fitted.
    other
        The other fit.
    weight
        What each of its rows counts for, above 0 and at most 1.

    Raises
    ------
    InputError
        If the two laws differ, a group is not in the other fit, or its draws are not usable.
    """
    if not isinstance(weight, int | float) or isinstance(weight, bool) or not 0 < weight <= 1:
        raise InputError(f"prior_weight must be above 0 and at most 1, not {weight!r}")
    _check_same(law, other.law)
    columns, sizes = [], {}
    for name, prior in law.priors.items():
        sampled = law.sampled_name(name)
        values = prior.unconstrain(_flat(other, sampled))
        if prior.by:
            dim = dimension(prior.by)
            missing = [label for label in coords[dim] if label not in other.coords[dim]]
            if missing:
                raise InputError(f"prior_from knows {name} for {dim} {', '.join(other.coords[dim])}; not {missing[0]}")
            values = values[:, [other.coords[dim].index(label) for label in coords[dim]]]
        columns.append(values.reshape(len(values), -1))
        sizes[sampled] = columns[-1].shape[1]
    # What scatters only in this table keeps the law's own prior.
    for name, prior in errors.items():
        if name in other.draws:
            columns.append(prior.unconstrain(_flat(other, name))[:, None])
            sizes[name] = 1
    draws = np.concatenate(columns, axis=1)
    try:
        factor = np.linalg.cholesky(np.cov(draws, rowvar=False).reshape(draws.shape[1], -1))
    except np.linalg.LinAlgError:
        raise InputError("prior_from: the fit's draws have no covariance; draw more") from None
    root = np.sqrt(weight) * np.linalg.inv(factor)
    return PowerPrior(sizes, draws.mean(axis=0), root, other.diagnostics.unidentified)


def fit_hash(fit: Posterior) -> str:
    """Return a SHA-256 of a fit's law and draws."""
    found = hashlib.sha256(fit.law.fingerprint().encode())
    for name in sorted(fit.draws):
        found.update(name.encode() + np.ascontiguousarray(fit.draws[name], dtype="<f8").tobytes())
    return found.hexdigest()


def _flat(other: Posterior, name: str) -> np.ndarray:
    values = other.draws[name]
    return values.reshape(-1, *values.shape[2:])


def _check_same(law: Law, other: Law) -> None:
    for what, ours, theirs in (
        ("response", law.response, other.response),
        ("equation", law.expression, other.expression),
        ("definitions", dict(law.definitions), dict(other.definitions)),
        ("reference", dict(law.reference), dict(other.reference)),
        ("parameters", _support(law), _support(other)),
        ("noise family", law.noise.family, other.noise.family),
        ("discrepancy", law.noise.discrepancy, other.noise.discrepancy),
    ):
        if ours != theirs:
            raise InputError(f"prior_from: its law {other.name!r} has another {what} than law {law.name!r}")
    pooled = [name for name, prior in law.priors.items() if prior.pooled]
    if pooled:
        raise InputError(f"prior_from: {pooled[0]} is partially pooled, and a population cannot be borrowed")


def _support(law: Law) -> dict[str, Any]:
    return {n: (p.family, p.by, p.pooled, p.arguments if p.family == "Uniform" else ()) for n, p in law.priors.items()}
