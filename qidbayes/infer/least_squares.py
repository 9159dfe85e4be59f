"""Least squares: how the paper fitted its laws, and the baseline to hold a posterior against."""

import os
from typing import Any, Literal

import numpy as np
from scipy import optimize

from qidbayes.errors import InputError
from qidbayes.infer.design import design
from qidbayes.infer.problem import Problem
from qidbayes.law import Law, load_law
from qidbayes.posterior.constants import dimensions
from qidbayes.posterior.point import PointEstimate
from qidbayes.table.frames import Table
from qidbayes.table.given import as_table

type Space = Literal["linear", "log"]


def least_squares(table: Table, law: str | os.PathLike[str] | Law, space: Space = "linear") -> PointEstimate:
    """Fit a law by unweighted least squares.

    Parameters
    ----------
    table
        Measurements; the same rows are used as by `fit`.
    law
        A `Law`, the name of a shipped one, or a TOML file. Its priors and noise are not used.
    space
        ``"linear"`` minimises squared errors of the response, as the paper's Eq. 8 does: the largest QiDs, those at
        2 bits, decide it. ``"log"`` minimises squared errors of its logarithm.

    Returns
    -------
    PointEstimate
        The constants in raw counts, which answers `predict` and `tokens_to_threshold` without intervals.

    Raises
    ------
    InputError
        If the table cannot be used, the data do not determine the constants, or the search does not converge.

    Examples
    --------
    >>> from qidbayes.table import load_table
    >>> found = least_squares(load_table("pythia"), "unified")
    >>> {name: round(value, 4) for name, value in found.constants.items()}
    {'k': 0.0165, 'beta': 0.5239, 'alpha': 0.2256, 'gamma': 5.4281}
    """
    if space not in ("linear", "log"):
        raise InputError(f"space must be 'linear' or 'log', not {space!r}")
    law = law if isinstance(law, Law) else load_law(law)
    rows = design(as_table(table, "table"), law)
    if space == "log" and (rows.response <= 0).any():
        raise InputError(
            f"{(rows.response <= 0).sum()} of {len(rows.response)} rows have QiD ≤ 0, which has no logarithm; "
            f"use space='linear', or `fit`, which takes in how noisy they are"
        )
    problem = Problem(rows)
    return _point(problem, minimize(problem, space), f"{law.name}: least squares, {space} space")


def minimize(
    problem: Problem, space: Space, weights: np.ndarray | None = None, start: np.ndarray | None = None
) -> np.ndarray:
    """Return the parameters on the real line that minimise the sum of squared errors; see `least_squares`.

    Parameters
    ----------
    problem
        The law and its rows.
    space
        ``"linear"`` or ``"log"``.
    weights
        How many times each row counts, as in a bootstrap; shape ``(rows,)``.
    start
        Where to begin, if near a solution; otherwise in the middle of the priors.
    """
    name, times = problem.rows.law.name, 1.0 if weights is None else np.sqrt(weights)
    if start is None:
        start = problem.start()
        solution = optimize.least_squares(
            lambda x: times * _residual(problem, x, "log"), start, x_scale="jac", xtol=1e-12, ftol=1e-12
        )
        if np.linalg.matrix_rank(solution.jac, tol=1e-6 * np.linalg.norm(solution.jac, 2)) < len(start):
            raise InputError(f"the data do not determine every constant of law {name!r}")
        if space == "log":
            return _converged(solution, space)
        start = solution.x  # close, and cannot be thrown off by one large value
    solution = optimize.least_squares(
        lambda x: times * _residual(problem, x, space), start, x_scale="jac", xtol=1e-14, ftol=1e-14, max_nfev=5000
    )
    return _converged(solution, space)


def _converged(solution: Any, space: Space) -> np.ndarray:
    if not solution.success:
        raise InputError(f"least squares in {space} space did not converge: {solution.message}")
    return np.asarray(solution.x)


def _residual(problem: Problem, x: np.ndarray, space: Space) -> np.ndarray:
    log_mean = problem.log_mean(x)
    if space == "log":
        return np.asarray(log_mean - problem.rows.log_response)
    # A step far off may overflow; a huge error turns the search back as well as an infinite one would not.
    return np.asarray(np.exp(np.minimum(log_mean, 500.0)) - problem.rows.response)


def _point(problem: Problem, x: np.ndarray, label: str) -> PointEstimate:
    law, dims = problem.rows.law, dimensions(problem.rows.law)
    values, found = problem.constants(x[None]), {}
    for name in law.constants:
        labels = problem.rows.coords[dims[name]] if name in dims else None
        found[name] = dict(zip(labels, map(float, values[name][0]), strict=True)) if labels else float(values[name][0])
    return PointEstimate(law, found, label)
