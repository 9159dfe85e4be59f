"""A law and its data as a PyMC model."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from qidbayes.infer import nested, pooling, strata
from qidbayes.infer.borrowed import Borrowed
from qidbayes.infer.design import Design
from qidbayes.infer.nested import Level
from qidbayes.law.evaluate import Scope, evaluate_log
from qidbayes.law.law import STUDENT_T_FREEDOM, Law
from qidbayes.law.prior import SPREAD_LOG_SD, Prior
from qidbayes.table.groups import dimension

type Data = Mapping[str, Any]


def build_model(design: Design) -> pm.Model:
    """Return the PyMC model of a law, with every array in it a `pm.Data`.

    The logarithm of the response is normal around the law's, with effects shared by the rows of each noise group
    integrated out (see `qidbayes.infer.nested`), and the rows reduced to sufficient statistics where there are any
    (see `qidbayes.infer.strata`).

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
    arrays = model_data(design)
    with pm.Model(coords={d: list(c) for d, c in design.coords.items()}) as model:
        # With their shapes known, no check of broadcasting is left for JAX to warn of.
        data = {name: pm.Data(name, values, shape=values.shape) for name, values in arrays.items()}
        parameters = {name: _prior(name, prior, design, data) for name, prior in law.priors.items()}
        sds = {name: _noise_sd(name, design) for name in ("sigma", *(f"{level.name}_sd" for level in design.levels))}
        if design.borrowed:
            pm.Potential("borrowed", _log_borrowed(design.borrowed, law, parameters, sds, data))
        sigma, *effects = sds["sigma"], *(sds[f"{level.name}_sd"] ** 2 for level in design.levels)
        likelihood = _of_strata if "root" in data else _of_rows
        pm.Potential("log_likelihood", likelihood(design, data, parameters, sigma**2, effects))
    return model


def model_data(design: Design) -> dict[str, np.ndarray]:
    """Return every array the model is given, by its name there: sufficient statistics if there are any, or the rows."""
    found = strata.strata(design)
    arrays = {**vars(found)} if found else design.row_data
    if design.borrowed:
        arrays |= {"borrowed_mean": design.borrowed.mean, "borrowed_root": design.borrowed.root}
    return arrays | {f"{name}_centring": values for name, values in design.centring.items()}


def _of_strata(design: Design, data: Data, parameters: Data, variance: Any, effects: list[Any]) -> Any:
    priors = design.law.priors
    position = [pt.log(value) if priors[name].log_scaled else value for name, value in parameters.items()]
    direction = pt.concatenate([[1.0], *(-pt.atleast_1d(z) for z in position)])
    steps = [variance, *(data["members"][i] * effect for i, effect in enumerate(effects))]
    return strata.log_density(data["root"], data["freedom"], pt.cumsum(pt.stack(steps)), direction, pt.log)


def _of_rows(design: Design, data: Data, parameters: Data, variance: Any, effects: list[Any]) -> Any:
    law = design.law
    scope = Scope(pt, logs={c: data[f"log_{c}"] for c in law.covariates}, signed=law.signed)
    for name, value in parameters.items():
        by = law.priors[name].by
        scope.set(name, value=value[data[f"{dimension(by)}_of_row"]] if by else value)
    for name, expression in law.definitions.items():
        scope.define(name, expression)
    residual = data["log_response"] - evaluate_log(law.expression, scope)
    if law.noise.family == "student_t":
        scale = pt.sqrt(variance + data["variance"])
        return pm.logp(pm.StudentT.dist(STUDENT_T_FREEDOM, sigma=scale), residual).sum()
    levels = [(effect, _group_sum(level, data)) for level, effect in zip(design.levels, effects, strict=True)]
    return nested.log_density(residual, variance + data["variance"], levels, pt.log)


