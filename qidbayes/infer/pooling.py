"""Partially pooled parameters: their groups scatter around the value of a population.

On the real line (the logarithm for a LogNormal prior) the groups' values are z_g ~ N(μ, τ²); the population's μ has the
declared prior, and log τ ~ N(log spread, 0.7²), which keeps τ within a factor of three or so of the declared spread and
away from 0, where two to six groups could not hold it.

Sampling z_g itself (centred) suits groups that their rows know well, sampling (z_g − μ)/τ (non-centred) those they do
not; between the two lies a line, and each group gets its own point c_g on it (Papaspiliopoulos, Roberts and Sköld
2003):

    x_g ~ N(c_g μ, τ^(2 c_g))        z_g = μ + τ^(1 − c_g) (x_g − c_g μ)

with τ in units of the spread. See `centring` for how c_g follows from the rows.

Groups that their rows know well leave μ within τ/√groups of their mean: a funnel, and with one group nothing but the
priors says how wide. So μ too is sampled as steps u ~ N(0, 1), from where the x_g put it. With μ ~ N(m, s²), σ_g the
standard deviation of x_g above, w_g = c_g s / σ_g and r_g = (x_g − c_g m) / σ_g,

    μ = m + s (Σ w_g r_g / (1 + Σ w_g²) + u / √(1 + Σ w_g²))

and the x_g, of which μ is integrated out, have (Σ w_g r_g)² / (1 + Σ w_g²) / 2 − log(1 + Σ w_g²) / 2 more log density
than independent groups around c_g m.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from qidbayes.infer.problem import Problem
from qidbayes.law.law import Law
from qidbayes.law.prior import Prior


def offset_name(sampled_name: str) -> str:
    """Return what the sampler's variable for a pooled parameter's groups, or its population, is called: x, or u."""
    return f"{sampled_name}_offset"


def offset_scale(sd: Any, spread: float, centring: Any) -> Any:
    """Return σ of every group, in the last dimension; the others are those of `sd`."""
    return spread * (sd[..., None] / spread) ** centring


def told(offset: Any, sd: Any, prior: Prior, centring: Any) -> tuple[Any, Any]:
    """Return 1 + Σ w² and Σ w r: what the groups' x say of their population."""
    assert prior.spread is not None
    of_population, scale = dict(prior.arguments), offset_scale(sd, prior.spread, centring)
    weight = centring * of_population["sigma"] / scale
    return 1.0 + (weight**2).sum(axis=-1), (weight * (offset - centring * of_population["mu"]) / scale).sum(axis=-1)


def population_and_groups(step: Any, sd: Any, offset: Any, prior: Prior, centring: Any) -> tuple[Any, Any]:
    """Return μ and, in the last dimension, z of every group; the others are those of `step` and `sd`."""
    assert prior.spread is not None
    of_population, (precision, sum_) = dict(prior.arguments), told(offset, sd, prior, centring)
    population = of_population["mu"] + of_population["sigma"] * (sum_ / precision + step / precision**0.5)
    beyond = offset - centring * population[..., None]
    return population, population[..., None] + (sd[..., None] / prior.spread) ** (1.0 - centring) * beyond


def groups_and_populations(
    law: Law, unconstrained: Mapping[str, np.ndarray], centring: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return the draws with the offsets turned into the populations' and the groups' values.

    Parameters
    ----------
    law
        The law.
    unconstrained
        The sampler's variables on the real line; shape ``(chains, draws)`` or ``(chains, draws, groups)``.
    centring
        As from `centring`.
    """
    found = dict(unconstrained)
    for name, prior in law.priors.items():
        if prior.spread is not None:
            sampled, population = law.sampled_name(name), law.population_name(name)
            sd = np.exp(found[law.spread_name(name)])
            found[population], found[sampled] = population_and_groups(
                found.pop(offset_name(population)), sd, found.pop(offset_name(sampled)), prior, centring[name]
            )
    return found


def centring(problem: Problem) -> dict[str, np.ndarray]:
    """Return c_g for each group of each pooled parameter, from what its rows say of it.

    If rows know z_g with variance v_g when all else is given, and groups are expected to differ by the variance
    spread², then c_g = spread² / (spread² + v_g): 1 is centred, 0 non-centred. The law is linearised in the middle of
    its priors, and the rows' variance is what ridge regression leaves over, a tenth of the noise's scale at least.
    """
    priors = problem.rows.law.priors
    if not any(prior.pooled for prior in priors.values()):
        return {}
    middle = problem.start()
    effects = problem.slopes(middle)
    left = problem.rows.log_response - problem.log_mean(middle)
    ridge = 1e-3 * np.eye(len(middle))
    left = left - effects @ np.linalg.solve(effects.T @ effects + ridge, effects.T @ left)
    error = np.square(left).mean() + (0.1 * problem.rows.law.noise.scale) ** 2
    known = np.square(effects).sum(axis=0) / error
    return {
        name: 1.0 - 1.0 / (1.0 + prior.spread**2 * known[problem.columns[name]])
        for name, prior in priors.items()
        if prior.spread is not None
    }
