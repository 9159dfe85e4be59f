"""R-hat and effective sample sizes of every number that a sampling run has drawn."""

from collections.abc import Mapping

import numpy as np

from qidbayes.infer import measurement_error
from qidbayes.infer.inputs import Inputs
from qidbayes.noise.coordinates import Fitted
from qidbayes.noise.family_kernel import SUITE_SCALE
from qidbayes.posterior.convergence import convergence_of
from qidbayes.posterior.diagnostics import Convergence, number
from qidbayes.table.cells import describe
from qidbayes.table.groups import dimension


def convergence(rows: Inputs, unconstrained: Mapping[str, np.ndarray]) -> dict[str, Convergence]:
    """Return how well the sampler knows each number, by its label.

    Parameters
    ----------
    rows
        What was fitted.
    unconstrained
        The parameters on the real line; shape ``(chains, draws)`` or ``(chains, draws, groups)``. ESS is of ranks,
        and so the same on either scale; R-hat almost.
    """
    known: dict[str, Convergence] = {}
    for name, values in unconstrained.items():
        columns = values[..., None] if values.ndim == 2 else values
        known |= zip(labels_of(rows, name), convergence_of(columns), strict=True)
    return known


def labels_of(rows: Inputs, sampled_name: str) -> list[str]:
    """Return what each number of a variable is called: ``gamma``, or ``gamma[awq]``."""
    for name, prior in rows.law.priors.items():
        if rows.law.sampled_name(name) == sampled_name and prior.by:
            return [number(sampled_name, group) for group in rows.coords[dimension(prior.by)]]
    if sampled_name == measurement_error.NAME:
        noisy = rows.frame[rows.latent["latent_row"]].iter_rows(named=True)
        groups = [
            number(f"{level.name}_effect", rows.coords[level.name][group])
            for level in rows.levels
            for group in rows.latent[f"latent_{level.name}"]
        ]
        return [*(number("log_qid", describe(row)) for row in noisy), *groups]
    if sampled_name in rows.vectors:
        of = Fitted(rows.frame).labels("suite") if sampled_name == SUITE_SCALE else rows.unknown[1]
        return [number(sampled_name, label) for label in of]
    return [sampled_name]
