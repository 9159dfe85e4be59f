"""Nested random effects: rows in checkpoints in models, and normal errors, the effects integrated out.

With errors of variance v_i and effects u ~ N(0, τ²) shared by the rows of a group, a group's residuals r have the
covariance diag(v) + τ²·11'. Its inverse and determinant need only S₀ = Σ 1/v_i and S₁ = Σ r_i/v_i (Woodbury):

    r'Σ⁻¹r = Σ r_i²/v_i − τ² S₁² / d        log|Σ| = Σ log v_i + log d        d = 1 + τ² S₀

and to the next level out the group looks like one observation with S₀/d and S₁/d in place of 1/v and r/v. So a hundred
effects cost no parameter of the sampler and no matrix, and NUTS sees none of their funnels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Protocol

import numpy as np
import polars as pl

from qidbayes.noise.coordinates import NEW, Fitted, checkpoints, distinct, models
from qidbayes.noise.kernels import Coordinates
from qidbayes.noise.own_error import NormalErrors
from qidbayes.table.groups import labels


class Grouped(Protocol):
    """A level of groups, with the sizes that its density needs."""

    @property
    def name(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def regular(self) -> bool: ...


@dataclass(frozen=True)
class RandomEffects(NormalErrors):
    """See `qidbayes.noise.model.NoiseModel`.

    Attributes
    ----------
    groups
        Which of ``checkpoint`` and ``model`` have effects, from the inside out.
    """

    groups: tuple[str, ...]
    by_draw = False

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its numbers."""
        return ("sigma", *(f"{group}_sd" for group in self.groups))

    @property
    def asked(self) -> tuple[str, ...]:
        """A question may name a model, whose effect is known if it was fitted."""
        return ("model",) if "model" in self.groups else ()

    def log_density(
        self, residual: Any, variance: Any, scale: Mapping[str, Any], where: Any, data: Mapping[str, Any], xp: Any
    ) -> Any:
        """Return the log density of rows, the effects integrated out."""
        levels = [(scale[f"{level.name}_sd"] ** 2, group_sum(level, data, xp)) for level in where.levels]
        return log_density(residual, variance, levels, xp.log)

    def rows(self, frame: pl.DataFrame) -> Coordinates:
        """Return the groups that fitted rows are of."""
        return {group: distinct(labels(frame, [group]).to_list()) for group in ("checkpoint", "model")}

    def coordinates(self, fitted: Fitted, frame: pl.DataFrame, *, together: bool = False) -> Coordinates:  # noqa: ARG002
        """Return the groups of new measurements: models with a known effect by its number, all else below 0."""
        known = {label: i for i, label in enumerate(fitted.models)}
        names, codes = models(frame), NEW - 1 - distinct(models(frame))
        model = np.array([known.get(name, code) for name, code in zip(names, codes, strict=True)], dtype=np.int64)
        return {"model": model, "checkpoint": NEW - 1 - distinct(checkpoints(frame))}

    def covariance(self, scale: Mapping[str, Any], where: Coordinates) -> np.ndarray:
        """Return the covariance of rows without their own errors."""
        found = np.zeros_like(_equal(where["model"], where["model"]))
        for group in self.groups:
            found += scale[f"{group}_sd"] ** 2 * _equal(where[group], where[group])
        return found

    def simulate(
        self, scale: Mapping[str, Any], where: Coordinates, rng: np.random.Generator
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return draws of the effects at rows, and those of the models."""
        found, kept = np.zeros(1), {}
        for group in self.groups:
            effect = scale[f"{group}_sd"] * rng.standard_normal(where[group].max() + 1)
            found = found + effect[where[group]]
            if group == "model":
                kept["model_effect"] = effect
        return found, kept

    def condition(
        self,
        scale: Mapping[str, np.ndarray],
        fitted: Fitted,  # noqa: ARG002
        asked: Coordinates,  # noqa: ARG002
        residuals: Any,  # noqa: ARG002
    ) -> "KnownEffects":
        """Return what is known of effects: those of the fitted models were drawn, all others are new."""
        return KnownEffects(self.groups, scale)


@dataclass(frozen=True)
class KnownEffects:
    """Effects of groups given the fit; see `qidbayes.noise.model.Conditioned`.

    Attributes
    ----------
    groups
        As in `RandomEffects`.
    scale
        The draws of each standard deviation, shape ``(draws,)``, and of the fitted models' effects, ``model_effect`` of
        shape ``(draws, models)``.
    """

    groups: tuple[str, ...]
    scale: Mapping[str, np.ndarray]

    def at(self, asked: Coordinates) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance of each measurement; shapes ``(draws, rows or 1)``."""
        variance = sum((self._variance(g)[:, None] for g in self.groups if g != "model"), np.zeros((1, 1)))
        if "model" in self.groups:
            variance = variance + np.where(asked["model"] >= 0, 0.0, self._variance("model")[:, None])
        return self._mean(asked["model"]), variance

    def blocks(self, asked: Coordinates, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and covariance of one block: which effects are shared is the same in every one."""
        rows = len(asked["model"]) // count
        found = np.zeros((1, rows, rows))
        for group in self.groups:
            codes = asked[group][:rows]
            found = found + self._variance(group)[:, None, None] * _shared(codes, codes)
        return self._mean(asked["model"][:rows])[:, None], found[:, None]

    def between(self, asked: Coordinates, one: Coordinates) -> np.ndarray:
        """Return the covariance with one measurement, the mean over the draws."""
        shared = (self._variance(g).mean() * _shared(asked[g], one[g])[:, 0] for g in self.groups)
        return sum(shared, np.zeros(1))

    def _mean(self, models: np.ndarray) -> np.ndarray:
        if "model" not in self.groups:
            return np.zeros((1, 1))
        return np.where(models >= 0, self.scale["model_effect"][:, np.maximum(models, 0)], 0.0)

    def _variance(self, group: str) -> np.ndarray:
        return np.square(self.scale[f"{group}_sd"])


def _shared(codes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return which measurements share an effect that is not known."""
    return _equal(codes, others) * (codes < 0)[:, None]


def _equal(codes: np.ndarray, others: np.ndarray) -> np.ndarray:
    return np.asarray(codes[:, None] == others[None, :], dtype=float)


def group_sum(level: Grouped, data: Mapping[str, Any], xp: Any) -> Callable[[Any], Any]:
    """Return what sums an array over the members of each group; `data` has each member's group unless it is regular."""
    if level.regular:  # a reshape instead of a scatter: the gradient costs a fifth
        return lambda values: values.reshape((level.size, -1)).sum(axis=1)
    parent = data[f"{level.name}_parent"]
    if xp is np:
        return lambda values: np.bincount(parent, values, level.size)
    return lambda values: xp.inc_subtensor(xp.zeros(level.size, dtype="float64")[parent], values)


@dataclass(frozen=True)
class Level:
    """One level of groups: what its effects are called, each member's group, and how many groups there are."""

    name: str
    parent: np.ndarray
    size: int

    @cached_property
    def regular(self) -> bool:
        """Whether the members stand group by group, equally many in each, so that sums need no index."""
        return np.array_equal(self.parent, np.repeat(np.arange(self.size), max(1, len(self.parent) // self.size)))


def log_density(
    residual: Any, variance: Any, levels: Sequence[tuple[Any, Callable[[Any], Any]]], log: Callable[[Any], Any]
) -> Any:
    """Return the log density of the residuals, every shared effect integrated out.

    Parameters
    ----------
    residual, variance
        Shape ``(rows,)``: what the law leaves over, and each row's own error variance.
    levels
        From the inside out: the effects' variance, and a function that sums an array over each group's members.
    log
        The logarithm of the array library in use.
    """
    s0, s1 = 1.0 / variance, residual / variance
    square = (residual * s1).sum()
    log_determinant = log(variance).sum()
    for effect_variance, over_groups in levels:
        s0, s1 = over_groups(s0), over_groups(s1)
        d = 1.0 + effect_variance * s0
        square = square - (effect_variance * s1**2 / d).sum()
        log_determinant = log_determinant + log(d).sum()
        s0, s1 = s0 / d, s1 / d
    return -0.5 * (square + log_determinant + residual.shape[0] * np.log(2.0 * np.pi))


@dataclass(frozen=True)
class Shared:
    """The effects of one level while they are drawn.

    Attributes
    ----------
    variance
        Of the effects.
    over_groups
        Sums an array over each group's members.
    parent
        Each member's group.
    normal
        Standard normals to draw the effects from; shape ``(…, groups)``.
    """

    variance: Any
    over_groups: Callable[[Any], Any]
    parent: Any
    normal: Any


def effects(residual: Any, variance: Any, levels: Sequence[Shared], sqrt: Callable[[Any], Any]) -> list[Any]:
    """Draw the shared effects given everything else, from the standard normals of each level.

    Parameters
    ----------
    residual, variance
        Shape ``(…, rows)``.
    levels
        From the inside out.
    sqrt
        The square root of the array library in use.

    Returns
    -------
    list
        The effects of each level, shape ``(…, groups)``, and last their sum for each row.
    """
    s0, s1 = 1.0 / variance, residual / variance
    sums = []
    for level in levels:
        s0, s1 = level.over_groups(s0), level.over_groups(s1)
        d = 1.0 + level.variance * s0
        sums.append((s0, s1, d))
        s0, s1 = s0 / d, s1 / d
    found: list[Any] = []
    outer: Any = 0.0  # what the members have from the levels around them
    for level, (s0, s1, d) in zip(reversed(levels), reversed(sums), strict=True):
        found.insert(0, level.variance * (s1 - s0 * outer) / d + sqrt(level.variance / d) * level.normal)
        outer = (found[0] + outer)[..., level.parent]
    return [*found, outer]


def sample_effects(
    residual: np.ndarray,
    variance: np.ndarray,
    levels: Sequence[Level],
    effect_variance: Mapping[str, np.ndarray],
    normal: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Draw the shared effects given everything else, one set for each posterior draw.

    Parameters
    ----------
    residual, variance
        Shape ``(draws, rows)``.
    levels
        From the inside out.
    effect_variance
        For each level's name, shape ``(draws,)``.
    normal
        For each level's name, standard normals, shape ``(draws, groups)``.

    Returns
    -------
    dict
        For each level's name, shape ``(draws, groups)``.
    """
    shared = [
        Shared(effect_variance[level.name][:, None], partial(_sum, level=level), level.parent, normal[level.name])
        for level in levels
    ]
    return dict(zip((level.name for level in levels), effects(residual, variance, shared, np.sqrt), strict=False))


def _sum(values: np.ndarray, level: Level) -> np.ndarray:
    order = np.argsort(level.parent, kind="stable")
    first = np.searchsorted(level.parent[order], np.arange(level.size))
    return np.add.reduceat(values[..., order], first, axis=-1)
