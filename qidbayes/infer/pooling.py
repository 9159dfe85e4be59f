"""Partially pooled parameters: their groups scatter around the value of a population.

On the real line (the logarithm for a LogNormal prior) the groups' values are z_g ~ N(μ, τ²); the population's μ has the
declared prior, and log τ ~ N(log spread, 0.7²), which keeps τ within a factor of three or so of the declared spread and
away from 0, where two to six groups could not hold it.

Sampling z_g itself (centred) suits groups that their rows know well, sampling (z_g − μ)/τ (non-centred) those they do
not; between the two lies a line, and each group gets its own place c_g on it (Papaspiliopoulos, Roberts and Sköld
2003):

    x_g ~ N(c_g μ, τ^(2 c_g))        z_g = μ + τ^(1 − c_g) (x_g − c_g μ)

with τ in units of the spread. See `centring` for how c_g follows from the rows.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from qidbayes.law.law import Law

if TYPE_CHECKING:
    from qidbayes.infer.problem import Problem


def offset_name(sampled_name: str) -> str:
    """Return what the sampler's variable for the groups of a pooled parameter is called: x."""
    return f"{sampled_name}_offset"


def group_values(offset: Any, population: Any, sd: Any, spread: float, centring: Any) -> Any:
    """Return z of every group, in the last dimension; the others are those of `population` and `sd`."""
    return population + (sd / spread) ** (1.0 - centring) * (offset - centring * population)


def groups_and_populations(
    law: Law, unconstrained: Mapping[str, np.ndarray], centring: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return the draws with the offsets turned into the groups' values.

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
            sampled = law.sampled_name(name)
            population, log_sd = found[law.population_name(name)][..., None], found[law.spread_name(name)][..., None]
            found[sampled] = group_values(
                found.pop(offset_name(sampled)), population, np.exp(log_sd), prior.spread, centring[name]
            )
    return found


def centring(problem: "Problem") -> dict[str, np.ndarray]:
    """Return c_g for each group of each pooled parameter, from what its rows say of it.

    If rows know z_g with variance v_g when all else is given, and groups are expected to differ by the variance
    spread², then c_g = spread² / (spread² + v_g): 1 is centred, 0 non-centred. The law is linearised in the middle of
    its priors, and the rows' variance is what ridge regression leaves over, a tenth of the noise's scale at least.
    """
    priors = problem.rows.law.priors
    if not any(prior.pooled for prior in priors.values()):
        return {}
    middle = problem.start()
    steps = 1e-4 * np.eye(len(middle))
    effects = np.stack([problem.log_mean(middle + s) - problem.log_mean(middle - s) for s in steps], axis=1) / 2e-4
    left = problem.rows.log_response - problem.log_mean(middle)
    ridge = 1e-3 * np.eye(len(middle))
    left = left - effects @ np.linalg.solve(effects.T @ effects + ridge, effects.T @ left)
    error = np.square(left).mean() + (0.1 * problem.rows.law.noise.scale) ** 2
    information = np.split(np.square(effects).sum(axis=0) / error, np.cumsum(problem.sizes)[:-1])
    of_parameter = zip(priors.items(), information, strict=True)
    return {name: 1.0 - 1.0 / (1.0 + p.spread**2 * known) for (name, p), known in of_parameter if p.spread is not None}
