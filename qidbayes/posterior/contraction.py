"""How much narrower a posterior is than its prior: over directions of the law's constants, and of the noise.

A contraction is 1 − posterior variance / prior variance, on the real line that the parameters are sampled on
(logarithms, logits, or the values themselves). 0 says that the data say nothing, 1 that the prior does not matter.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

import numpy as np

from qidbayes.law.law import Law
from qidbayes.law.prior import SPREAD_LOG_SD, Prior
from qidbayes.noise import family_kernel
from qidbayes.noise.kernels import LENGTHS, SIMILARITY, SLOPES
from qidbayes.posterior.diagnostics import Diagnostics, Direction, number
from qidbayes.table.groups import dimension

_PRIOR_DRAWS = 20_000


def prior_variance(prior: Prior) -> float:
    """Return the variance of a prior on the real line."""
    return float(prior.unconstrain(prior.sample(_PRIOR_DRAWS, np.random.default_rng(0))).var())


def spread_variance(prior: Prior) -> float:
    """Return the variance of a partially pooled prior's groups around their population: the prior mean of τ²."""
    return float(prior.spread**2 * np.exp(2 * SPREAD_LOG_SD**2)) if prior.spread is not None else 0.0


def noise_priors(law: Law) -> dict[str, Prior]:
    """Return the priors of what may scatter around a law, by the names in the model."""
    if law.noise.discrepancy == "families":
        return family_kernel.priors()
    scale = law.noise.scale
    spread = Prior("HalfNormal", sigma=scale)
    # Kept away from 0: where two or three runs decide both a slope and how much runs differ, the posterior is a
    # funnel.
    between = Prior("LogNormal", mu=np.log(0.5 * scale), sigma=SPREAD_LOG_SD)
    # One suite says nothing of how much suites differ. Published families and methods lie about 0.7 apart in log
    # QiD at equal N, D and P (docs/statistics.md): 1.4 times the default scale.
    suites = Prior("LogNormal", mu=np.log(1.4 * scale), sigma=0.5)
    lengths = dict.fromkeys(LENGTHS, Prior("LogNormal", mu=np.log(1.5), sigma=0.5))
    found = {"sigma": spread, "checkpoint_sd": between, "model_sd": between, "smooth_sd": spread, "suite_sd": suites}
    # Of log QiD in an e-folding of tokens: 0.15 between the slopes of runs, 0.1 that a slope wanders.
    slopes = {name: Prior("HalfNormal", sigma=sd * scale) for name, sd in zip(SLOPES, (0.3, 0.2), strict=True)}
    return {**found, **slopes, **lengths, SIMILARITY: Prior("Beta", alpha=2, beta=2)}


def judged(
    diagnostics: Diagnostics,
    law: Law,
    draws: Mapping[str, np.ndarray],
    coords: Mapping[str, Iterable[str]],
) -> Diagnostics:
    """Return a fit's checks with the contraction of its noise and of the direction that the data say least of.

    Parameters
    ----------
    diagnostics
        The checks without those two.
    law, coords
        The law, and the labels of its groups.
    draws
        The posterior's, as a fit holds them; shape ``(draws,)`` or ``(draws, groups)``.
    """
    unconstrained = on_real_line(law, draws)
    direction = least_contracted(law, unconstrained, coords, diagnostics.unidentified)
    return replace(diagnostics, directions=(direction,) if direction else (), noise=of_noise(law, unconstrained))


def on_real_line(law: Law, draws: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return what was sampled: the law's parameters, their populations and the noise, from draws as a fit has them."""
    priors = noise_priors(law)
    for name, prior in law.priors.items():
        priors[law.sampled_name(name)] = prior
        if prior.spread is not None:
            priors[law.population_name(name)] = prior
            priors[law.spread_name(name)] = Prior("LogNormal", mu=np.log(prior.spread), sigma=SPREAD_LOG_SD)
    with np.errstate(all="ignore"):  # a draw at the very end of its range lies at infinity
        return {name: priors[name].unconstrain(values) for name, values in draws.items() if name in priors}


def of_noise(law: Law, unconstrained: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return the contraction of each number of the noise; not above 1, and below 0 where the posterior is wider.

    Parameters
    ----------
    law
        The law.
    unconstrained
        The draws on the real line, as `on_real_line` returns them.
    """
    return {
        name: 1.0 - float(np.var(unconstrained[name], ddof=1)) / prior_variance(prior)
        for name, prior in noise_priors(law).items()
        if name in unconstrained and unconstrained[name].size > 1
    }


def least_contracted(
    law: Law,
    unconstrained: Mapping[str, np.ndarray],
    coords: Mapping[str, Iterable[str]],
    apart_from: Collection[str] = (),
) -> Direction | None:
    """Return the combination of the law's constants of which the data say least, None of fewer than two constants.

    Two constants can be narrow each while their sum is as wide as the prior has it. Of all linear combinations a'θ this
    is the one with the largest posterior variance over prior variance, the first generalised eigenvector of the two
    covariances. Groups that are partially pooled enter by their mean: a group without rows is told by the others.

    Parameters
    ----------
    law, coords
        The law, and the labels of its groups.
    unconstrained
        The draws on the real line; shape ``(draws,)`` or ``(draws, groups)``.
    apart_from
        Numbers to leave out, such as those that are not identified by themselves, by their labels.
    """
    columns: list[np.ndarray] = []
    sds: list[float] = []
    terms: list[str] = []
    for name, prior in law.priors.items():
        sampled = law.sampled_name(name)
        groups: list[str | None] = list(coords[dimension(prior.by)]) if prior.by else [None]
        labels = [number(sampled, group) for group in groups]
        variance = prior_variance(prior)
        values = unconstrained[sampled].reshape(len(unconstrained[sampled]), -1)
        if prior.pooled:
            labels, values = [sampled], values.mean(axis=1, keepdims=True)
            variance += spread_variance(prior) / len(groups)
        scale = "log " if prior.log_scaled else "logit " if prior.bounds else ""
        for label, column in zip(labels, values.T, strict=True):
            if label not in apart_from:
                columns.append(column)
                sds.append(float(np.sqrt(variance)))
                terms.append(scale + label)
    if len(columns) < 2 or len(columns[0]) < 2 or not np.isfinite(columns).all():
        return None
    # In units of its prior's standard deviation each has the prior variance 1, and any two are independent.
    ratios, directions = np.linalg.eigh(np.cov(np.array(columns) / np.array(sds)[:, None]))
    weights = directions[:, -1] * np.sign(directions[np.abs(directions[:, -1]).argmax(), -1])
    return Direction(
        float(ratios[-1]), dict(zip(terms, weights.tolist(), strict=True)), dict(zip(terms, sds, strict=True))
    )
