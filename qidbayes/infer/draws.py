"""What a sampler gives back."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qidbayes.posterior.diagnostics import Convergence

STATS = ("diverging", "energy", "n_steps", "acceptance_rate", "lp")
"""What is known of each transition, by ArviZ's names."""

type Values = Mapping[str, np.ndarray]
"""The parameters on the real line, as `Draws.unconstrained` has them."""


@dataclass(frozen=True)
class Draws:
    """The draws of a law's parameters given its rows.

    Attributes
    ----------
    unconstrained
        The parameters on the real line, by their names in the model, with the populations and standard deviations of
        those that are partially pooled; shape ``(chains, draws)`` or ``(chains, draws, groups)``. Under
        `measurement_error.NAME`, what noisy rows are drawn from.
    stats
        For each draw, by `STATS`; shape ``(chains, draws)``.
    target_accept
        The acceptance probability the steps were adapted to in the end.
    convergence
        How well each number is known, by its label.
    """

    unconstrained: Values
    stats: Mapping[str, np.ndarray]
    target_accept: float
    convergence: Mapping[str, Convergence]
    sampler: str = "NUTS"
    """How they were drawn."""
