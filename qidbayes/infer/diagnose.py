"""Judge a sampling run."""

from collections.abc import Mapping

import numpy as np

from qidbayes.infer.convergence import labels_of
from qidbayes.infer.draws import Draws
from qidbayes.infer.inputs import Inputs
from qidbayes.infer.problem import Problem
from qidbayes.law.plausibility import doubts
from qidbayes.law.prior import SPREAD_LOG_SD
from qidbayes.posterior.contraction import prior_variance, spread_variance
from qidbayes.posterior.convergence import bfmi
from qidbayes.posterior.diagnostics import Diagnostics

_PRIOR_DRAWS = 20_000


def diagnose(rows: Inputs, found: Draws) -> Diagnostics:
    """Return the diagnostics of a run, but for those that `qidbayes.posterior.contraction.judged` adds.

    Parameters
    ----------
    rows
        What was fitted.
    found
        What the sampler gave back.
    """
    unconstrained, stats = found.unconstrained, found.stats
    idle = _confounded(rows, unconstrained)
    if rows.power_prior:  # what these rows do not tell, those of the other fit may have told
        idle = [label for label in idle if label in rows.power_prior.unidentified]
    return Diagnostics(
        convergence=found.convergence,
        divergences=int(stats["diverging"].sum()),
        bfmi=bfmi(stats["energy"]),
        contraction=_contraction(rows, unconstrained) | dict.fromkeys(idle, 0.0),
        shift={} if rows.power_prior else _shift(rows, unconstrained),
        doubts=tuple(doubts(rows.frame, of_families=rows.law.noise.discrepancy == "families")),
    )


def _contraction(rows: Inputs, unconstrained: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Compare each parameter's posterior variance with its prior's, where both are on the real line."""
    found = {}
    for name, prior in rows.law.priors.items():
        sampled = rows.law.sampled_name(name)
        before = {sampled: prior_variance(prior)}
        if prior.pooled:
            before[rows.law.population_name(name)] = before[sampled]
            before[sampled] += spread_variance(prior)
            before[rows.law.spread_name(name)] = SPREAD_LOG_SD**2
        for variable, width in before.items():
            after = np.atleast_1d(unconstrained[variable].var(axis=(0, 1), ddof=1))
            for label, variance in zip(labels_of(rows, variable), after, strict=True):
                found[label] = max(0.0, float(1.0 - variance / width))
    return found


def _shift(rows: Inputs, unconstrained: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Say how far each posterior's mean is from its prior's, in the prior's standard deviations, on the real line.

    Groups that are partially pooled follow their population, which is asked about in their place.
    """
    rng = np.random.default_rng(0)
    law, found = rows.law, {}
    for name, prior in law.priors.items():
        before = prior.unconstrain(prior.sample(_PRIOR_DRAWS, rng))
        variable = law.population_name(name) if prior.pooled else law.sampled_name(name)
        after = np.atleast_1d(unconstrained[variable].mean(axis=(0, 1)))
        for label, mean in zip(labels_of(rows, variable), after, strict=True):
            found[label] = float(abs(mean - before.mean()) / before.std())
    return found


def _confounded(rows: Inputs, unconstrained: Mapping[str, np.ndarray]) -> list[str]:
    """Find numbers whose effect on the fitted rows the law's other parameters can have too.

    At one bit width gamma only scales the response, as k does. Their priors then share it between them, and gamma's
    posterior may be narrower than its prior without the data having a say. What multiplies the law at the reference
    point (k) is not named here: where the reference is near the data, it is known all the same. Of groups that are
    partially pooled only their common value is asked about: a group the rows say nothing of is told by the others.
    """
    law, problem = rows.law, Problem(rows)
    middle = np.concatenate(
        [np.median(unconstrained[law.sampled_name(p)], axis=(0, 1)).reshape(-1) for p in law.priors]
    )
    slopes = problem.slopes(middle)
    named, columns = [], []
    for name, prior in law.priors.items():
        part = slopes[:, problem.columns[name]]
        labels = labels_of(rows, law.sampled_name(name))
        named += [(name, labels)] if prior.pooled else [(name, [label]) for label in labels]
        columns.append(part.sum(axis=1, keepdims=True) if prior.pooled else part)
    effects = np.concatenate(columns, axis=1)
    size = np.linalg.norm(effects, axis=0)
    # The triangular factor has the same directions, and no more rows than parameters.
    triangle = np.linalg.qr(effects / np.where(size > 0, size, 1.0), mode="r")
    _, strength, directions = np.linalg.svd(triangle, full_matrices=True)
    strength = np.concatenate([strength, np.zeros(effects.shape[1] - len(strength))])
    # A direction of no strength is a combination of parameters that changes no fitted row.
    idle = np.abs(directions[strength <= 1e-6 * strength[0]]).max(axis=0, initial=0.0) > 1e-3
    return [
        label
        for (name, labels), no_effect in zip(named, idle, strict=True)
        for label in labels
        if no_effect and name not in law.unit_powers
    ]
