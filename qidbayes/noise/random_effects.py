"""Normal errors with nested shared effects: rows in checkpoints in models, the effects integrated out.

With errors of variance v_i and effects u ~ N(0, τ²) shared by the rows of a group, a group's residuals r have the
covariance diag(v) + τ²·11'. Its inverse and determinant need only S₀ = Σ 1/v_i and S₁ = Σ r_i/v_i (Woodbury):

    r'Σ⁻¹r = Σ r_i²/v_i − τ² S₁² / d        log|Σ| = Σ log v_i + log d        d = 1 + τ² S₀

and to the next level out the group looks like one observation with S₀/d and S₁/d in place of 1/v and r/v. So a hundred
effects cost no parameter of the sampler and no matrix, and NUTS sees none of their funnels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np


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
