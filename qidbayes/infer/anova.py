"""Sufficient statistics of a log-linear law on a full grid: the strata of an analysis of variance.

If the logarithm of the law is linear in its parameters z, every row has the same error, and all groups of a level have
equally many members, then the covariance of nested effects has one eigenvalue for each level: λ = σ² within the
innermost groups, and each level out adds (rows in its group)·τ². The log density is

    −½ Σ_s [ n_s log λ_s + ‖R_s (1, −z)‖² / λ_s ] + constant

with R_s the triangular factor of the data (log response, effects of the parameters) projected on stratum s, and n_s its
dimension: the strata of the analysis of variance. No evaluation touches a row, and the compiled program is the same for
every number of rows and groups.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from qidbayes.infer.inputs import Inputs
from qidbayes.infer.problem import Problem


@dataclass(frozen=True)
class Strata:
    """The sufficient statistics, from the inside out.

    Attributes
    ----------
    root
        R_s; shape ``(levels + 1, numbers + 1, numbers + 1)``.
    freedom
        n_s, as floats; shape ``(levels + 1,)``.
    members
        Rows in a group of each level, as floats; shape ``(levels,)``.
    """

    root: np.ndarray
    freedom: np.ndarray
    members: np.ndarray


def strata(rows: Inputs) -> Strata | None:
    """Return the rows' sufficient statistics, None if the law or the table has none."""
    if rows.noise.by_draw or not rows.noise.is_normal or rows.latent or rows.variance.any():
        return None
    if not all(level.regular for level in rows.levels):
        return None
    problem = Problem(rows)
    if not all(problem.is_linear(name) for name in rows.law.priors):
        return None
    at_origin = problem.log_mean(np.zeros(sum(problem.sizes)))
    data = np.column_stack([rows.log_response - at_origin, problem.effects.T])
    root, freedom, members = [], [], []
    count = len(data)
    inner, dimension = data, count
    for level in rows.levels:
        means = data.reshape(level.size, -1, data.shape[1]).mean(axis=1)
        outer = np.repeat(means, count // level.size, axis=0)
        root.append(_factor(inner - outer))
        freedom.append(dimension - level.size)
        members.append(count // level.size)
        inner, dimension = outer, level.size
    root.append(_factor(inner))
    freedom.append(dimension)
    return Strata(np.stack(root), np.array(freedom, dtype=float), np.array(members, dtype=float))


def _factor(projected: np.ndarray) -> np.ndarray:
    found = np.linalg.qr(projected, mode="r")
    width = projected.shape[1]
    return np.pad(found, ((0, width - len(found)), (0, 0)))


def log_density(root: Any, freedom: Any, eigenvalues: Any, direction: Any, log: Callable[[Any], Any]) -> Any:
    """Return the log density of the data.

    Parameters
    ----------
    root, freedom
        As in `Strata`.
    eigenvalues
        λ, shape ``(levels + 1,)``.
    direction
        (1, −z), shape ``(numbers + 1,)``.
    log
        The logarithm of the array library in use.
    """
    square = ((root @ direction) ** 2).sum(axis=1)
    return -0.5 * ((square / eigenvalues).sum() + (freedom * log(2.0 * np.pi * eigenvalues)).sum())
