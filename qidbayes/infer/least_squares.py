"""Least squares: how the paper fitted its laws, and the baseline to hold a posterior against."""

import os
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from scipy import optimize

from qidbayes.errors import InputError
from qidbayes.infer.design import Design, design
from qidbayes.law import Law, load_law
from qidbayes.posterior.constants import Curve, dimensions, raw_constants
from qidbayes.posterior.point import Point
from qidbayes.table.groups import dimension

type Space = Literal["linear", "log"]


def least_squares(table: pl.DataFrame, law: str | os.PathLike[str] | Law, space: Space = "linear") -> Point:
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
    Point
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
    {'k': 0.0165, 'beta': 0.5239, 'alpha': 0.2256, 'gamma': 5.4284}
    """
    if space not in ("linear", "log"):
        raise InputError(f"space must be 'linear' or 'log', not {space!r}")
    law = law if isinstance(law, Law) else load_law(law)
    rows = design(table, law)
    problem = Problem(rows)
    start = problem.start()
    solution = optimize.least_squares(
        lambda x: problem.residual(x, "log"), start, x_scale="jac", xtol=1e-12, ftol=1e-12
    )
    if np.linalg.matrix_rank(solution.jac, tol=1e-6 * np.linalg.norm(solution.jac, 2)) < len(start):
        raise InputError(f"the data do not determine every constant of law {law.name!r}")
    if space == "linear":  # from the solution in log space, which is close and cannot be thrown off by one large value
        solution = optimize.least_squares(
            lambda x: problem.residual(x, "linear"), solution.x, x_scale="jac", xtol=1e-14, ftol=1e-14, max_nfev=5000
        )
    if not solution.success:
        raise InputError(f"least squares in {space} space did not converge: {solution.message}")
    return problem.point(solution.x, f"{law.name}: least squares, {space} space")


@dataclass(frozen=True)
class Problem:
    """The residuals of a law, as a function of all its parameters on the real line, one after the other."""

    rows: Design

    def start(self) -> np.ndarray:
        rng = np.random.default_rng(0)
        found = []
        for prior in self.rows.law.priors.values():
            middle = np.median(prior.unconstrain(prior.sample(1000, rng)))
            found.append(np.full(len(self.rows.coords[dimension(prior.by)]) if prior.by else 1, middle))
        return np.concatenate(found)

    def values(self, x: np.ndarray) -> dict[str, np.ndarray]:
        law, found, at = self.rows.law, {}, 0
        for name, prior in law.priors.items():
            size = len(self.rows.coords[dimension(prior.by)]) if prior.by else 1
            value = prior.constrain(x[at : at + size])
            found[law.sampled_name(name)] = value[None, :] if prior.by else value
            at += size
        return found | raw_constants(law, found)

    def residual(self, x: np.ndarray, space: Space) -> np.ndarray:
        law = self.rows.law
        log_raw = {c: v + np.log(law.reference.get(c, 1.0)) for c, v in self.rows.log_covariates.items()}
        with np.errstate(all="ignore"):  # a step far off may overflow
            log_mean = Curve(law, self.values(x), self.rows.coords).log_response(log_raw, self.rows.index)[0]
        if space == "log":
            return np.asarray(log_mean - self.rows.log_response)
        # A step far off may overflow; a huge error turns the search back as well as an infinite one would not.
        return np.asarray(np.exp(np.minimum(log_mean, 500.0)) - np.exp(self.rows.log_response))

    def point(self, x: np.ndarray, label: str) -> Point:
        dims, found = dimensions(self.rows.law), {}
        for name, value in self.values(x).items():
            if name in self.rows.law.constants:
                labels = self.rows.coords[dims[name]] if name in dims else None
                found[name] = dict(zip(labels, map(float, value[0]), strict=True)) if labels else float(value[0])
        return Point(self.rows.law, {name: found[name] for name in self.rows.law.constants}, label)
