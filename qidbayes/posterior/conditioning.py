"""The posterior given a few rows of one's own, by importance sampling on a fit's draws instead of a fit anew.

Each draw θ of the fit gets the weight p(own rows | fitted rows, θ), a normal density in which everything that is normal
given θ is integrated out. So are what only the own rows have: effects of their methods and data sets in closed form, how
noisy their suite is on a grid (`qidbayes.noise.suite_rows`); both are drawn afterwards, given the rows. Tokens that
nobody tells are drawn before. The weights are smoothed by a generalised Pareto distribution, whose shape k tells
whether they can be trusted (`qidbayes.posterior.smoothed`). The draws are resampled by them, and the own rows join the
fitted ones, on which answers are conditioned exactly.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from qidbayes.errors import InputError
from qidbayes.noise.coordinates import Fitted
from qidbayes.noise.families import SHARED_EFFECT, Families
from qidbayes.noise.family_conditioned import FamilyResiduals
from qidbayes.noise.family_kernel import SUITE_SCALE
from qidbayes.noise.unknown_tokens import BETWEEN, UNKNOWN
from qidbayes.posterior import query
from qidbayes.posterior.contraction import judged
from qidbayes.posterior.joint import joint
from qidbayes.posterior.own_rows import usable
from qidbayes.posterior.posterior import Posterior
from qidbayes.posterior.scatter import Scatter
from qidbayes.posterior.smoothed import smoothed
from qidbayes.seeds import Stream, generator
from qidbayes.table.frames import Table
from qidbayes.table.given import as_table

MOST_K = 0.7
"""The largest Pareto k whose weights are trusted."""
LEAST_ESS = 50.0
"""The least effective number of draws that answers may rest on."""
_ASIDE = "\0 own rows"
_DRAWS = 1000
_WEIGHED = 8000
_NUMBERS = 20_000_000
_TOKENS = 8
"""Draws of tokens that nobody tells, for each of the fit's."""

type Draws = dict[str, np.ndarray]


@dataclass(frozen=True)
class _Weighed:
    """Draws with the log density that each gives the own rows.

    Attributes
    ----------
    source
        The draws.
    log_weight
        Shape ``(draws,)``.
    completed
        Takes numbers of draws; returns their draws with what the own rows bring.
    """

    source: Posterior
    log_weight: np.ndarray
    completed: Callable[[np.ndarray], Draws]


def condition[P: Posterior](fit: P, rows: Table) -> P:
    """Return a fit given further rows; see `Fit.condition`."""
    for (suite,), part in as_table(rows, "own rows").group_by("suite", maintain_order=True):
        fit = _given_suite(fit, part, str(suite))
    return fit


def _given_suite[P: Posterior](fit: P, rows: pl.DataFrame, suite: str) -> P:
    rows, left_out = usable(fit, rows, suite)
    weighed = (_of_families if isinstance(fit.noise, Families) else _of_one_table)(fit, rows, suite)
    source = weighed.source
    chosen, k, ess = _resampled(weighed.log_weight, _origins(source), int(fit.attributes["random_seed"]))
    if not (k <= MOST_K and ess >= LEAST_ESS):
        raise InputError(
            f"the {rows.height} rows of suite {suite!r} say too much that the fit did not expect for its draws to be "
            f"weighted by them (Pareto k {k:.2f}, at most {MOST_K}; {ess:.0f} effective draws, at least "
            f"{LEAST_ESS:.0f}): give fewer rows, or fit all rows together, "
            f"`qidbayes fit {'atlas' if fit.law.name == 'atlas' else 'TABLE'} FILE --law {fit.law.name}`"
        )
    draws = weighed.completed(chosen)
    stats = {
        name: np.broadcast_to(values.reshape(-1)[:1], (1, len(chosen))).copy() for name, values in fit.stats.items()
    }
    given = (
        *fit.attributes.get("conditioned_on", ()),
        {"suite": suite, "rows": rows.height, "left_out": left_out, "pareto_k": k, "ess": ess},
    )
    return replace(
        fit,
        diagnostics=judged(fit.diagnostics, fit.law, draws, source.coords),
        draws={name: values[None] for name, values in draws.items()},
        coords=source.coords,
        dims=source.dims,
        stats=stats,
        data=pl.concat([fit.data, rows.select(fit.data.columns)], how="vertical_relaxed"),
        attributes={**fit.attributes, "conditioned_on": given},
    )


