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
from qidbayes.infer.assemble import assemble
from qidbayes.infer.convergence import convergence
from qidbayes.infer.diagnose import diagnose
from qidbayes.infer.inputs import Inputs, inputs
from qidbayes.infer.power_prior import fit_hash, power_prior
from qidbayes.infer.sampling import sample
from qidbayes.infer.settings import Settings
from qidbayes.law import Law, load_law
from qidbayes.law.law import column_of
from qidbayes.noise.unknown_tokens import UNKNOWN
from qidbayes.posterior.constants import dimensions
from qidbayes.posterior.contraction import judged
from qidbayes.posterior.fit import Fit
from qidbayes.posterior.posterior import Posterior
from qidbayes.process import note
from qidbayes.progress import Progress, shows_progress
from qidbayes.table.digest import validated_hash
from qidbayes.table.frames import Table
from qidbayes.table.given import as_table
from qidbayes.table.own_error import ERRORS

FIRST, MOST = 1_000, 4_000
"""Draws of each chain that nobody gave a number of, and how many they may become."""
_VERSIONS = ("qidbayes", "pymc", "pytensor", "numpyro", "jax", "numpy", "arviz")
_KEPT = ("suite", "model", "revision", "n_params", "tokens", "method", "bits", "group_size", "dataset", "source",
         "loss_16bit")  # fmt: skip