def sampled_names(design: Design) -> list[str]:
    """Return what the sampler's variables are called, in the model's order."""
    law = design.law
    parameters: list[str] = []
    for name, prior in law.priors.items():
        sampled = law.sampled_name(name)
        pooled = (law.population_name(name), law.spread_name(name), pooling.offset_name(sampled))
        parameters += pooled if prior.pooled else (sampled,)
    return [*parameters, "sigma", *(f"{level.name}_sd" for level in design.levels)]


def _noise_sd(name: str, design: Design) -> Any:
    if design.borrowed and name in design.borrowed.sizes:
        return pm.HalfFlat(name)
    if name == "sigma":
        return pm.HalfNormal(name, design.law.noise.scale)
    # Kept away from 0: where two or three runs decide both a slope and how much runs differ, the posterior is a funnel.
    return pm.LogNormal(name, np.log(0.5 * design.law.noise.scale), SPREAD_LOG_SD)


def _log_borrowed(borrowed: Borrowed, law: Law, parameters: Data, sds: Data, data: Data) -> Any:
    """Return the log density of the borrowed prior over the flat ones that stand in the model, on the real line."""
    position, jacobian = [], pt.as_tensor(0.0)
    for name, prior in law.priors.items():
        value = pt.atleast_1d(parameters[name])
        position.append(_real_line(prior, value))
        if prior.log_scaled:
            jacobian += pt.log(value).sum()
        elif prior.bounds:
            lower, upper = prior.bounds
            jacobian += pt.log((value - lower) * (upper - value)).sum()
    for name in sds:
        if name in borrowed.sizes:
            position.append(pt.atleast_1d(pt.log(sds[name])))
            jacobian += pt.log(sds[name])
    step = data["borrowed_root"] @ (pt.concatenate(position) - data["borrowed_mean"])
    return -0.5 * (step**2).sum() - jacobian


def _real_line(prior: Prior, value: Any) -> Any:
    if prior.log_scaled:
        return pt.log(value)
    if prior.bounds:
        lower, upper = prior.bounds
        return pt.log((value - lower) / (upper - value))
    return value


def _flat(prior: Prior) -> tuple[Any, dict[str, float]]:
    """Return the PyMC distribution that says nothing and has the prior's support, and its arguments."""
    if prior.bounds:
        return pm.Uniform, dict(zip(("lower", "upper"), prior.bounds, strict=True))
    return (pm.HalfFlat if prior.log_scaled else pm.Flat), {}


def _prior(name: str, prior: Prior, design: Design, data: Data) -> Any:
    law, sampled = design.law, design.law.sampled_name(name)
    family, arguments = _flat(prior) if design.borrowed else (getattr(pm, prior.family), dict(prior.arguments))
    if not prior.by:
        return family(sampled, **arguments)
    dim = dimension(prior.by)
    groups = len(design.coords[dim])
    if prior.spread is None:
        # The shape is given, since a length taken from the dimension would be an argument of the compiled program.
        return family(sampled, **arguments, shape=groups, dims=dim)
    population = family(law.population_name(name), **arguments)
    population = pt.log(population) if prior.log_scaled else population
    sd = pm.LogNormal(law.spread_name(name), np.log(prior.spread), SPREAD_LOG_SD)
    c = data[f"{name}_centring"]
    scale = prior.spread * (sd / prior.spread) ** c
    offset = pm.Normal(pooling.offset_name(sampled), c * population, scale, shape=groups)
    values = pooling.group_values(offset, population, sd, prior.spread, c)
    return pm.Deterministic(sampled, pt.exp(values) if prior.log_scaled else values, dims=dim)


def _group_sum(level: Level, data: Mapping[str, Any]) -> Callable[[Any], Any]:
    if level.regular:  # a reshape instead of a scatter: the gradient costs a fifth
        return lambda values: values.reshape((level.size, -1)).sum(axis=1)
    parent = data[f"{level.name}_parent"]
    return lambda values: pt.inc_subtensor(pt.zeros(level.size, dtype="float64")[parent], values)
