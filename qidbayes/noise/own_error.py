"""A row's own error where it is normal."""

from collections.abc import Mapping
from typing import Any

import numpy as np


class NormalErrors:
    """Own errors are normal with standard deviation sigma; see `qidbayes.noise.model.NoiseModel`."""

    is_normal = True

    def own_errors(
        self,
        scale: Mapping[str, Any],
        where: Mapping[str, Any],  # noqa: ARG002
        count: int,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Return normals with standard deviation sigma."""
        return np.asarray(scale["sigma"] * rng.standard_normal(count))

    def own_variance(self, variance: np.ndarray, rng: np.random.Generator) -> np.ndarray:  # noqa: ARG002
        """Return the variance as it is."""
        return variance

    def mean_own_variance(self, variance: np.ndarray) -> np.ndarray:
        """Return the variance as it is."""
        return variance