@shows_progress("sampling")
def fit(
    table: Table,
    law: str | os.PathLike[str] | Law,
    *,
    draws: int | None = None,
    tune: int = 1000,
    chains: int = 4,
    target_accept: float = 0.9,
    random_seed: int | None = None,
    prior_from: Fit | None = None,
    prior_weight: float = 1.0,
    progress: Progress | bool | None = None,
) -> Fit:
    """Sample the posterior of a law given a measurement table.

    Of a law with a discrepancy, the constants that it is linear in are integrated out, and chains propose the rest from
    a mixture that follows its posterior (`qidbayes.infer.sampling`). Otherwise, or where that goes badly, the PyMC
    model of the law (`build_model`) is sampled by NumPyro's NUTS on JAX in 64 bits. The first fit of a law then
    compiles a program, which later fits of the same law to data of the same shape reuse, also in other processes.

    Parameters
    ----------
    table
        Measurements, of any form that `read_table` takes: a frame, a file, the name of a shipped table. A QiD law uses
        every row with a QiD, a 16-bit law one row for each checkpoint; failed cells are left out and counted in
        ``fit.attributes["left_out"]``.
    law
        A `Law`, the name of a shipped one, or a TOML file.
    draws
        Kept draws of each chain. If not given, 1,000, and as many again, up to 4,000, while R-hat or ESS is out of
        bounds.
    tune, chains
        Warm-up transitions of each chain under NUTS, and the number of chains.
    target_accept
        Of NUTS, the acceptance probability the step size is adapted to. If transitions diverge, the run is repeated
        with 0.97, 0.99 and 0.997; what was used in the end is in ``fit.attributes``.
    random_seed
        The same seed gives the same draws on the same machine. One is drawn, and kept, if it is not given.
    prior_from, prior_weight
        A fit of the same law whose posterior, of the parameters and the noise, is the prior here in the place of the
        law's own; raised to the power of the weight, in (0, 1], so that each of its rows counts for as much of a row.
        The posterior is taken as normal on the real line. Both are recorded in ``fit.attributes["prior_from"]``.
    progress
        A bar shows how far the sampling is, on a terminal and in a notebook; False shows none, True one elsewhere too.
        Or what is to be called with the transitions done and their total.

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
    progress = progress if callable(progress) else None
    settings = _settings(draws, tune, chains, target_accept, random_seed)
    law = law if isinstance(law, Law) else load_law(law)
    # Refused before the sampling: what is no table, and constants that could not be reported.
    table = as_table(table, "table")
    dimensions(law)
    hash_ = validated_hash(table)
    rows = _rows(table, law, prior_from, prior_weight)
    law, base = rows.law, None
    if law.loss_16bit:  # the two posteriors are independent, and so must their draws be
        base = fit(
            table, law.loss_16bit, draws=draws, tune=tune, chains=chains, target_accept=target_accept,
            random_seed=(settings.random_seed + 1) % 2**32, progress=progress or False,
        )  # fmt: skip
        law = replace(law, loss_16bit=base.law)
    found = sample(rows, settings, progress)
    numbers = assemble(rows, law, found, settings.random_seed)
    if rows.unknown[1]:  # which were drawn anew since
        anew = numbers.flat[UNKNOWN].reshape(chains, -1, len(rows.unknown[1]))
        found = replace(found, convergence={**found.convergence, **convergence(rows, {UNKNOWN: np.log(anew)})})
    diagnostics = judged(diagnose(rows, found), law, numbers.flat, numbers.coords)
    for doubt in diagnostics.doubts:
        warnings.warn(doubt, DataWarning, skip_file_prefixes=(str(Path(__file__).parents[1]),))
    kept = found.stats["diverging"].shape[1]
    return Fit(
        law=law,
        draws={name: v.reshape(chains, kept, *v.shape[1:]) for name, v in numbers.flat.items()},
        dims=numbers.dims,
        coords=numbers.coords,
        stats=found.stats,
        data=_kept(rows),
        diagnostics=diagnostics.with_part("loss_16bit", base.diagnostics) if base else diagnostics,
        attributes={
            "random_seed": settings.random_seed,
            "draws": kept,
            "tune": tune,
            "chains": chains,
            "target_accept": found.target_accept,
            "sampler": found.sampler,
            "table_hash": hash_,
            "law_fingerprint": law.fingerprint(),
            "left_out": dict(rows.left_out),
            "prior_from": {"fit_hash": fit_hash(prior_from), "weight": prior_weight} if prior_from else None,
            "versions": {name: version(name) for name in _VERSIONS},
        },
        loss_16bit=base,
    )


def _settings(draws: int | None, tune: int, chains: int, target_accept: float, random_seed: int | None) -> Settings:
    """Return the settings, refusing those out of range, with a seed if none is given."""
    first, most = (FIRST, MOST) if draws is None else (draws, draws)
    for name, value, least in (("draws", first, 4), ("tune", tune, 100), ("chains", chains, 1)):
        if not isinstance(value, int) or value < least:
            raise InputError(f"{name} must be a whole number of at least {least}, not {value!r}")
    if not 0.5 <= target_accept < 1:
        raise InputError(f"target_accept must be at least 0.5 and below 1, not {target_accept!r}")
    seed = secrets.randbits(31) if random_seed is None else random_seed
    if not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise InputError(f"random_seed must be a whole number from 0 to 2³² − 1, not {random_seed!r}")
    return Settings(first, most, tune, chains, target_accept, seed)


def _rows(table: pl.DataFrame, law: Law, prior_from: Posterior | None, prior_weight: float) -> Inputs:
    """Return the rows that a law is fitted to, with another fit's posterior as the prior if there is one."""
    rows = inputs(table, law.with_reference(prior_from.law.reference) if prior_from else law)
    if prior_from is not None:
        return replace(rows, power_prior=power_prior(rows.law, rows.coords, rows.errors, prior_from, prior_weight))
    if rows.frame.height == 1:
        raise InputError(
            "nothing tells the law from the error of a single row; give more rows, or a fit of others as prior_from"
        )
    return rows


def _kept(rows: Inputs) -> pl.DataFrame:
    covariates = [column_of(symbol) for symbol in rows.law.covariates]
    told = [name for name in ERRORS[rows.law.response] if name in rows.frame.columns]
    errors = ["qid_se", *(name for name in told if rows.frame[name].null_count() < rows.frame.height)]
    of_noise = [name for name in rows.noise.asked if name in rows.frame.columns]
    return rows.frame.select(list(dict.fromkeys([*_KEPT, *of_noise, *covariates, *errors, rows.law.response])))
