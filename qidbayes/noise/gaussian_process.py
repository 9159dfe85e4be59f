"""The noise model of `noise.kernels`: what the equation misses is a Gaussian process, own errors are normal."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from qidbayes.noise import gp_density
from qidbayes.noise.conditioned import ConditionedBlock, FittedResiduals
from qidbayes.noise.coordinates import KIND, Fitted
from qidbayes.noise.gram import Gram
from qidbayes.noise.grid import Partition, best_grid, partition
from qidbayes.noise.kernels import SIMILARITY, SLOPES, Coordinates, covariance
from qidbayes.noise.own_error import NormalErrors
from qidbayes.table.groups import CHECKPOINT


@dataclass(frozen=True)
class GaussianProcess(NormalErrors):
    """See `qidbayes.noise.model.NoiseModel`.

    Attributes
    ----------
    groups
        Which of models and checkpoints have an effect of their own.
    has_quantizations
        Whether rows differ in their quantization: of QiD, not of 16-bit losses.
    wanders
        Whether slopes in log D wander (see `qidbayes.noise.kernels.walk_kernel`).
    """

    groups: tuple[str, ...]
    has_quantizations: bool
    wanders: bool = False
    by_draw = True
    asked = ("suite", "model", "revision", "n_params", "bits", *KIND)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its numbers."""
        of_groups = (f"{group}_sd" for group in self.groups)
        of_quantizations = ("length_bits", SIMILARITY) if self.has_quantizations else ()
        lengths = ("length_params", "length_tokens", *of_quantizations)
        return ("sigma", "smooth_sd", "suite_sd", *of_groups, *(SLOPES if self.wanders else ()), *lengths)

    def log_density(
        self, residual: Any, variance: Any, scale: Mapping[str, Any], where: Any, data: Mapping[str, Any], xp: Any
    ) -> Any:
        """Return the log density of rows in the order of their blocks, the process integrated out."""
        return gp_density.log_density(residual, variance, scale, where.blocks, data, xp)

    def gram(self, where: Partition, coordinates: Coordinates, variance: np.ndarray) -> Gram:
        """Return the inner products over rows in these blocks, the process integrated out."""
        return Gram(where, coordinates, variance)

    def rows(self, frame: pl.DataFrame) -> Coordinates:
        """Return where fitted rows stand."""
        return self.coordinates(Fitted(frame), frame)

    def coordinates(self, fitted: Fitted, frame: pl.DataFrame, *, together: bool = False) -> Coordinates:
        """Return where new measurements stand."""
        return self._from_middle(fitted, fitted.coordinates_together(frame) if together else fitted.coordinates(frame))

    def partition(self, coordinates: Coordinates) -> Partition:
        """Return the blocks of rows that the density goes by."""
        return partition(coordinates, slopes=self.wanders)

    def covariance(self, scale: Mapping[str, Any], where: Coordinates) -> np.ndarray:
        """Return the covariance of rows without their own errors."""
        return np.asarray(covariance(scale, where, where, np))

    def simulate(
        self, scale: Mapping[str, Any], where: Coordinates, rng: np.random.Generator
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return a draw of the process at rows; a fit keeps nothing of it."""
        found = self.covariance(scale, where)
        found = found + 1e-10 * np.eye(len(found))  # which Cholesky needs
        return np.linalg.cholesky(found) @ rng.standard_normal(len(found)), {}

    def condition(
        self,
        scale: Mapping[str, np.ndarray],
        fitted: Fitted,
        asked: Coordinates,
        residuals: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    ) -> FittedResiduals:
        """Take up those of the fitted rows that share anything with what is asked."""
        scale = {name: scale[name] for name in self.names if name != "sigma"}

        def taken_up(part: int) -> ConditionedBlock:
            rows = np.flatnonzero(fitted.parts == part)
            of_part = {name: values[rows] for name, values in coordinates.items()}
            return ConditionedBlock(scale, *residuals(rows), best_grid(of_part, slopes=self.wanders), of_part)

        coordinates = self._from_middle(fitted, fitted.own_coordinates)
        near = [np.isin(coordinates[g], asked[g][asked[g] >= 0]) for g in ("suite", "model", CHECKPOINT)]
        parts = np.unique(fitted.parts[np.any(near, axis=0)]).tolist()
        return FittedResiduals(scale, [fitted.kept.block(part, partial(taken_up, part)) for part in parts])

    def _from_middle(self, fitted: Fitted, coordinates: Coordinates) -> Coordinates:
        """Return where measurements stand, their tokens over the middle of the fitted ones where slopes wander."""
        if not self.wanders:
            return coordinates
        return {**coordinates, "log_tokens": coordinates["log_tokens"] - fitted.own_coordinates["log_tokens"].mean()}
