"""Simulation-based calibration: does the sampler return the posterior of the model that the documentation states?

Draw parameters from the priors, simulate a table from them, fit the table, and rank the true parameters among the
posterior's draws. If the simulator and the sampler use the same model, the rank of any function of parameters and table
is uniform over many simulations (Talts et al. 2018, arXiv:1804.06788; Modrák et al. 2023, doi:10.1214/23-BA1404).

The simulator and the likelihood share no code: the simulator draws every random effect and adds it to its rows, and the
likelihood integrates the random effects out.
"""

import dataclasses
import warnings
from collections.abc import Iterable, Mapping
from typing import get_args

import numpy as np
import polars as pl

from qidbayes.errors import AssumptionWarning, DiagnosticsWarning
from qidbayes.infer.fit import fit
from qidbayes.infer.inputs import Inputs, inputs
from qidbayes.infer.problem import Problem
from qidbayes.infer.spec import describe
from qidbayes.law import Law
from qidbayes.law.evaluate import evaluate_log
from qidbayes.law.prior import SPREAD_LOG_SD
from qidbayes.posterior.diagnostics import number
from qidbayes.posterior.fit import Fit, Kind
from qidbayes.posterior.predictive_noise import TRUE_LOG_QID
from qidbayes.seeds import Stream, generator
from qidbayes.table.groups import dimension

KEPT = 100
"""How many draws the truth is ranked among."""
_NEARLY_INDEPENDENT = 2 * KEPT
"""With this effective sample size, `KEPT` evenly spaced draws are nearly independent."""
_LONGEST = 16_000


@dataclasses.dataclass(frozen=True)
class Simulated:
    """A table whose truth is known.

    Attributes
    ----------
    table
        The rows of a real design, with a simulated response.
    truth
        The true parameters, named as a fit's draws are: parameters at the reference point, constants in raw counts,
        standard deviations of the noise, and the models' random effects; shape ``()`` or ``(groups,)``.
    """

    table: pl.DataFrame
    truth: Mapping[str, np.ndarray]


def simulate(table: pl.DataFrame, law: Law, random_seed: int) -> Simulated:
    """Draw a truth from a law's priors, and a response for the rows of a table from the truth.

    Tables with a response beyond the range of a float are drawn again. That choice depends on the data alone, so ranks
    stay uniform.

    Parameters
    ----------
    table
        Says which models, checkpoints and bit widths are measured, and with which standard errors.
    law
        The law and its priors, those of the noise among them.
    random_seed
        The same seed gives the same table.

    Examples
    --------
    >>> from qidbayes.law import load_law
    >>> from qidbayes.table import load_table
    >>> law = load_law("unified").with_noise(discrepancy="none")
    >>> found = simulate(load_table("pythia"), law, random_seed=0)
    >>> found.table.height, sorted(found.truth)
    (360, ['alpha', 'beta', 'checkpoint_sd', 'gamma', 'k', 'k_ref', 'model_effect', 'model_sd', 'sigma'])
    """
    rng = generator(random_seed, Stream.SIMULATION)  # which no fit with this seed draws from
    rows = inputs(table, law)
    while True:
        truth, response = _draw(rows, rng)
        if np.isfinite(response).all():
            break
    return Simulated(measured(rows.frame, law.response, response), truth)


def measured(frame: pl.DataFrame, response: str, values: np.ndarray) -> pl.DataFrame:
    """Return the rows that a law is fitted to with simulated responses, and nothing that contradicts them."""
    frame = frame.with_columns(pl.Series(response, values))
    if response != "loss":
        # Of the three losses two give the third; a simulated QiD says nothing of the other two.
        unknown = ("loss", "loss_16bit") if response == "qid" else ("loss",)
        return frame.with_columns(**dict.fromkeys(unknown, pl.lit(None, pl.Float64)))
    # A row of a loss has QiD as well. Where no 16-bit loss is simulated, that is of no law, and says nothing.
    base = pl.when(pl.col("method") == "none").then("loss").max()
    base = base.over("suite", "model", "revision", "tokens", "dataset").fill_null(pl.col("loss"))
    quantized = pl.col("method") != "none"
    # A table says 16 bits where a law says infinity.
    frame = frame.with_columns(loss_16bit=base, bits=pl.when(quantized).then("bits").otherwise(16.0))
    return frame.with_columns(
        loss=pl.when(quantized).then("loss"), qid=pl.when(quantized).then(pl.col("loss") - pl.col("loss_16bit"))
    )


