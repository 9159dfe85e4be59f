"""Groups that were not fitted, drawn from the population that the fitted ones belong to."""

import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from qidbayes.law.law import Law
from qidbayes.posterior.constants import dimensions, raw_constants
from qidbayes.seeds import Stream, generator
from qidbayes.table.groups import dimension


def has_population(law: Law, dim: str) -> bool:
    """Return whether every parameter that differs along a dimension is partially pooled."""
    return all(prior.pooled for prior in law.priors.values() if dimension(prior.by) == dim)


def new_groups(
    law: Law, draws: Mapping[str, np.ndarray], dim: str, labels: Sequence[str], seed: int
) -> dict[str, np.ndarray]:
    """Draw the constants of groups that were not fitted.

    On the real line a group's value is normal around its population's, with the standard deviation between groups: one
    more draw for each draw of the posterior. A label has the same draws whenever it is asked for.

    Parameters
    ----------
    law
        A law of which `has_population` is true.
    draws
        The posterior's, shape ``(draws,)`` or ``(draws, groups)``.
    dim, labels
        The dimension, and the new groups' labels in it.
    seed
        The fit's.

    Returns
    -------
    dict
        For each of the law's constants that differs along the dimension, shape ``(draws, labels)``.
    """
    sampled = {}
    for name, prior in law.priors.items():
        sampled_name = law.sampled_name(name)
        sampled[sampled_name] = draws[sampled_name]
        if dimension(prior.by) != dim:
            continue
        population, sd = prior.unconstrain(draws[law.population_name(name)]), draws[law.spread_name(name)]
        steps = [
            generator(seed, Stream.NEW_GROUPS, zlib.crc32(f"{name}[{label}]".encode())).standard_normal(len(sd))
            for label in labels
        ]
        sampled[sampled_name] = prior.constrain(population[:, None] + sd[:, None] * np.stack(steps, axis=1))
    found = sampled | raw_constants(law, sampled)
    return {name: found[name] for name in law.constants if dimensions(law).get(name) == dim}
