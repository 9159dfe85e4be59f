"""A mixture of Student's t distributions that follows a density of some ten numbers, for chains to propose from.

First the mode and the curvature there (Laplace's approximation), then rounds of importance sampling: each round's draws
are weighed against all proposals so far, and the mixture is fitted to them anew (Cornuet, Marin, Mira and Robert 2012).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

type Density = Callable[[np.ndarray], np.ndarray]
"""Takes points, ``(points, numbers)``; returns their log density, ``(points,)``."""

_FREEDOM = 5.0
"""Of t: heavier in its tails than a posterior with the priors of this package."""
_LOOKS = 32
"""Points among which the search for the mode begins."""
_ENOUGH = 0.4
"""The efficiency at which the rounds end."""
_STICKY = 30.0
"""The largest weight over the mean weight, at most: about as many transitions a chain stays there."""
_MOST = 1_500
"""Draws for each number, beyond which there are no more rounds."""
_LEAST = 8.0
"""Effective points for each number that a mixture is fitted to, if need be by weights to a power below 1."""
_ROUND = 25
"""Draws of the first rounds for each number."""
_COMPONENTS = 8
"""At most; one for each five effective points of each number."""
_STEPS = 20
"""Of expectation and maximisation."""
_WIDE = 0.1
"""The share of draws from t's that are each as the whole, but along one number as wide as the prior: what the rows say
little of may have a long tail, such as that of a standard deviation towards 0, where the components have few points."""
_PRIOR = 0.05
"""The share of draws from a t as wide as the prior, so that no weight is without bounds."""


@dataclass(frozen=True)
class Mixture:
    """A mixture of t distributions.

    Attributes
    ----------
    weights, means, roots
        Of each component; shapes ``(components,)``, ``(components, numbers)`` and, lower triangular, ``(components,
        numbers, numbers)``.
    """

    weights: np.ndarray
    means: np.ndarray
    roots: np.ndarray

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Return draws; shape ``(count, numbers)``."""
        which = rng.choice(len(self.weights), size=count, p=self.weights)
        normal = rng.standard_normal((count, self.means.shape[1]))
        scale = np.sqrt(_FREEDOM / rng.chisquare(_FREEDOM, count))[:, None]
        return np.asarray(self.means[which] + scale * np.einsum("nij,nj->ni", self.roots[which], normal))

    def log_density(self, points: np.ndarray) -> np.ndarray:
        """Return the log density at points up to a constant; shape ``(points,)``."""
        return np.asarray(np.logaddexp.reduce(self._of_components(points), axis=1))

    def _of_components(self, points: np.ndarray) -> np.ndarray:
        found = np.empty((len(points), len(self.weights)))
        size = points.shape[1]
        for k, (weight, mean, root) in enumerate(zip(self.weights, self.means, self.roots, strict=True)):
            square = np.square(np.linalg.solve(root, (points - mean).T)).sum(axis=0)
            found[:, k] = np.log(weight) - np.log(np.diag(root)).sum()
            found[:, k] -= 0.5 * (_FREEDOM + size) * np.log1p(square / _FREEDOM)
        return found


@dataclass(frozen=True)
class Proposal:
    """What chains propose from.

    Attributes
    ----------
    mixture
        The mixture.
    efficiency
        The effective share of the last round's draws, by their weights: 1 if the mixture is the density itself.
    points, values
        All draws so far and their log density; shapes ``(draws, numbers)`` and ``(draws,)``.
    rounds
        The mixtures that they are of, and how many are of each.
    """

    mixture: Mixture
    efficiency: float
    points: np.ndarray
    values: np.ndarray
    rounds: tuple[tuple[Mixture, int], ...]

    def longest(self, drawn: np.ndarray, values: np.ndarray) -> float:
        """Return about how many transitions a chain stays where it stays longest, of the mixture's draws."""
        return _largest(values - self.mixture.log_density(drawn))

    def refitted(self, drawn: np.ndarray, values: np.ndarray, rng: np.random.Generator) -> "Proposal":
        """Return a mixture that is fitted to further draws of this one too."""
        points, all_ = np.concatenate([self.points, drawn]), np.concatenate([self.values, values])
        rounds = (*self.rounds, (self.mixture, len(drawn)))
        proposed = np.logaddexp.reduce([np.log(n) + one.log_density(points) for one, n in rounds], axis=0)
        mixture = _fitted(points, _tempered(all_ - proposed, _LEAST * points.shape[1]), rng)
        return Proposal(mixture, self.efficiency, points, all_, rounds)


