"""Fit a law to a table: one call from measurements to a posterior."""

import os
import secrets
import warnings
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import polars as pl

from qidbayes.errors import DataWarning, InputError
from qidbayes.infer import latent
from qidbayes.infer.borrowed import borrow, fit_hash
from qidbayes.infer.chains import Progress
from qidbayes.infer.design import Design, design
from qidbayes.infer.diagnose import diagnose
from qidbayes.infer.sample import sample
from qidbayes.law import COVARIATES, Law, load_law
from qidbayes.noise.random_effects import sample_effects
from qidbayes.posterior.constants import Curve, dimensions, raw_constants
from qidbayes.posterior.contraction import judged
from qidbayes.posterior.fit import Fit
from qidbayes.posterior.scatter import TRUE_LOG_QID
from qidbayes.process import note
from qidbayes.table import table_hash
from qidbayes.table.groups import dimension
from qidbayes.table.schema import validate

FIRST, MOST = 1_000, 4_000
"""Draws of each chain that nobody gave a number of, and how many they may become."""
_VERSIONS = ("qidbayes", "pymc", "pytensor", "numpyro", "jax", "numpy", "arviz")
_KEPT = ("suite", "model", "revision", "n_params", "tokens", "method", "bits", "group_size", "dataset", "source",
         "loss_16bit")  # fmt: skip


def fit(
    table: pl.DataFrame,
    law: str | os.PathLike[str] | Law,
    *,
    draws: int | None = None,
    tune: int = 1000,
    chains: int = 4,
    target_accept: float = 0.9,
    random_seed: int | None = None,
    prior_from: Fit | None = None,
    prior_weight: float = 1.0,
    progress: Progress | None = None,
) -> Fit:
    """Sample the posterior of a law given a measurement table.

    The PyMC model of the law (`build_model`) is sampled by NumPyro's NUTS on JAX in 64 bits. The first fit of a law
    compiles a program, which later fits of the same law to data of the same shape reuse, also in other processes.

    Parameters
    ----------
    table
        Measurements, as `load_table` and `read_table` return them. A QiD law uses every row with a QiD, a 16-bit law
        one row for each checkpoint; failed cells are left out and counted in ``fit.attributes["left_out"]``.
    law
        A `Law`, the name of a shipped one, or a TOML file.
    draws
        Kept draws of each chain. If not given, 1,000, and as many again, up to 4,000, while R-hat or ESS is out of
        bounds.
    tune, chains
        Warm-up transitions of each chain, and the number of chains.
    target_accept
        The acceptance probability the step size is adapted to. If transitions diverge, the run is repeated with 0.97,
        0.99 and 0.997; what was used in the end is in ``fit.attributes``.
    random_seed
        The same seed gives the same draws on the same machine. One is drawn, and kept, if it is not given.
    prior_from, prior_weight
        A fit of the same law whose posterior, of the parameters and the noise, is the prior here in the place of the
        law's own; raised to the power of the weight, in (0, 1], so that each of its rows counts for as much of a row.
        The posterior is taken as normal on the real line. Both are recorded in ``fit.attributes["prior_from"]``.
    progress
        Called with the transitions done and their total.

    Returns
    -------
    Fit
        The posterior with its diagnostics; ``fit.diagnostics.problems()`` is empty if all checks passed.

    Raises
    ------
    InputError
        If the law or table cannot be used, or the sampler's settings are out of range.

    Examples
    --------
    >>> from qidbayes.table import load_table
    >>> table = load_table("pythia")
    >>> posterior = fit(table, "unified", random_seed=0)
    >>> posterior.diagnostics.problems()
    []
    >>> posterior.interval("beta")["median"].round(2).item()
    0.47
    """
    note()
    first, most = (FIRST, MOST) if draws is None else (draws, draws)
    for name, value, least in (("draws", first, 4), ("tune", tune, 100), ("chains", chains, 1)):
        if not isinstance(value, int) or value < least:
            raise InputError(f"{name} must be a whole number of at least {least}, not {value!r}")
    if not 0.5 <= target_accept < 1:
        raise InputError(f"target_accept must be at least 0.5 and below 1, not {target_accept!r}")
    seed = secrets.randbits(31) if random_seed is None else random_seed
    if not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise InputError(f"random_seed must be a whole number from 0 to 2³² − 1, not {random_seed!r}")
    law = law if isinstance(law, Law) else load_law(law)
    table = validate(table, "table")  # refuses what is no table, such as a cell twice, before the sampling
    dimensions(law)  # refuses constants that could not be reported, before the sampling
    hash_ = table_hash(table)  # refuses what no table may hold, repeated cells among it
    rows = design(table, law.at(prior_from.law.reference) if prior_from else law)
    law = rows.law
    if rows.frame.height == 1 and prior_from is None:
        raise InputError(
            "nothing tells the law from the error of a single row; give more rows, or a fit of others as prior_from"
        )
    if prior_from is not None:
        rows = replace(rows, borrowed=borrow(law, rows.coords, rows.errors, prior_from, prior_weight))
    base = None
    if law.loss_16bit:  # the two posteriors are independent, and so must their draws be
        base = fit(
            table, law.loss_16bit, draws=draws, tune=tune, chains=chains, target_accept=target_accept,
            random_seed=(seed + 1) % 2**32, progress=progress,
        )  # fmt: skip
        law = replace(law, loss_16bit=base.law)
    found = sample(
        rows, draws=first, tune=tune, chains=chains, target_accept=target_accept, random_seed=seed, progress=progress,
        most=most,
    )  # fmt: skip
    kept = found.stats["diverging"].shape[1]
    unconstrained = dict(found.unconstrained)
    whitened = unconstrained.pop(latent.NAME, None)
    values = _constrained(rows, unconstrained)
    flat = {name: v.reshape(-1, *v.shape[2:]) for name, v in values.items()}
    for name, constant in raw_constants(law, flat).items():
        flat[name] = constant
    coords = {dim: rows.coords[dim] for dim in dict.fromkeys(dimension(p.by) for p in law.priors.values() if p.by)}
    dims = {law.sampled_name(name): dimension(prior.by) for name, prior in law.priors.items() if prior.by}
    dims |= {law.sampled_name(name): dim for name, dim in dimensions(law).items() if name in law.define}
    dims |= {name: dim for name, dim in dimensions(law).items() if name in law.scales}
    if any(level.name == "model" for level in rows.levels):
        flat["model_effect"] = _model_effect(rows, flat, whitened, coords, seed)
        coords["model"], dims["model_effect"] = rows.coords["model"], "model"
    if rows.noise.by_draw and whitened is not None:
        noisy = rows.latent["latent_row"]
        normal = whitened.reshape(-1, len(noisy))
        flat[TRUE_LOG_QID] = latent.stretch(rows.log_response[noisy], rows.variance[noisy], normal, np)
        coords["row"], dims[TRUE_LOG_QID] = tuple(str(row) for row in noisy), "row"
    diagnostics = judged(diagnose(rows, found), law, flat, coords)
    for doubt in diagnostics.doubts:
        warnings.warn(doubt, DataWarning, skip_file_prefixes=(str(Path(__file__).parents[1]),))
    return Fit(
        law=law,
        draws={name: v.reshape(chains, kept, *v.shape[1:]) for name, v in flat.items()},
        dims=dims,
        coords=coords,
        stats=found.stats,
        data=_kept(rows),
        diagnostics=diagnostics.with_part("loss_16bit", base.diagnostics) if base else diagnostics,
        attributes={
            "random_seed": seed,
            "draws": kept,
            "tune": tune,
            "chains": chains,
            "target_accept": found.target_accept,
            "table_hash": hash_,
            "law_fingerprint": law.fingerprint(),
            "left_out": dict(rows.left_out),
            "prior_from": {"fit_hash": fit_hash(prior_from), "weight": prior_weight} if prior_from else None,
            "versions": {name: version(name) for name in _VERSIONS},
        },
        loss_16bit=base,
    )


