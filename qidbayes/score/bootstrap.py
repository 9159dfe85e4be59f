"""The paper's method with a bootstrap band: the habit of the field, and the baseline to hold a posterior against."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from qidbayes.errors import InputError
from qidbayes.infer.design import Design, design
from qidbayes.infer.least_squares import minimize
from qidbayes.infer.problem import Problem
from qidbayes.law import Law
from qidbayes.posterior import query
from qidbayes.posterior.constants import Curve
from qidbayes.posterior.predictive import Predictive
from qidbayes.seeds import Stream, generator

RESAMPLES = 200


@dataclass(frozen=True)
class Bootstrap:
    """Least squares on resampled rows.

    Attributes
    ----------
    curve
        The law with the constants of each resample.
    scatter
        The root mean square of each resample's log residuals; shape ``(resamples,)``.
    """

    curve: Curve
    scatter: np.ndarray

    def predictive(self, frame: pl.DataFrame) -> Predictive:
        """Return each resample's curve with its scatter, as `Fit.predictive` does."""
        asked = query.build(self.curve, frame, {})
        mean = self.curve.log_response(asked.log_covariates, asked.index)
        mean = np.broadcast_to(mean, (len(mean), frame.height))
        return Predictive(mean, np.broadcast_to(self.scatter[:, None], mean.shape))


def bootstrap(table: pl.DataFrame, law: Law, random_seed: int, resamples: int = RESAMPLES) -> Bootstrap:
    """Fit a law by unweighted least squares in linear space to resamples of the rows, drawn with replacement.

    Around each resample's curve the rows scatter normally in the logarithm, as widely as the resample's own do. That is
    kind to the method: the normal errors in linear space that it stands for are as wide as the 2-bit residuals, and
    would put the lower end of every 4-bit band below zero.

    Raises
    ------
    InputError
        If the table cannot be used or the data do not determine the constants.
    """
    rows = design(table, law)
    problem = Problem(rows)
    best = minimize(problem, "linear")
    rng = generator(random_seed, Stream.BOOTSTRAP)
    count = len(rows.log_response)
    found, scatter = [], []
    for _ in range(resamples):
        weights = np.bincount(rng.integers(count, size=count), minlength=count).astype(float)
        x = minimize(problem, "linear", weights, start=best)
        found.append(problem.constants(x[None]))
        residual = rows.log_response - problem.log_mean(x)
        scatter.append(np.sqrt(np.average(residual**2, weights=weights)))
    constants = {name: np.concatenate([values[name] for values in found]) for name in law.constants}
    _check(constants, rows)
    return Bootstrap(Curve(law, constants, rows.coords), np.array(scatter))


def _check(constants: dict[str, np.ndarray], rows: Design) -> None:
    if not all(np.isfinite(values).all() for values in constants.values()):
        raise InputError(f"least squares of law {rows.law.name!r} fails on a resample of the rows")
