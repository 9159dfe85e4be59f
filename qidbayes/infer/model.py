"""A law and its data as a PyMC model."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
import pymc as pm
import pytensor.tensor as pt

from qidbayes.infer import anova, measurement_error, pooling
from qidbayes.infer.inputs import Inputs, inputs
from qidbayes.infer.spec import ModelSpec, describe
from qidbayes.law import Law, load_law
from qidbayes.law.evaluate import evaluate_log
from qidbayes.law.prior import SPREAD_LOG_SD, Prior
from qidbayes.noise import random_effects, unknown_tokens
from qidbayes.noise.family_kernel import SUITE_SCALE
from qidbayes.noise.unknown_tokens import UNKNOWN
from qidbayes.table.groups import dimension
from qidbayes.table.schema import validate

type Data = Mapping[str, Any]


def build_model(table: pl.DataFrame, law: str | os.PathLike[str] | Law) -> pm.Model:
    """Return the PyMC model that `fit` samples, with every array in it a `pm.Data`.

    The logarithm of the response is normal around the law's, with effects shared by the rows of each noise group
    integrated out (see `qidbayes.noise.random_effects`), and the rows reduced to sufficient statistics where there are
    any (see `qidbayes.infer.anova`). A discrepancy is integrated out too (see `qidbayes.noise.gp_density`). Of rows
    too noisy for a logarithm, the true QiD is one variable more (see `qidbayes.infer.measurement_error`).

    Parameters
    ----------
    table
        Measurements, as `load_table` and `read_table` return them.
    law
        A `Law`, the name of a shipped one, or a TOML file.

    Returns
    -------
    pymc.Model
        Its free variables are the law's parameters at the reference point and the numbers of the noise. What was
        measured stands in the potential ``log_likelihood``: the effects are integrated out, so that no variable of the
        model is observed by itself.

    Raises
    ------
    InputError
        If the law or the table cannot be used.

    Examples
    --------
    >>> from qidbayes.law import load_law
    >>> from qidbayes.table import load_table
    >>> model = build_model(load_table("pythia"), load_law("unified").with_noise(discrepancy="none"))
    >>> [v.name for v in model.free_RVs]
    ['k_ref', 'beta', 'alpha', 'gamma', 'sigma', 'checkpoint_sd', 'model_sd']
    """
    law = law if isinstance(law, Law) else load_law(law)
    return model_of_inputs(inputs(validate(table, "table"), law))


def model_of_inputs(rows: Inputs) -> pm.Model:
    """Return the PyMC model of the rows that a law is fitted to."""
    arrays = model_data(rows)
    return model_of(describe(rows, arrays), arrays)


def model_of(spec: ModelSpec, arrays: Mapping[str, np.ndarray]) -> pm.Model:
    """Return the model that a description is of, with arrays of its shapes; it knows nothing else."""
    with pm.Model() as model:
        # With their shapes known, no check of broadcasting is left for JAX to warn of.
        data = {name: pm.Data(name, values, shape=values.shape) for name, values in arrays.items()}
        parameters = {
            name: _prior(name, prior, size, spec, data)
            for (name, prior), size in zip(spec.priors, spec.groups, strict=True)
        }
        errors = {name: _error(name, prior, spec) for name, prior in spec.errors}
        if spec.power_prior is not None:
            pm.Potential("power_prior", _log_power_prior(spec, parameters, errors, data))
        likelihood = _of_strata if "root" in data else _of_rows if spec.blocks is None else _of_smooth
        pm.Potential("log_likelihood", likelihood(spec, data, parameters, errors))
    return model


def model_data(rows: Inputs) -> dict[str, np.ndarray]:
    """Return every array the model is given, by its name there: sufficient statistics if there are any, or the rows."""
    found = anova.strata(rows)
    arrays = {**vars(found)} if found else rows.row_data
    if rows.power_prior:
        arrays |= {"power_prior_mean": rows.power_prior.mean, "power_prior_root": rows.power_prior.root}
    return arrays | {f"{name}_centring": values for name, values in rows.centring.items()}


def _of_strata(spec: ModelSpec, data: Data, parameters: Data, errors: Data) -> Any:
    variance, effects = errors["sigma"] ** 2, [errors[f"{level.name}_sd"] ** 2 for level in spec.levels]
    priors = dict(spec.priors)
    position = [pt.log(value) if priors[name].log_scaled else value for name, value in parameters.items()]
    direction = pt.concatenate([[1.0], *(-pt.atleast_1d(z) for z in position)])
    steps = [variance, *(data["members"][i] * effect for i, effect in enumerate(effects))]
    return anova.log_density(data["root"], data["freedom"], pt.cumsum(pt.stack(steps)), direction, pt.log)


def _of_rows(spec: ModelSpec, data: Data, parameters: Data, errors: Data) -> Any:
    variance, effects = errors["sigma"] ** 2, [errors[f"{level.name}_sd"] ** 2 for level in spec.levels]
    residual = data["log_response"] - _log_mean(spec, data, parameters)
    variance_of_row = variance + data["variance"]
    found = spec.noise.log_density(residual, variance_of_row, errors, spec, data, pt)
    return found + _of_noise(spec, data, residual, variance, effects) if "latent_row" in data else found


def _of_smooth(spec: ModelSpec, data: Data, parameters: Data, errors: Data) -> Any:
    normal = {name: pm.Normal(name, shape=size) for name, size in spec.vectors}
    if SUITE_SCALE in normal:
        errors = {**errors, SUITE_SCALE: pt.exp(errors[f"{SUITE_SCALE}_sd"] * normal[SUITE_SCALE])}
    if UNKNOWN in normal:
        log_tokens = unknown_tokens.log_tokens(normal[UNKNOWN], pt)[data["unknown_of"]] - data["log_reference_tokens"]
        rows = data["unknown_row"]
        told = {name: pt.set_subtensor(data[name][rows], log_tokens) for name in ("log_D", "at_log_tokens")}
        data = {**data, **told}
    log_response, variance, measured = data["log_response"], data["variance"], 0.0
    if "latent_row" in data:
        rows = data["latent_row"]
        log_true = measurement_error.from_normal(
            log_response[rows], variance[rows], pm.Flat(measurement_error.NAME, shape=spec.count("latent_row")), pt
        )
        error = data["latent_error"]
        measured = (-0.5 * ((data["latent_qid"] - pt.exp(log_true)) / error) ** 2 - pt.log(error)).sum()
        log_response = pt.set_subtensor(log_response[rows], log_true)
        variance = pt.set_subtensor(variance[rows], 0.0)
    residual = log_response - _log_mean(spec, data, parameters)
    return measured + spec.noise.log_density(residual, errors["sigma"] ** 2 + variance, errors, spec, data, pt)


def _log_mean(spec: ModelSpec, data: Data, parameters: Data) -> Any:
    law = spec.law
    scope = law.scope(pt, logs={c: data[f"log_{c}"] for c in law.covariates})
    for name, value in parameters.items():
        by = law.priors[name].by
        scope.set(name, value=value[data[f"{dimension(by)}_of_row"]] if by else value)
    return evaluate_log(law.expression, scope)


def _of_noise(spec: ModelSpec, data: Data, residual: Any, variance: Any, effects: list[Any]) -> Any:
    """Return the log density of the noisy rows, less that of their sketches; see `measurement_error`."""
    rows, count = data["latent_row"], spec.count("latent_row")
    groups = [spec.count(f"latent_{level.name}") for level in spec.levels]
    normal = pm.Normal(measurement_error.NAME, shape=count + sum(groups))
    levels, start = [], count
    for level, effect, size in zip(spec.levels, effects, groups, strict=True):
        own = pt.set_subtensor(pt.zeros(level.size)[data[f"latent_{level.name}"]], normal[start : start + size])
        members = np.repeat(np.arange(level.size), level.members // level.size)
        parent = members if level.regular else data[f"{level.name}_parent"]
        levels.append(random_effects.Shared(effect, random_effects.group_sum(level, data, pt), parent, own))
        start += size
    *_, shared = random_effects.effects(residual, variance + data["variance"], levels, pt.sqrt)
    log_qid, sketch = data["log_response"][rows], data["variance"][rows]
    known = log_qid - residual[rows] + (shared[rows] if levels else 0.0)
    log_true = measurement_error.given_effects(known, log_qid, sketch, variance, normal[:count], pt.sqrt)
    error = data["latent_error"]
    measured = -0.5 * ((data["latent_qid"] - pt.exp(log_true)) / error) ** 2 - pt.log(error)
    sketched = -0.5 * (log_qid - log_true) ** 2 / sketch - 0.5 * pt.log(sketch)
    return (measured - sketched).sum()


def _error(name: str, prior: Prior, spec: ModelSpec) -> Any:
    family, arguments = _flat(prior) if name in (spec.power_prior or ()) else _declared(prior)
    return family(name, **arguments)


def _declared(prior: Prior) -> tuple[Any, dict[str, float]]:
    # As floats, so that priors which are equal make one graph.
    return getattr(pm, prior.family), {name: float(value) for name, value in prior.arguments}


def _log_power_prior(spec: ModelSpec, parameters: Data, errors: Data, data: Data) -> Any:
    """Return the log density of the power prior over the flat ones that stand in the model, on the real line."""
    position, jacobian = [], pt.as_tensor(0.0)
    covered = [(prior, errors[name]) for name, prior in spec.errors if name in (spec.power_prior or ())]
    for prior, value in [*((prior, parameters[name]) for name, prior in spec.priors), *covered]:
        value = pt.atleast_1d(value)
        position.append(_real_line(prior, value))
        if prior.log_scaled:
            jacobian += pt.log(value).sum()
        elif prior.bounds:
            lower, upper = prior.bounds
            jacobian += pt.log((value - lower) * (upper - value)).sum()
    step = data["power_prior_root"] @ (pt.concatenate(position) - data["power_prior_mean"])
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


def _prior(name: str, prior: Prior, groups: int | None, spec: ModelSpec, data: Data) -> Any:
    law, sampled = spec.law, spec.law.sampled_name(name)
    family, arguments = _declared(prior) if spec.power_prior is None else _flat(prior)
    if groups is None:
        return family(sampled, **arguments)
    if prior.spread is None:
        return family(sampled, **arguments, shape=groups)
    step = pm.Normal(pooling.offset_name(law.population_name(name)))
    sd = pm.LogNormal(law.spread_name(name), np.log(prior.spread), SPREAD_LOG_SD)
    c = data[f"{name}_centring"]
    scale = pooling.offset_scale(sd, prior.spread, c)
    offset = pm.Normal(pooling.offset_name(sampled), c * arguments["mu"], scale, shape=groups)
    precision, sum_ = pooling.told(offset, sd, prior, c)
    pm.Potential(f"{sampled}_shared", 0.5 * (sum_**2 / precision - pt.log(precision)))
    _, values = pooling.population_and_groups(step, sd, offset, prior, c)
    return pm.Deterministic(sampled, pt.exp(values) if prior.log_scaled else values)
