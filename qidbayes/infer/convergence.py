"""R-hat and effective sample sizes of every number that a sampling run has drawn."""

from collections.abc import Mapping

import numpy as np

from qidbayes.infer import latent
from qidbayes.infer.inputs import Inputs
from qidbayes.noise.coordinates import Fitted
from qidbayes.noise.family_kernel import SUITE_SCALE
from qidbayes.posterior.convergence import convergence_of
from qidbayes.posterior.diagnostics import Convergence, number
from qidbayes.table.cells import describe
from qidbayes.table.groups import dimension


def convergence(design: Inputs, unconstrained: Mapping[str, np.ndarray]) -> dict[str, Convergence]:
    """Return how well the sampler knows each number, by its label.

    Parameters
    ----------
    design
        What was fitted.
    unconstrained
        The parameters on the real line; shape ``(chains, draws)`` or ``(chains, draws, groups)``. ESS is of ranks,
        and so the same on either scale; R-hat almost.
    """
    known: dict[str, Convergence] = {}
    for name, values in unconstrained.items():
        columns = values[..., None] if values.ndim == 2 else values
        known |= zip(labels_of(design, name), convergence_of(columns), strict=True)
    return known


def labels_of(design: Inputs, sampled_name: str) -> list[str]:
    """Return what each number of a variable is called: ``gamma``, or ``gamma[awq]``."""
    for name, prior in design.law.priors.items():
        if design.law.sampled_name(name) == sampled_name and prior.by:
            return [number(sampled_name, group) for group in design.coords[dimension(prior.by)]]
    if sampled_name == latent.NAME:
        rows = design.frame[design.latent["latent_row"]].iter_rows(named=True)
        groups = [
            number(f"{level.name}_effect", design.coords[level.name][group])
            for level in design.levels
            for group in design.latent[f"latent_{level.name}"]
        ]
        return [*(number("log_qid", describe(row)) for row in rows), *groups]
    if sampled_name in design.vectors:
        of = Fitted(design.frame).labels("suite") if sampled_name == SUITE_SCALE else design.unknown[1]
        return [number(sampled_name, label) for label in of]
    return [sampled_name]