def _asked(fit: Posterior, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the own rows as questions: what they measured is not theirs to tell."""
    return rows.select(n for n in fit.data.columns if n in rows.columns and n not in ("qid", "qid_se", "source"))


def _measured(rows: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return log QiD and the variance of its own error."""
    qid = rows["qid"].to_numpy()
    return np.log(qid), np.square(rows["qid_se"].fill_null(0.0).to_numpy() / qid)


def _of_one_table(fit: Posterior, rows: pl.DataFrame, suite: str) -> _Weighed:
    del suite
    source = fit.thinned(min(1000, max(200, int(_NUMBERS / rows.height**2))))
    log_weight = joint(source, source.curve(), _asked(source, rows)).log_density(*_measured(rows))[:, 0]
    return _Weighed(source, log_weight, lambda chosen: {name: source.flat(name)[chosen] for name in source.draws})


def _of_families(fit: Posterior, rows: pl.DataFrame, suite: str) -> _Weighed:
    assert isinstance(fit.noise, Families)
    rng = generator(int(fit.attributes["random_seed"]), Stream.NEW_GROUPS, 1)
    total = min(_WEIGHED, max(500, int(_NUMBERS / rows.height**2)))
    source = _with_tokens(fit, rows, total, rng)
    # Methods and data sets of the further rows are known by name, while the rows themselves are asked about.
    data = pl.concat([fit.data, rows.select(fit.data.columns).with_columns(suite=pl.lit(_ASIDE))], how="vertical_relaxed")
    flat = {name: source.flat(name) for name in source.draws}
    flat[SHARED_EFFECT], spread = fit.noise.extended(flat, Fitted(fit.data), Fitted(data))
    is_new = suite not in fit.coords["suite"]
    coords = {**source.coords, "effect": fit.noise.labels(Fitted(data))}
    coords["suite"] = (*coords["suite"], *([suite] if is_new else ()))
    source = replace(source, draws={name: values[None] for name, values in flat.items()}, coords=coords, data=data)
    curve, log_qid, own = source.curve(), *_measured(rows)
    asked = query.build(curve, _asked(source, rows), {})
    scatter = Scatter(source)
    where = scatter.coordinates(asked.frame, together=True)
    conditioned = scatter.conditioned(curve, where)
    assert isinstance(conditioned, FamilyResiduals)
    law = curve.log_response(asked.log_covariates, asked.index)
    weighed = conditioned.of_one_suite(where, law, own, spread).weighed(log_qid, rng)

    def completed(chosen: np.ndarray) -> Draws:
        found = {name: values[chosen] for name, values in flat.items()}
        z = weighed.draw_z(chosen, rng)
        found[SHARED_EFFECT] = found[SHARED_EFFECT] + weighed.draw_effects(chosen, z, rng)
        if is_new:
            found[SUITE_SCALE] = np.c_[found[SUITE_SCALE], np.exp(found["suite_scale_sd"] * z)]
        return found

    return _Weighed(source, weighed.log_density(), completed)


def _with_tokens(fit: Posterior, rows: pl.DataFrame, total: int, rng: np.random.Generator) -> Posterior:
    """Return draws of a fit, as many as that, with tokens of new models that nobody tells."""
    untold = rows.filter(pl.col("tokens").is_null())["model"].unique(maintain_order=True).to_list()
    untold = [model for model in untold if model not in fit.coords.get("untold", ())]
    each = _TOKENS if untold else 1
    few = fit.thinned(min(total // each, fit.stats["lp"].size))
    if not untold:
        return few
    count = few.stats["lp"].size
    draws = {name: np.repeat(few.flat(name), each, axis=0) for name in few.draws}
    low, high = np.log(BETWEEN)
    # Each draw's go over the whole of it, in an order of their own for each model.
    step = rng.permuted(np.tile(np.arange(each), (count, len(untold), 1)), axis=2) + rng.uniform(
        size=(count, len(untold), each)
    )
    new = np.exp(low + (high - low) * np.swapaxes(step, 1, 2).reshape(-1, len(untold)) / each)
    draws[UNKNOWN] = np.c_[draws[UNKNOWN], new] if UNKNOWN in draws else new
    return replace(
        few,
        draws={name: values[None] for name, values in draws.items()},
        stats={name: np.repeat(values, each, axis=1) for name, values in few.stats.items()},
        coords={**few.coords, "untold": (*few.coords.get("untold", ()), *untold)},
        dims={**few.dims, UNKNOWN: "untold"},
    )


def _origins(source: Posterior) -> np.ndarray:
    """Return which draw of the sampler each draw comes from: rows taken in before have resampled some several times."""
    law = source.law
    names = ("sigma", *(law.sampled_name(name) for name in law.priors))
    sampled = [source.flat(name).reshape(source.stats["lp"].size, -1) for name in names]
    return np.unique(np.concatenate(sampled, axis=1), axis=0, return_inverse=True)[1].reshape(-1)


def _resampled(log_weight: np.ndarray, origins: np.ndarray, seed: int) -> tuple[np.ndarray, float, float]:
    """Return numbers of draws by their smoothed weights, the Pareto k, and how many of the sampler's they are worth."""
    log_share, k = smoothed(log_weight)
    weight = np.exp(log_share)
    weight /= weight.sum()
    rng = generator(seed, Stream.NEW_GROUPS, 2)
    at = (np.arange(_DRAWS) + rng.uniform()) / _DRAWS
    chosen = np.minimum(np.searchsorted(np.cumsum(weight), at), len(weight) - 1)
    return rng.permutation(chosen), k, float(1.0 / np.square(np.bincount(origins, weight)).sum())