def proposal(density: Density, size: int, rng: np.random.Generator, last: int = 100) -> Proposal:
    """Return a mixture that follows a density.

    Parameters
    ----------
    density
        The density of so many numbers, whose prior is the standard normal distribution.
    size
        How many numbers.
    rng
        Draws the points.
    last
        Draws of the last round for each number; the more, the closer the mixture.
    """
    looks = np.concatenate([np.zeros((1, size)), rng.standard_normal((_LOOKS - 1, size))])
    mode, covariance = _laplace(density, looks[np.argmax(density(looks))])
    mixtures, counts = [_with_wide(np.ones(1), mode[None], covariance[None], (mode, covariance))], [_ROUND * size]
    points, values, proposed = np.empty((0, size)), np.empty(0), np.empty(0)
    while True:
        newest, count = mixtures[-1], counts[-1]
        drawn = newest.draw(count, rng)
        found = density(drawn)
        weights = found - newest.log_density(drawn)
        efficiency = _effective(weights) / count
        done = efficiency > _ENOUGH and _largest(weights) < _STICKY and count == last * size
        if done or len(values) > _MOST * size:
            drawn, found = np.concatenate([points, drawn]), np.concatenate([values, found])
            return Proposal(newest, efficiency, drawn, found, tuple(zip(mixtures, counts, strict=True)))
        # Each point is weighed against all that it might have been drawn from.
        proposed = np.logaddexp(proposed, np.log(count) + newest.log_density(points))
        each = [np.log(n) + one.log_density(drawn) for n, one in zip(counts, mixtures, strict=True)]
        proposed = np.concatenate([proposed, np.logaddexp.reduce(each, axis=0)])
        points, values = np.concatenate([points, drawn]), np.concatenate([values, found])
        mixtures.append(_fitted(points, _tempered(values - proposed, _LEAST * size), rng))
        counts.append(min(2 * count, last * size) if efficiency > _ENOUGH else count)


