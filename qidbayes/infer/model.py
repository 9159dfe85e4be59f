"""A law and its data as a PyMC model."""

from collections.abc import Callable, Mapping
from typing import Any

import pymc as pm
import pytensor.tensor as pt

from qidbayes.infer.design import Design
from qidbayes.infer.nested import Level, log_density
from qidbayes.law.evaluate import Scope, evaluate_log
from qidbayes.law.prior import Prior
from qidbayes.table.groups import dimension


def build_model(design: Design) -> pm.Model:
    """Return the PyMC model of a law, with every array in it a `pm.Data`.

    The logarithm of the response is normal around the law's, with effects shared by the rows of each noise group
    integrated out (see `qidbayes.infer.nested`).

    Examples
    --------
    >>> from qidbayes.infer.design import design
    >>> from qidbayes.law import load_law
    >>> from qidbayes.table import load_table
    >>> model = build_model(design(load_table("pythia"), load_law("unified")))
    >>> [v.name for v in model.free_RVs]
    ['k_ref', 'beta', 'alpha', 'gamma', 'sigma', 'checkpoint_sd', 'model_sd']
    """
    law = design.law
    with pm.Model(coords={d: list(c) for d, c in design.coords.items()}) as model:
        # With their shapes known, no check of broadcasting is left for JAX to warn of.
        data = {name: pm.Data(name, values, shape=values.shape) for name, values in design.data.items()}
        scope = Scope(pt, logs={c: data[f"log_{c}"] for c in law.covariates}, signed=law.signed)
        for name, prior in law.priors.items():
            value = _prior(law.sampled_name(name), prior, design)
            scope.set(name, value=value[data[f"{dimension(prior.by)}_of_row"]] if prior.by else value)
        for name, expression in law.definitions.items():
            scope.define(name, expression)
        mean = evaluate_log(law.expression, scope)
        sigma = pm.HalfNormal("sigma", law.noise.scale)
        variance = sigma**2 + data["variance"]
        levels = []
        for level in design.levels:
            effect_sd = pm.HalfNormal(f"{level.name}_sd", law.noise.scale)
            levels.append((effect_sd**2, _group_sum(level, data)))
        pm.Potential("log_likelihood", log_density(data["log_response"] - mean, variance, levels, pt.log))
    return model


def sampled_names(design: Design) -> list[str]:
    """Return what the sampler's variables are called, in the model's order."""
    law = design.law
    return [*(law.sampled_name(p) for p in law.priors), "sigma", *(f"{level.name}_sd" for level in design.levels)]


def _prior(name: str, prior: Prior, design: Design) -> Any:
    family = getattr(pm, prior.family)
    if not prior.by:
        return family(name, **dict(prior.arguments))
    dim = dimension(prior.by)
    # The shape is given, since a length taken from the dimension would be one more argument of the compiled program.
    return family(name, **dict(prior.arguments), shape=len(design.coords[dim]), dims=dim)


def _group_sum(level: Level, data: Mapping[str, Any]) -> Callable[[Any], Any]:
    if level.regular:  # a reshape instead of a scatter: the gradient costs a fifth
        return lambda values: values.reshape((level.size, -1)).sum(axis=1)
    parent = data[f"{level.name}_parent"]
    return lambda values: pt.inc_subtensor(pt.zeros(level.size, dtype="float64")[parent], values)
