"""A law with a discrepancy after its linear constants are integrated out: what is left is some ten numbers.

On the real line (logarithms of what is LogNormal) the logarithm of most laws is linear in all or some of their
constants z, whose priors are normal there: log response = f(θ) + H·z + what scatters, z ~ N(m, S), S diagonal. Given
the other numbers, θ and those of the noise, whose covariance is C, the rows are normal with mean f(θ) + H·m and
covariance C + H·S·H', and z given the rows is normal too (Lindley and Smith 1972). With L = S^½, G = H'C⁻¹H,
r = y − f − H·m and b = H'C⁻¹r,

    log p(y | θ) = −½ [ r'C⁻¹r + log |C| − b'L M⁻¹ L b + log |M| + n log 2π ]      M = 1 + L G L = R·R'
    z | y, θ = m + L R'⁻¹ (R⁻¹ L b + ξ)                                            ξ ~ N(0, 1)

Of a constant that is partially pooled, z are the population's value and how far each group is from it; of its numbers
only the groups' standard deviation is left.
"""

from dataclasses import dataclass

import numpy as np

from qidbayes.infer.inputs import Inputs
from qidbayes.infer.problem import Problem
from qidbayes.law.prior import SPREAD_LOG_SD, Prior
from qidbayes.noise.grid import Partition
from qidbayes.noise.model import Integrable

MOST = 20
"""Numbers that may be left: beyond some twenty a proposal for all of them at once is hardly ever taken."""
CONSTANTS = 8
"""Draws of the constants at each point, for as many repetitions of it in a chain."""
_LINEAR = ("Normal", "LogNormal")


@dataclass(frozen=True)
class Left:
    """A variable that is left: its name in a fit, its prior, and where its numbers are."""

    name: str
    prior: Prior
    where: slice