def _draw(rows: Inputs, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return a truth and a response of every row."""
    law, problem = rows.law, Problem(rows)
    x: list[np.ndarray] = []
    populations: dict[str, np.ndarray] = {}
    for (name, prior), size in zip(law.priors.items(), problem.sizes, strict=True):
        if prior.spread is None:
            x.append(prior.unconstrain(prior.sample(size, rng)))
            continue
        population = prior.unconstrain(prior.sample(1, rng))
        sd = np.exp(rng.normal(np.log(prior.spread), SPREAD_LOG_SD))
        populations |= {law.population_name(name): prior.constrain(population)[0], law.spread_name(name): sd}
        x.append(population + sd * rng.standard_normal(size))
    truth = {name: values[0] for name, values in problem.constants(np.concatenate(x)[None]).items()} | populations
    truth |= {name: prior.sample(1, rng)[0] for name, prior in rows.errors.items()}
    log_true = _log_mean(rows, truth)
    shared, effects = rows.noise.simulate(truth, rows.coordinates, rng)
    truth |= effects
    own = rows.noise.own_errors(truth, rows.coordinates, len(log_true), rng)
    true = np.exp(log_true + shared + own)
    return truth, true + rows.error * rng.standard_normal(len(true))


def _log_mean(rows: Inputs, truth: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the logarithm of the law's response, shape ``(rows,)``, from constants at the reference point.

    Those in raw counts may be beyond what a float holds.
    """
    law = rows.law
    scope = law.scope(np, logs=rows.log_covariates)
    for name, prior in law.priors.items():
        value = truth[law.sampled_name(name)]
        scope.set(name, value=value[rows.index[dimension(prior.by)]] if prior.by else value)
    with np.errstate(over="ignore"):
        return np.broadcast_to(evaluate_log(law.expression, scope), rows.log_response.shape)


def calibrate(
    table: pl.DataFrame, law: Law, random_seeds: Iterable[int], *, thresholds: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Simulate and refit once for each seed, and return where among the draws each truth lies.

    Parameters
    ----------
    table, law
        As in `simulate`.
    random_seeds
        One simulation each; the same seed gives the same row, whatever the others are.
    thresholds
        Questions of `Fit.tokens_to_threshold`, a row each with its threshold `qid`, to rank the answers of: for the
        law's curve (``response_params``) and for a newly measured checkpoint (``response``).

    Returns
    -------
    polars.DataFrame
        A row for each simulation: ``seed``, ``divergences`` and the smallest bulk ESS ``ess`` of the fit, and for each
        quantity the truth's rank over the number of draws, between 0 and 1 and spread evenly over its rank's share (so
        that it is exactly uniform). The quantities are every number of the fit, the answers to `thresholds`, and the
        log likelihood, which notices a posterior that passes over some of the data.
    """
    found = []
    for seed in random_seeds:
        drawn = simulate(table, law, seed)
        posterior = _posterior(drawn.table, law, seed)
        truth = dataclasses.replace(
            posterior,
            draws={name: np.asarray(values)[None, None] for name, values in drawn.truth.items()},
            stats={name: values[:, :1] for name, values in posterior.stats.items()},
            attributes={"random_seed": seed + 2**32},  # which no fit can have
        )
        rows = inputs(drawn.table, law)
        rng = generator(seed, Stream.RANK_TIES)
        ess = min(c.ess_bulk for c in posterior.diagnostics.convergence.values())
        row: dict[str, float] = {"seed": seed, "divergences": posterior.diagnostics.divergences, "ess": ess}
        values, true = (
            {**_numbers(fit), **_answers(fit, thresholds), "log_likelihood": _log_likelihood(rows, fit)}
            for fit in (posterior, truth)
        )
        found.append(row | {name: _rank(true[name][0], draws, rng) for name, draws in values.items()})
    return pl.DataFrame(found)


def _posterior(table: pl.DataFrame, law: Law, seed: int) -> Fit:
    """Fit with so many draws that `KEPT` of them, evenly spaced, are nearly independent, and keep those."""
    draws = 10 * KEPT
    found = fit(table, law, chains=1, draws=draws, random_seed=seed, progress=False)
    while min(c.ess_bulk for c in found.diagnostics.convergence.values()) < _NEARLY_INDEPENDENT and draws < _LONGEST:
        draws *= 4
        found = fit(table, law, chains=1, draws=draws, random_seed=seed, progress=False)
    kept = slice(None, None, draws // KEPT)
    return dataclasses.replace(
        found,
        draws={name: values[:, kept] for name, values in found.draws.items()},
        stats={name: values[:, kept] for name, values in found.stats.items()},
    )


def _numbers(fit: Fit) -> dict[str, np.ndarray]:
    """Return every number of a fit by its label; shape ``(draws,)``."""
    found: dict[str, np.ndarray] = {}
    for name, values in fit.draws.items():
        if name == TRUE_LOG_QID:  # of rows too noisy for a logarithm, which are others in every table
            continue
        groups = fit.coords[fit.dims[name]] if name in fit.dims else (None,)
        columns = values.reshape(-1, len(groups))
        found |= {number(name, group): columns[:, i] for i, group in enumerate(groups)}
    return found


def _answers(fit: Fit, thresholds: pl.DataFrame | None) -> dict[str, np.ndarray]:
    """Return the logarithm of the tokens at which each draw reaches each threshold; shape ``(draws,)``."""
    if thresholds is None:
        return {}
    found: dict[str, np.ndarray] = {}
    for kind in get_args(Kind.__value__):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DiagnosticsWarning)  # an answer from the prior is calibrated too
            warnings.simplefilter("ignore", AssumptionWarning)
            tokens = fit.log_tokens_draws(thresholds, kind)
        tokens = tokens[:: len(tokens) // fit.stats["lp"].size]  # one deviate a draw: those of one draw are alike
        found |= {f"tokens_to_threshold[{q:g} | {kind}]": tokens[:, i] for i, q in enumerate(thresholds["qid"])}
    return found


def _log_likelihood(rows: Inputs, fit: Fit) -> np.ndarray:
    """Return the log likelihood of the rows by each draw; shape ``(draws,)``.

    Rows too noisy for a logarithm enter as pseudo-observations on the log scale: calibration holds for any function of
    truth and table, so that it need not be the exact likelihood.
    """
    draws = {name: values[0] for name, values in fit.draws.items()}
    arrays = rows.row_data
    where, found = describe(rows, arrays), []
    for i in range(len(draws["sigma"])):
        one = {name: values[i] for name, values in draws.items()}
        residual = rows.log_response - _log_mean(rows, one)
        variance = one["sigma"] ** 2 + rows.variance
        if where.blocks:  # whose order the density takes them in
            residual, variance = residual[rows.partition.order], variance[rows.partition.order]
        found.append(rows.noise.log_density(residual, variance, one, where, arrays, np))
    return np.array(found)


def _rank(true: np.ndarray, draws: np.ndarray, rng: np.random.Generator) -> float:
    """Return the truth's rank among the draws as a number between 0 and 1, its ties broken at random."""
    # A constant in raw counts may be beyond what a float holds, as a draw and as a truth alike.
    true, draws = np.where(np.isnan(true), np.inf, true), np.where(np.isnan(draws), np.inf, draws)
    rank = (draws < true).sum() + rng.uniform() * ((draws == true).sum() + 1)
    return float(rank / (len(draws) + 1))