def _constrained(rows: Design, unconstrained: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Carry the draws from the real line to where the model has them; the same transforms as PyMC's."""
    law = rows.law
    priors = {law.sampled_name(name): prior for name, prior in law.priors.items()}
    priors |= {law.population_name(name): prior for name, prior in law.priors.items()}
    priors |= rows.errors
    return {n: priors[n].constrain(v) if n in priors else np.exp(v) for n, v in unconstrained.items()}


def _model_effect(
    rows: Design,
    flat: dict[str, np.ndarray],
    whitened: np.ndarray | None,
    coords: dict[str, tuple[str, ...]],
    seed: int,
) -> np.ndarray:
    """Draw the models' effects, which the sampler integrated out, given each draw of the rest."""
    law = rows.law
    log_raw = {c: v + law.log_reference.get(c, 0.0) for c, v in rows.log_covariates.items()}
    mean = Curve(law, flat, coords).log_response(log_raw, rows.index)
    rng = np.random.default_rng([seed, 0])
    normal = {level.name: rng.standard_normal((len(mean), level.size)) for level in rows.levels}
    if whitened is not None:  # the effects that noisy rows share are among what was sampled
        values, start = whitened.reshape(len(mean), -1), len(rows.latent["latent_row"])
        for level in rows.levels:
            groups = rows.latent[f"latent_{level.name}"]
            normal[level.name][:, groups] = values[:, start : start + len(groups)]
            start += len(groups)
    return sample_effects(
        rows.log_response - mean,
        np.square(flat["sigma"])[:, None] + rows.variance,
        rows.levels,
        {level.name: np.square(flat[f"{level.name}_sd"]) for level in rows.levels},
        normal,
    )["model"]


def _kept(rows: Design) -> pl.DataFrame:
    covariates = [COVARIATES[symbol] for symbol in rows.law.covariates]
    return rows.frame.select(list(dict.fromkeys([*_KEPT, *covariates, "qid_se", rows.law.response])))
