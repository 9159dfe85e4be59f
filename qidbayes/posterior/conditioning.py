"""The posterior given a few rows of one's own, by importance sampling on a fit's draws instead of a fit anew.

Each draw θ of the fit gets the weight p(own rows | fitted rows, θ), a normal density in which everything that is normal
given θ is integrated out; a suite that was not fitted brings draws of what is its own (how noisy it is, effects of its
methods and data sets, tokens that nobody tells). The weights are smoothed by a generalised Pareto distribution (Vehtari
et al. 2024, arXiv:1507.02646), whose shape k tells whether they can be trusted. The draws are resampled by them, and
the own rows join the fitted ones, on which answers are conditioned exactly.
"""

import warnings
from dataclasses import replace

import numpy as np
import polars as pl

from qidbayes.errors import InputError
from qidbayes.noise.coordinates import Fitted
from qidbayes.noise.families import SHARED_EFFECT, Families
from qidbayes.noise.family_kernel import SUITE_SCALE, new_scales
from qidbayes.noise.unknown_tokens import UNKNOWN
from qidbayes.posterior.contraction import judged
from qidbayes.posterior.joint import joint
from qidbayes.posterior.posterior import Posterior
from qidbayes.seeds import Stream, generator
from qidbayes.table.frames import Table
from qidbayes.table.given import as_table

MOST_K = 0.7
"""The largest Pareto k whose weights are trusted."""
LEAST_ESS = 50.0
"""The least effective number of draws that answers may rest on."""
NOISIEST = 0.2
"""The largest qid_se / QiD whose logarithm is near enough to normal."""
_ASIDE = "\0 own rows"
_DRAWS = 1000
_WEIGHED = 8000
_NUMBERS = 20_000_000


def condition[P: Posterior](fit: P, rows: Table) -> P:
    """Return a fit given further rows; see `Fit.condition`."""
    for (suite,), part in as_table(rows, "own rows").group_by("suite", maintain_order=True):
        fit = _given_suite(fit, part, str(suite))
    return fit


def _given_suite[P: Posterior](fit: P, rows: pl.DataFrame, suite: str) -> P:
    quantized = rows.filter(pl.col("method") != "none").height
    rows = _usable(fit, rows, suite)
    source = _expanded(fit, rows, suite)
    qid = rows["qid"].to_numpy()
    error = rows["qid_se"].fill_null(0.0).to_numpy() / qid
    names = [name for name in fit.data.columns if name in rows.columns and name not in ("qid", "qid_se", "source")]
    together = joint(source, source.curve(), rows.select(names))
    log_weight = together.log_density(np.log(qid), error**2)[:, 0]
    chosen, k, ess = _resampled(log_weight, _origins(source), int(fit.attributes["random_seed"]))
    if not (k <= MOST_K and ess >= LEAST_ESS):
        raise InputError(
            f"the {rows.height} rows of suite {suite!r} say too much that the fit did not expect for its draws to be "
            f"weighted by them (Pareto k {k:.2f}, at most {MOST_K}; {ess:.0f} effective draws, at least "
            f"{LEAST_ESS:.0f}): give fewer rows, or fit all rows together, "
            f"`qidbayes fit {'atlas' if fit.law.name == 'atlas' else 'TABLE'} FILE --law {fit.law.name}`"
        )
    data = pl.concat([fit.data, rows.select(fit.data.columns)], how="vertical_relaxed")
    stats = {
        name: np.broadcast_to(values.reshape(-1)[:1], (1, len(chosen))).copy() for name, values in fit.stats.items()
    }
    given = (
        *fit.attributes.get("conditioned_on", ()),
        {"suite": suite, "rows": rows.height, "left_out": quantized - rows.height, "pareto_k": k, "ess": ess},
    )
    draws = {name: source.flat(name)[chosen] for name in source.draws}
    return replace(
        fit,
        diagnostics=judged(fit.diagnostics, fit.law, draws, source.coords),
        draws={name: values[None] for name, values in draws.items()},
        coords=source.coords,
        dims=source.dims,
        stats=stats,
        data=data,
        attributes={**fit.attributes, "conditioned_on": given},
    )