def _laplace(density: Density, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mode near a start, and the inverse of the curvature there."""
    from scipy.optimize import minimize

    size = len(start)
    steps = 1e-4 * np.eye(size)

    def with_slope(step: np.ndarray) -> tuple[float, np.ndarray]:
        values = -density(start + (step + np.concatenate([np.zeros((1, size)), steps])))
        values = np.minimum(values, 1e10)  # where there is no density
        return float(values[0]), (values[1:] - values[0]) / 1e-4

    found = minimize(with_slope, np.zeros(size), jac=True, method="BFGS", options={"gtol": 0.05, "maxiter": 60})
    mode = start + found.x
    width = np.sqrt(np.clip(np.diag(found.hess_inv), 1e-6, 1.0))
    pairs = np.stack(np.triu_indices(size, 1), axis=1)
    ends = width * np.eye(size)
    points = [mode[None], mode + ends, mode - ends, mode + ends[pairs[:, 0]] + ends[pairs[:, 1]]]
    values = density(np.concatenate(points))
    values = np.maximum(values, values[0] - 50.0)
    above, below = values[1 : size + 1], values[size + 1 : 2 * size + 1]
    curvature = np.diag(2.0 * values[0] - above - below)
    cross = values[0] - values[2 * size + 1 :] + above[pairs[:, 0]] + above[pairs[:, 1]] - 2.0 * values[0]
    curvature[pairs[:, 0], pairs[:, 1]] = curvature[pairs[:, 1], pairs[:, 0]] = cross
    strength, directions = np.linalg.eigh(curvature)
    # No wider than the prior, whose standard deviations are 1 / width here.
    inverse = directions / np.maximum(strength, np.square(width).min()) @ directions.T
    return mode, np.asarray(width[:, None] * inverse * width[None, :])


def _fitted(points: np.ndarray, weights: np.ndarray, rng: np.random.Generator) -> Mixture:
    """Return the mixture of normals that weighted points are likeliest under, as t distributions."""
    mean = weights @ points
    whole = (weights[:, None] * (points - mean)).T @ (points - mean)
    whole += 1e-10 * np.diag(np.diag(whole))
    size = points.shape[1]
    effective = _effective(np.log(np.maximum(weights, 1e-300)))
    count = int(np.clip(effective / (5.0 * size), 1, _COMPONENTS))
    means = points[rng.choice(len(points), count, p=weights)]
    covariances = np.repeat(whole[None], count, axis=0)
    shares = np.full(count, 1.0 / count)
    # A component is as the whole as far as few points tell otherwise.
    prior = 2.0 * size / effective
    for _ in range(_STEPS):
        each = Mixture(shares, means, np.linalg.cholesky(covariances))._of_components(points)
        of = weights[:, None] * np.exp(each - np.logaddexp.reduce(each, axis=1, keepdims=True))
        total = of.sum(axis=0)
        shares = np.maximum(total, 1e-3) / np.maximum(total, 1e-3).sum()
        means = (of.T @ points + 1e-3 * mean) / (total + 1e-3)[:, None]
        apart = points[None] - means[:, None]
        scatter = np.einsum("nk,kni,knj->kij", of, apart, apart)
        covariances = (scatter + prior * whole) / (total + prior)[:, None, None]
    return _with_wide(shares, means, covariances, (mean, whole))


def _with_wide(
    weights: np.ndarray, means: np.ndarray, covariances: np.ndarray, whole: tuple[np.ndarray, np.ndarray]
) -> Mixture:
    """Return the mixture with a t for each number that is as wide as the prior along it, and one as the prior."""
    mean, covariance = whole
    size = len(mean)
    variance = np.diag(covariance)
    slopes = (covariance / variance).T  # of all numbers along each, shape (numbers, numbers)
    more = np.maximum(1.0 - variance, 0.0)
    along = covariance + more[:, None, None] * slopes[:, :, None] * slopes[:, None, :]
    return Mixture(
        np.concatenate([(1.0 - _WIDE - _PRIOR) * weights, np.full(size, _WIDE / size), [_PRIOR]]),
        np.concatenate([means, np.tile(mean, (size, 1)), np.zeros((1, size))]),
        np.linalg.cholesky(np.concatenate([covariances, along, np.eye(size)[None]])),
    )


def _normalized(log_weights: np.ndarray) -> np.ndarray:
    weights = np.exp(log_weights - log_weights.max())
    return np.asarray(weights / weights.sum())


def _tempered(log_weights: np.ndarray, least: float) -> np.ndarray:
    """Return normalized weights, to the largest power up to 1 that leaves so many effective points."""
    low, high = 0.0, 1.0
    if _effective(log_weights) >= least or len(log_weights) <= least:
        return _normalized(log_weights)
    log_weights = np.maximum(log_weights, log_weights.max() - 1e6)
    for _ in range(30):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if _effective(middle * log_weights) >= least else (low, middle)
    return _normalized(low * log_weights)


def _largest(log_weights: np.ndarray) -> float:
    """Return the largest weight over the mean weight."""
    return float(np.exp(log_weights.max() - np.logaddexp.reduce(log_weights)) * len(log_weights))


def _effective(log_weights: np.ndarray) -> float:
    """Return the effective number of weighted points (Kish)."""
    weights = _normalized(log_weights)
    return float(1.0 / np.square(weights).sum())
