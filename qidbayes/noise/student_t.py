"""Independent errors with Student's t distribution: a few rows far off count for less."""

from collections.abc import Mapping
from math import lgamma, log, pi
from typing import Any

import numpy as np

from qidbayes.law.law import STUDENT_T_FREEDOM
from qidbayes.noise.random_effects import RandomEffects

_CONSTANT = lgamma((STUDENT_T_FREEDOM + 1) / 2) - lgamma(STUDENT_T_FREEDOM / 2) - 0.5 * log(STUDENT_T_FREEDOM * pi)


class StudentT(RandomEffects):
    """Own errors have Student's t distribution of scale sigma, rows share nothing: random effects of no group."""

    is_normal = False

    def __init__(self) -> None:
        super().__init__(())

    def log_density(
        self,
        residual: Any,
        variance: Any,
        scale: Mapping[str, Any],  # noqa: ARG002
        where: Any,  # noqa: ARG002
        data: Mapping[str, Any],  # noqa: ARG002
        xp: Any,
    ) -> Any:
        """Return the log density of all rows, of squared scales `variance`."""
        tail = 0.5 * (STUDENT_T_FREEDOM + 1) * xp.log1p(residual**2 / (STUDENT_T_FREEDOM * variance))
        return (_CONSTANT - 0.5 * xp.log(variance) - tail).sum()

    def own_errors(
        self,
        scale: Mapping[str, Any],
        where: Mapping[str, Any],  # noqa: ARG002
        count: int,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Return draws of the distribution with scale sigma."""
        return np.asarray(scale["sigma"] * rng.standard_t(STUDENT_T_FREEDOM, count))

    def own_variance(self, variance: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return draws of the variance, of which Student's t is the scale mixture of normals."""
        return np.asarray(variance * (STUDENT_T_FREEDOM / rng.chisquare(STUDENT_T_FREEDOM, variance.shape)))

    def mean_own_variance(self, variance: np.ndarray) -> np.ndarray:
        """Return the distribution's variance."""
        return variance * STUDENT_T_FREEDOM / (STUDENT_T_FREEDOM - 2.0)