def _usable(fit: Posterior, rows: pl.DataFrame, suite: str) -> pl.DataFrame:
    """Return the rows with a QiD, refusing those that no normal density of its logarithm describes."""
    if fit.law.response != "qid":
        raise InputError(f"a fit of law {fit.law.name!r} is not of QiD, and is not conditioned on rows of it")
    rows = rows.filter(pl.col("qid").is_not_null(), pl.col("status") == "ok", pl.col("method") != "none")
    if rows.is_empty():
        raise InputError(f"no row of suite {suite!r} has a QiD to condition on")
    noisy = rows.filter((pl.col("qid") <= 0) | (pl.col("qid_se").fill_null(0.0) > NOISIEST * pl.col("qid")))
    if noisy.height:
        first = noisy.row(0, named=True)
        raise InputError(
            f"{noisy.height} of {rows.height} rows of suite {suite!r} have a QiD of 0 or below, or a qid_se above "
            f"{NOISIEST:.0%} of it (first: {first['model']}, {first['method']} {first['bits']:g} bits, QiD "
            f"{first['qid']:g}): leave them out and say so, or fit all rows together"
        )
    rows = rows.with_columns(pl.col(n).cast(t) for n, t in fit.data.schema.items() if n in rows.columns)
    # Under whatever suite: a row that is counted twice makes bands too narrow.
    cell = [c for c in ("model", "tokens", "method", "bits", "group_size", "dataset", "qid") if c in fit.data.columns]
    same = rows.join(fit.data, on=cell, how="semi", nulls_equal=True)
    if same.height:
        raise InputError(f"{same.height} of the rows of suite {suite!r} are in the fit already: leave them out")
    return rows.with_columns(
        pl.lit(None, dtype=t).alias(n) for n, t in fit.data.schema.items() if n not in rows.columns
    )


def _expanded(fit: Posterior, rows: pl.DataFrame, suite: str) -> Posterior:
    """Return the draws to be weighted, each of the fit's several times, with draws of what is new in the rows."""
    if not isinstance(fit.noise, Families):
        return fit.thinned(min(1000, max(200, int(_NUMBERS / rows.height**2))))
    total = min(_WEIGHED, max(500, int(_NUMBERS / rows.height**2)))
    few = fit.thinned(min(total, fit.stats["lp"].size))
    each = -(-total // few.stats["lp"].size)
    draws = {name: np.repeat(few.flat(name), each, axis=0)[None] for name in few.draws}
    stats = {name: np.repeat(values, each, axis=1) for name, values in few.stats.items()}
    found = replace(few, draws=draws, stats=stats)
    rng = generator(int(fit.attributes["random_seed"]), Stream.NEW_GROUPS, 1)
    flat = {name: found.flat(name) for name in found.draws}
    coords = dict(fit.coords)
    if suite not in coords["suite"]:
        flat[SUITE_SCALE] = np.c_[flat[SUITE_SCALE], new_scales(flat["suite_scale_sd"])]
        coords["suite"] = (*coords["suite"], suite)
    data = pl.concat([fit.data, rows.select(fit.data.columns)], how="vertical_relaxed")
    before, after = Fitted(fit.data), Fitted(data)
    flat[SHARED_EFFECT] = fit.noise.extended(flat, before, after, rng)
    coords["effect"] = fit.noise.labels(after)
    untold = rows.filter(pl.col("tokens").is_null())["model"].unique(maintain_order=True).to_list()
    untold = [model for model in untold if model not in coords.get("untold", ())]
    dims = dict(fit.dims)
    if untold:
        new = np.exp(found.log_tokens_of(pl.DataFrame({"tokens": [None] * len(untold)}, schema={"tokens": pl.Float64})))
        flat[UNKNOWN] = np.c_[flat[UNKNOWN], new] if UNKNOWN in flat else new
        coords["untold"], dims[UNKNOWN] = (*coords.get("untold", ()), *untold), "untold"
    # Methods and data sets of the further rows are known by name, while the rows themselves are asked about.
    aside = pl.concat([fit.data, data[fit.data.height :].with_columns(suite=pl.lit(_ASIDE))])
    return replace(found, draws={n: v[None] for n, v in flat.items()}, coords=coords, dims=dims, data=aside)


def _origins(source: Posterior) -> np.ndarray:
    """Return which draw of the sampler each draw comes from: rows taken in before have resampled some several times."""
    law = source.law
    names = ("sigma", *(law.sampled_name(name) for name in law.priors))
    sampled = [source.flat(name).reshape(source.stats["lp"].size, -1) for name in names]
    return np.unique(np.concatenate(sampled, axis=1), axis=0, return_inverse=True)[1].reshape(-1)


def _resampled(log_weight: np.ndarray, origins: np.ndarray, seed: int) -> tuple[np.ndarray, float, float]:
    """Return numbers of draws by their smoothed weights, the Pareto k, and how many of the sampler's they are worth."""
    from arviz_stats.base import array_stats

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # k is judged by who asks
        try:
            smoothed, k = array_stats.psislw(-log_weight)  # which takes a log likelihood to be left out
        except ValueError:  # so few draws are left that all in the tail have one weight, which has no k
            smoothed, k = log_weight, np.inf
    weight = np.exp(np.asarray(smoothed) - np.max(smoothed))
    weight /= weight.sum()
    rng = generator(seed, Stream.NEW_GROUPS, 2)
    at = (np.arange(_DRAWS) + rng.uniform()) / _DRAWS
    chosen = np.minimum(np.searchsorted(np.cumsum(weight), at), len(weight) - 1)
    return rng.permutation(chosen), float(k), float(1.0 / np.square(np.bincount(origins, weight)).sum())
