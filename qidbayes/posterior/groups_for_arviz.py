"""The groups of a DataTree that are worked out when they are asked for: likelihood, replicates, prior."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray

from qidbayes.errors import InputError
from qidbayes.law.prior import SPREAD_LOG_SD
from qidbayes.posterior.constants import raw_constants
from qidbayes.posterior.contraction import noise_priors
from qidbayes.posterior.likelihood import Unit, checkpoints, evenly, grouped_log_likelihood, replicates
from qidbayes.posterior.posterior import Posterior
from qidbayes.seeds import Stream, generator

_PRIOR_DRAWS = 1_000
_LABELS = ("suite", "model", "revision", "n_params", "tokens", "method", "bits", "group_size", "dataset")


def row_coords(fit: Posterior) -> dict[str, Any]:
    """Return the coordinates of the dimension `row`: what each row fitted is of."""
    labels = {name: ("row", fit.data[name].to_numpy()) for name in _LABELS if name in fit.data.columns}
    return {"row": np.arange(fit.data.height), **labels}


def log_likelihood(fit: Posterior, unit: Unit) -> xarray.Dataset:
    """Return log p(rows of a unit | all other rows, draw), for up to 500 draws."""
    chosen = evenly(fit)
    values = grouped_log_likelihood(fit, chosen.ravel())[unit].reshape(*chosen.shape, -1)
    names = checkpoints(fit.data)
    coords = row_coords(fit) if unit == "row" else {"checkpoint": list(dict.fromkeys(names))}
    rows = "the rows of each checkpoint" if unit == "checkpoint" else "each row"
    what = f"log density of {rows} of log {fit.law.response}, given all other rows and the draw: errors are shared"
    variable = (("chain", "draw", unit), values, {"unit": unit, "what": what})
    return xarray.Dataset({fit.law.response: variable}, {**_chain_and_draw(fit, chosen), **coords}, {"what": what})


def posterior_predictive(fit: Posterior) -> xarray.Dataset:
    """Return what the rows fitted would have measured in new runs, for up to 500 draws, nats per token."""
    chosen = evenly(fit)
    values = replicates(fit, chosen.ravel()).reshape(*chosen.shape, -1)
    what = "the same design measured in new runs: effects of suites, runs, checkpoints and the discrepancy are new"
    variable = (("chain", "draw", "row"), values)
    coords = {**_chain_and_draw(fit, chosen), **row_coords(fit)}
    return xarray.Dataset({fit.law.response: variable}, coords, {"what": what})


def prior(fit: Posterior) -> xarray.Dataset:
    """Return draws of the parameters, the constants and the noise's numbers from their priors.

    Raises
    ------
    InputError
        If the fit's prior is another fit's posterior.
    """
    if fit.attributes.get("prior_from"):
        raise InputError("the prior of this fit is another fit's posterior: take its draws from that fit")
    rng = generator(int(fit.attributes["random_seed"]), Stream.PRIOR)
    law, priors = fit.law, noise_priors(fit.law)
    found: dict[str, np.ndarray] = {}
    for name, one in law.priors.items():
        sampled = law.sampled_name(name)
        groups = fit.draws[sampled].shape[2:]
        if one.spread is None:
            size = int(np.prod((_PRIOR_DRAWS, *groups)))
            found[sampled] = one.sample(size, rng).reshape(_PRIOR_DRAWS, *groups)
            continue
        population = one.sample(_PRIOR_DRAWS, rng)
        sd = rng.lognormal(np.log(one.spread), SPREAD_LOG_SD, _PRIOR_DRAWS)
        steps = rng.standard_normal((_PRIOR_DRAWS, *groups))
        found |= {law.population_name(name): population, law.spread_name(name): sd}
        found[sampled] = one.constrain(one.unconstrain(population)[:, None] + sd[:, None] * steps)
    found |= raw_constants(law, found)
    found |= {name: priors[name].sample(_PRIOR_DRAWS, rng) for name in fit.noise.names}
    variables = {name: (_dims(fit, name), values[None]) for name, values in found.items()}
    labels = {dim: list(fit.coords[dim]) for dim in {fit.dims[name] for name in found if name in fit.dims}}
    return xarray.Dataset(variables, {"chain": [0], "draw": np.arange(_PRIOR_DRAWS), **labels})


def _dims(fit: Posterior, name: str) -> tuple[str, ...]:
    return ("chain", "draw", *([fit.dims[name]] if name in fit.dims else []))


def _chain_and_draw(fit: Posterior, chosen: np.ndarray) -> Mapping[str, np.ndarray]:
    return {"chain": np.arange(len(chosen)), "draw": chosen[0] % fit.stats["lp"].shape[1]}