class Collapsed:
    """The posterior of a law on its rows, the linear constants integrated out.

    Attributes
    ----------
    left
        What is left.
    dimension
        How many numbers that are.
    cost, memory
        Roughly, the operations of one density, and the bytes.
    """

    def __init__(self, rows: Inputs) -> None:
        noise, law = rows.noise, rows.law
        assert isinstance(noise, Integrable)
        self._law, self._problem, self._response = law, Problem(rows), rows.log_response
        where = rows.partition
        assert isinstance(where, Partition)
        self._gram = noise.gram(where, rows.coordinates, rows.variance)
        self.cost, self.memory = self._gram.cost, self._gram.memory
        problem = self._problem
        self._linear = [n for n, prior in law.priors.items() if prior.family in _LINEAR and problem.is_linear(n)]
        self._rest = [name for name in law.priors if name not in self._linear]
        self._noise = tuple(rows.errors)
        widths = {law.sampled_name(name): size for name, size in zip(law.priors, problem.sizes, strict=True)}
        priors = {law.sampled_name(name): law.priors[name] for name in self._rest}
        priors |= {law.spread_name(n): _of_spread(law.priors[n]) for n in self._linear if law.priors[n].pooled}
        self.left: list[Left] = []
        self.dimension = 0
        for name, prior in (priors | dict(rows.errors)).items():
            self.left.append(Left(name, prior, slice(self.dimension, self.dimension + widths.get(name, 1))))
            self.dimension = self.left[-1].where.stop
        self.possible = self.dimension <= MOST and not any(law.priors[name].pooled for name in self._rest)
        """Whether few enough are left, and none that is partially pooled."""
        columns, mean, sd = [np.empty((len(self._response), 0))], [0.0] * 0, [0.0] * 0
        self._spreads: list[tuple[str, slice]] = []
        for name in self._linear:
            prior, of_groups = law.priors[name], problem.effects[problem.columns[name]].T
            given, size = dict(prior.arguments), of_groups.shape[1]
            if prior.pooled:
                self._spreads.append((law.spread_name(name), slice(len(sd) + 1, len(sd) + 1 + size)))
                columns.append(of_groups.sum(axis=1, keepdims=True))
            columns.append(of_groups)
            mean += [given["mu"], *[0.0] * size] if prior.pooled else [given["mu"]] * size
            sd += [given["sigma"], *[1.0] * size] if prior.pooled else [given["sigma"]] * size
        self._effects, self._mean, self._sd = np.concatenate(columns, axis=1), np.array(mean), np.array(sd)
        self._at_mean = self._effects @ self._mean

    def __call__(self, points: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return the log density at points, and draws of the constants given each.

        Parameters
        ----------
        points
            Numbers that are standard normal by their priors (`Prior.from_normal`), so that no tail of the posterior is
            heavier than theirs; shape ``(points, dimension)``.
        rng
            Draws the constants.

        Returns
        -------
        tuple
            Shapes ``(points,)`` and ``(points, CONSTANTS, constants)``. Where a covariance has no factor, or the law no
            value, the density is 0.
        """
        with np.errstate(all="ignore"):  # far out a number overflows
            values = {one.name: one.prior.from_normal(points[:, one.where]) for one in self.left}
            noise = {name: values[name][:, 0] for name in self._noise}
            residual = self._response - self._at_mean - self._without_constants(values)
            effects = np.broadcast_to(self._effects, (len(residual), *self._effects.shape))
            products, found = self._gram(np.concatenate([residual[..., None], effects], axis=2), noise)
            sd = np.tile(self._sd, (len(points), 1))
            for name, where in self._spreads:
                sd[:, where] = values[name]
            products = np.nan_to_num(products, nan=0.0, posinf=0.0, neginf=0.0)
            found += products[:, 0, 0] + len(self._response) * np.log(2.0 * np.pi)
            inner = sd[:, :, None] * products[:, 1:, 1:] * sd[:, None, :]
            np.einsum("pii->pi", inner)[...] += 1.0
            root = factors(inner)
            reduced = np.linalg.solve(root, (sd * products[:, 1:, 0])[..., None])
            found += 2.0 * np.log(np.einsum("pii->pi", root)).sum(axis=1) - np.square(reduced).sum(axis=(1, 2))
            found = -0.5 * found
            found -= 0.5 * np.square(points).sum(axis=1) + 0.5 * self.dimension * np.log(2.0 * np.pi)
            normal = rng.standard_normal((len(points), len(self._sd), CONSTANTS))
            constants = np.linalg.solve(root.mT, reduced + normal).swapaxes(1, 2) * sd[:, None] + self._mean
        return np.where(np.isfinite(found), found, -np.inf), constants

    def _without_constants(self, values: dict[str, np.ndarray]) -> np.ndarray:
        """Return the law's logarithm with the linear constants at 0; shape ``(points or 1, rows)``."""
        given = {name: values[self._law.sampled_name(name)] for name in self._rest}
        x = np.zeros((max((len(v) for v in given.values()), default=1), sum(self._problem.sizes)))
        for name, numbers in given.items():
            x[:, self._problem.columns[name]] = self._law.priors[name].unconstrain(numbers)
        return self._problem.log_means(x)

    def unconstrained(self, points: np.ndarray, constants: np.ndarray) -> dict[str, np.ndarray]:
        """Return all that a fit keeps, on the real line, as `qidbayes.infer.draws.Draws` has it.

        Parameters
        ----------
        points, constants
            Shape ``(chains, draws, …)``.
        """
        law = self._law
        grouped = {law.sampled_name(name) for name, prior in law.priors.items() if prior.by}
        left = {one.name: one.prior.unconstrain(one.prior.from_normal(points[..., one.where])) for one in self.left}
        left = {n: v if n in grouped else v[..., 0] for n, v in left.items()}
        found: dict[str, np.ndarray] = {}
        pooled: dict[str, np.ndarray] = {}
        start = 0
        for (name, prior), size in zip(law.priors.items(), self._problem.sizes, strict=True):
            sampled = law.sampled_name(name)
            if name not in self._linear:
                found[sampled] = left[sampled]
                continue
            values = constants[..., start : start + size + prior.pooled]
            start += int(size + prior.pooled)
            if prior.pooled:
                found[law.spread_name(name)] = left[law.spread_name(name)]
                pooled[law.population_name(name)] = values[..., 0]
                pooled[sampled] = values[..., :1] + values[..., 1:]
            else:
                found[sampled] = values if prior.by else values[..., 0]
        return {**found, **{one.name: left[one.name] for one in self.left if one.name not in found}, **pooled}


def factors(matrices: np.ndarray) -> np.ndarray:
    """Return the Cholesky factors of a stack of matrices; NaN where one is not positive definite to rounding.

    Examples
    --------
    >>> factors(np.array([[[4.0]], [[-1.0]]])).ravel().tolist()
    [2.0, nan]
    """
    try:
        return np.linalg.cholesky(matrices)
    except np.linalg.LinAlgError:
        if len(matrices) == 1:
            return np.full(matrices.shape, np.nan)
        half = len(matrices) // 2
        return np.concatenate([factors(matrices[:half]), factors(matrices[half:])])


def _of_spread(prior: Prior) -> Prior:
    assert prior.spread is not None
    return Prior("LogNormal", mu=np.log(prior.spread), sigma=SPREAD_LOG_SD)


def collapsed(rows: Inputs) -> Collapsed | None:
    """Return the posterior without the linear constants; None if it cannot be had, or too much would be left."""
    if not isinstance(rows.noise, Integrable) or rows.latent or rows.power_prior:
        return None
    found = Collapsed(rows)
    return found if found.possible else None
