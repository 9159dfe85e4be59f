"""The posterior given a few rows of one's own, by importance sampling on a fit's draws instead of a fit anew.

Each draw θ of the fit gets the weight p(own rows | fitted rows, θ), a normal density in which everything that is normal
given θ is integrated out (`qidbayes.posterior.families_given`). The weights are smoothed by a generalised Pareto
distribution, whose shape k tells whether they can be trusted (`qidbayes.posterior.smoothed`). The draws are resampled
by them, what only the own rows have is drawn given these, and the own rows join the fitted ones, on which answers are
conditioned exactly.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from qidbayes.errors import InputError
from qidbayes.noise.families import Families
from qidbayes.posterior.contraction import judged
from qidbayes.posterior.families_given import OwnRows, given_rows
from qidbayes.posterior.joint import joint
from qidbayes.posterior.own_rows import own_table, usable
from qidbayes.posterior.posterior import Posterior
from qidbayes.posterior.smoothed import smoothed
from qidbayes.seeds import Stream, generator
from qidbayes.table.frames import Table

MOST_K = 0.7
"""The largest Pareto k whose weights are trusted."""
LEAST_ESS = 50.0
"""The least effective number of draws that answers may rest on."""
_FEW = 200.0
"""An effective number of draws below which more is integrated out, if that can be."""
_ROUNDS = (0, 400, 1200)
"""In the first round the effects that all suites share are as drawn, then they are integrated out of so many draws."""
_DRAWS = 1000
_NUMBERS = 20_000_000


@dataclass(frozen=True)
class Weighted:
    """Draws by their weights.

    Attributes
    ----------
    source
        Draws of the fit.
    completed
        Takes numbers of draws; returns their draws with what the own rows bring.
    weight
        Of each draw; they add up to 1.
    k, ess
        Pareto's k, and how many of the sampler's draws they are worth.
    """

    source: Posterior
    completed: Callable[[np.ndarray], dict[str, np.ndarray]]
    weight: np.ndarray
    k: float
    ess: float

    def is_trusted(self, least: float) -> bool:
        """Return whether answers may rest on them."""
        return self.k <= MOST_K and self.ess >= least


def condition[P: Posterior](fit: P, rows: Table) -> P:
    """Return a fit given further rows; see `Fit.condition`."""
    for (suite,), part in own_table(fit, rows).group_by("suite", maintain_order=True):
        fit = _given_suite(fit, part, str(suite))
    return fit


def _given_suite[P: Posterior](fit: P, rows: pl.DataFrame, suite: str) -> P:
    rows, left_out = usable(fit, rows, suite)
    found = weighted(fit, rows, suite)
    if not found.is_trusted(LEAST_ESS):
        raise InputError(
            f"the {rows.height} rows of suite {suite!r} say too much that the fit did not expect for its draws to be "
            f"weighted by them (Pareto k {found.k:.2f}, at most {MOST_K}; {found.ess:.0f} effective draws, at least "
            f"{LEAST_ESS:.0f}): give fewer rows, or fit all rows together, "
            f"`qidbayes fit {'atlas' if fit.law.name == 'atlas' else 'TABLE'} FILE --law {fit.law.name}`"
        )
    source = found.source
    draws = found.completed(_chosen(found.weight, int(fit.attributes["random_seed"])))
    stats = {name: np.broadcast_to(values.reshape(-1)[:1], (1, _DRAWS)).copy() for name, values in fit.stats.items()}
    given = (
        *fit.attributes.get("conditioned_on", ()),
        {"suite": suite, "rows": rows.height, "left_out": left_out, "pareto_k": found.k, "ess": found.ess},
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


def weighted(fit: Posterior, rows: pl.DataFrame, suite: str) -> Weighted:
    """Return draws of a fit by the density that each gives usable rows of one suite, trusted or not."""
    return _of_families(own_rows(fit, rows, suite)) if isinstance(fit.noise, Families) else _of_one_table(fit, rows)


def _of_one_table(fit: Posterior, rows: pl.DataFrame) -> Weighted:
    source = fit.thinned(min(1000, max(200, int(_NUMBERS / rows.height**2))))
    log_weight = joint(source, source.curve(), _asked(source, rows)).log_density(*_measured(rows))[:, 0]
    return _weighed(source, log_weight, lambda chosen: {name: source.flat(name)[chosen] for name in source.draws})


def own_rows(fit: Posterior, rows: pl.DataFrame, suite: str) -> OwnRows:
    """Return usable rows of one suite as a fit of families takes them in."""
    seed = int(fit.attributes["random_seed"])
    return OwnRows(fit, suite, _asked(fit, rows), *_measured(rows), generator(seed, Stream.NEW_GROUPS, 1))


def _of_families(own: OwnRows) -> Weighted:
    """Return draws of the fit by their weights, the best of a few rounds in which more and more is integrated out."""
    tokens, best = None, None
    for integrated in _ROUNDS:
        given = given_rows(own, tokens, integrated)
        found = _weighed(given.source, given.log_weight, given.completed)
        if best is None or (found.k <= MOST_K, found.ess) > (best.k <= MOST_K, best.ess):
            best = found
        if best.is_trusted(LEAST_ESS if integrated else _FEW):
            break
        tokens = given.tokens(found.weight) if own.untold else None
    assert best is not None
    return best


def _origins(source: Posterior) -> np.ndarray:
    """Return which draw of the sampler each draw comes from: rows taken in before have resampled some several times."""
    law = source.law
    names = ("sigma", *(law.sampled_name(name) for name in law.priors))
    sampled = [source.flat(name).reshape(source.stats["lp"].size, -1) for name in names]
    return np.unique(np.concatenate(sampled, axis=1), axis=0, return_inverse=True)[1].reshape(-1)


def _weighed(
    source: Posterior, log_weight: np.ndarray, completed: Callable[[np.ndarray], dict[str, np.ndarray]]
) -> Weighted:
    log_share, k = smoothed(log_weight)
    weight = np.exp(log_share) / np.exp(log_share).sum()
    return Weighted(source, completed, weight, k, float(1.0 / np.square(np.bincount(_origins(source), weight)).sum()))


def _chosen(weight: np.ndarray, seed: int) -> np.ndarray:
    """Return numbers of draws, as often as their weights say."""
    rng = generator(seed, Stream.NEW_GROUPS, 2)
    at = (np.arange(_DRAWS) + rng.uniform()) / _DRAWS
    return np.asarray(rng.permutation(np.minimum(np.searchsorted(np.cumsum(weight), at), len(weight) - 1)))
