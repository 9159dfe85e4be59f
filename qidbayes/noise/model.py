"""What a noise model is: how measurements scatter around the logarithm of a law, given its numbers by name.

There are three: effects shared by the rows of a checkpoint and of a model (`RandomEffects`), a Gaussian process of what
the equation misses (`GaussianProcess`), and independent errors with heavy tails (`StudentT`). The PyMC model, the
answers of a fit, calibration by simulation and leave-one-out know this protocol alone.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import polars as pl

from qidbayes.law.law import DATA, Law
from qidbayes.noise.coordinates import Fitted
from qidbayes.noise.families import Families
from qidbayes.noise.gaussian_process import GaussianProcess
from qidbayes.noise.gram import Gram
from qidbayes.noise.grid import Partition, Shape
from qidbayes.noise.kernels import Coordinates
from qidbayes.noise.random_effects import Grouped, RandomEffects
from qidbayes.noise.student_t import StudentT

type Residuals = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Takes numbers of fitted rows; returns what the law leaves over of their log response given each draw, shape ``(draws,
rows)``, and the variance of their own error, which broadcasts with it."""


class Structure(Protocol):
    """What the density of the rows goes by beside their numbers."""

    @property
    def levels(self) -> Sequence[Grouped]:
        """The groups of rows that share an effect, from the inside out."""

    @property
    def blocks(self) -> Sequence[Shape] | None:
        """The shapes of the blocks that a Gaussian process goes by."""


class Conditioned(Protocol):
    """What the fitted rows say of new measurements, without these measurements' own errors."""

    def at(self, asked: Coordinates) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance of each measurement given each draw; shapes ``(draws, rows or 1)``."""

    def blocks(self, asked: Coordinates, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and covariance of so many blocks of equally many measurements, which follow each other.

        Shapes ``(draws, blocks or 1, rows)`` and ``(draws, blocks or 1, rows, rows)``.
        """

    def between(self, asked: Coordinates, one: Coordinates) -> np.ndarray:
        """Return the covariance with one measurement, the mean over the draws; broadcasts with ``(rows,)``."""


class NoiseModel(Protocol):
    """How measurements scatter around the logarithm of a law.

    Attributes
    ----------
    groups
        Which of models and checkpoints have effects of their own.
    names
        Its numbers, such as standard deviations, by their names in a fit.
    asked
        The columns that a question may name beside what the law needs.
    by_draw
        Whether each draw takes a matrix of the fitted rows, so that few draws answer.
    is_normal
        Whether the rows are jointly normal given its numbers.
    """

    @property
    def groups(self) -> tuple[str, ...]: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def asked(self) -> tuple[str, ...]: ...
    @property
    def by_draw(self) -> bool: ...
    @property
    def is_normal(self) -> bool: ...

    def log_density(
        self,
        residual: Any,
        variance: Any,
        scale: Mapping[str, Any],
        where: Structure,
        data: Mapping[str, Any],
        xp: Any,
    ) -> Any:
        """Return the log density of all rows, in any array library.

        Parameters
        ----------
        residual, variance
            Shape ``(rows,)``: what the law leaves over, and the variance of each row's own error.
        scale
            The numbers by name.
        where, data
            What the density goes by: its structure, and its arrays by name.
        xp
            The array library: NumPy or PyTensor.
        """

    def rows(self, frame: pl.DataFrame) -> Coordinates:
        """Return where fitted rows stand."""

    def coordinates(self, fitted: Fitted, frame: pl.DataFrame, *, together: bool = False) -> Coordinates:
        """Return where new measurements stand beside the fitted rows; new groups are told apart if `together`."""

    def covariance(self, scale: Mapping[str, Any], where: Coordinates) -> np.ndarray:
        """Return the covariance of rows less sigma² of each row's own error; shape ``(rows, rows)``."""

    def simulate(
        self, scale: Mapping[str, Any], where: Coordinates, rng: np.random.Generator
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return what rows share, shape ``(rows,)``, and the effects in it that a fit keeps, by name."""

    def condition(
        self, scale: Mapping[str, np.ndarray], fitted: Fitted, asked: Coordinates, residuals: Residuals
    ) -> Conditioned:
        """Return what the fitted rows say of measurements, given draws of the numbers and of kept effects."""

    def own_errors(
        self, scale: Mapping[str, Any], where: Coordinates, count: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Return a draw of so many rows' own errors, given the numbers and the kept effects."""

    def own_variance(self, variance: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return sigma² as it is, or draws of a variance such that a normal of it has this model's own error."""

    def mean_own_variance(self, variance: np.ndarray) -> np.ndarray:
        """Return the variance of an own error, given sigma²."""


@runtime_checkable
class Integrable(Protocol):
    """A noise model whose covariance can be had for many draws at once, so that constants can be integrated out."""

    def gram(self, where: Partition, coordinates: Coordinates, variance: np.ndarray) -> Gram:
        """Return the inner products over rows in these blocks, given the variance of their errors beside sigma²."""


def noise_model(law: Law, groups: Collection[str]) -> NoiseModel:
    """Return a law's noise model.

    Parameters
    ----------
    law
        Its noise declares which.
    groups
        Those of the declared groups, ``model`` and ``checkpoint``, of which the fitted rows have several in one.
    """
    if law.noise.discrepancy == "families":
        reference = {c: value for c, value in law.reference.items() if value != DATA}
        return Families(tuple((c, float(np.log(value))) for c, value in reference.items()))
    if law.noise.discrepancy in ("smooth", "walk"):
        shared = tuple(g for g in ("model", "checkpoint") if g in groups)
        return GaussianProcess(shared, law.response != "loss_16bit", law.noise.discrepancy == "walk")
    if law.noise.family == "student_t":
        return StudentT()
    return RandomEffects(tuple(g for g in ("checkpoint", "model") if g in groups))
