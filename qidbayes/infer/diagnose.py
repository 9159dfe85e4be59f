"""Judge a sampling run with ArviZ's statistics."""

from collections.abc import Mapping

import numpy as np
from arviz_stats.base import array_stats

from qidbayes.infer.design import Design
from qidbayes.posterior.diagnostics import Convergence, Diagnostics

_PRIOR_DRAWS = 20_000


def diagnose(design: Design, unconstrained: Mapping[str, np.ndarray], stats: Mapping[str, np.ndarray]) -> Diagnostics:
    """Return the diagnostics of a run.

    Parameters
    ----------
    design
        What was fitted.
    unconstrained
        The parameters on the real line; shape ``(chains, draws)`` or ``(chains, draws, groups)``. R-hat and ESS are
        of ranks, and so the same on either scale.
    stats
        The sampler's statistics.
    """
    convergence = {}
    for name, values in unconstrained.items():
        columns = values[..., None] if values.ndim == 2 else values
        dim = _dimension(design, name)
        labels = design.coords[dim] if dim else (None,)
        rhat = _per_column(array_stats.rhat, columns)
        bulk = _per_column(array_stats.ess, columns, method="bulk")
        tail = _per_column(array_stats.ess, columns, method="tail", prob=(0.05, 0.95))
        for i, label in enumerate(labels):
            convergence[name if label is None else f"{name}[{label}]"] = Convergence(rhat[i], bulk[i], tail[i])
    return Diagnostics(
        convergence=convergence,
        divergences=int(stats["diverging"].sum()),
        bfmi=tuple(float(np.square(np.diff(e)).mean() / np.var(e)) for e in stats["energy"]),
        contraction=_contraction(design, unconstrained),
    )


def _dimension(design: Design, sampled_name: str) -> str | None:
    for name, prior in design.law.priors.items():
        if design.law.sampled_name(name) == sampled_name and prior.by:
            return ":".join(prior.by)
    return None


def _per_column(statistic: object, columns: np.ndarray, **options: object) -> list[float]:
    assert callable(statistic)
    found = statistic(np.moveaxis(columns, -1, 0), chain_axis=1, draw_axis=2, **options)
    return [float(v) for v in np.atleast_1d(found)]


def _contraction(design: Design, unconstrained: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Compare each parameter's posterior variance with its prior's, where both are on the real line."""
    rng = np.random.default_rng(0)
    found = {}
    for name, prior in design.law.priors.items():
        sampled = design.law.sampled_name(name)
        before = prior.unconstrain(prior.sample(_PRIOR_DRAWS, rng)).var()
        after = unconstrained[sampled].var(axis=(0, 1), ddof=1)
        found[sampled] = max(0.0, float(1.0 - np.max(after) / before))
    return found
