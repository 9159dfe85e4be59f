"""The density that draws of a fit of many families give further rows of one suite, and what the rows say of the rest.

What only the rows have is integrated out: effects of their methods and data sets in closed form, how noisy their suite
is on a grid (`qidbayes.noise.suite_rows`). Where the draws that are left are few, so are the effects that all suites
share (`qidbayes.noise.shared_given`), which takes the fitted rows' matrices for each draw, so of fewer draws. If the
suite has fitted rows, as those given before, these then count as further rows too: the density is that of both, over
that of the fitted ones. Tokens that nobody tells are drawn, flat in log D at first and then as often as the rows say.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import polars as pl

from qidbayes.noise import family_density
from qidbayes.noise.coordinates import Fitted
from qidbayes.noise.families import SHARED_EFFECT, Families
from qidbayes.noise.family_conditioned import FamilyResiduals
from qidbayes.noise.family_kernel import NUMBERS, SHARED, SUITE_SCALE
from qidbayes.noise.shared_given import shared_given
from qidbayes.noise.suite_rows import Weighed
from qidbayes.noise.unknown_tokens import BETWEEN, UNKNOWN
from qidbayes.posterior import query
from qidbayes.posterior.posterior import Posterior
from qidbayes.posterior.predictive_noise import PredictiveNoise

_ASIDE = "\0 own rows"
_MOST = 8000
_NUMBERS = 20_000_000
_EACH = 8
"""Draws of tokens that nobody tells, for each of the fit's."""
_BINS = 12
_FLAT = 0.2
"""What share of tokens that nobody tells is drawn flat whatever the rows say."""


@dataclass(frozen=True)
class OwnRows:
    """Further rows of one suite, and the fit that is to take them in.

    Attributes
    ----------
    fit, suite
        Both.
    asked
        The rows as questions.
    log_qid, own
        What they measured, and the variance of its own error; shape ``(rows,)``.
    rng
        Draws what the rows bring.
    """

    fit: Posterior
    suite: str
    asked: pl.DataFrame
    log_qid: np.ndarray
    own: np.ndarray
    rng: np.random.Generator = field(repr=False)

    @property
    def is_new(self) -> bool:
        """Whether no fitted row is of the suite."""
        return self.suite not in self.fit.coords["suite"]

    @cached_property
    def untold(self) -> tuple[str, ...]:
        """The models that are new and whose tokens nobody tells."""
        models = self.asked.filter(pl.col("tokens").is_null())["model"].unique(maintain_order=True).to_list()
        return tuple(model for model in models if model not in self.fit.coords.get("untold", ()))

    @cached_property
    def data(self) -> pl.DataFrame:
        """The fitted rows and these aside: their methods and data sets are known by name, and they are asked about."""
        aside = self.asked.with_columns(suite=pl.lit(_ASIDE))
        return pl.concat([self.fit.data, aside], how="diagonal_relaxed")

    @cached_property
    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """See `Families.places`."""
        return self._noise.places(Fitted(self.fit.data), Fitted(self.data))

    @cached_property
    def before(self) -> np.ndarray:
        """The numbers of the fitted rows of the suite."""
        return np.flatnonzero((self.fit.data["suite"] == self.suite).to_numpy())

    def integrated(self, draws: int) -> tuple[Posterior, np.ndarray, np.ndarray]:
        """Return draws of the fit, with mean and root of the effects that all suites share; see `shared_given`.

        They are those given the rows of the other suites.
        """
        few = self.fit.thinned(min(draws, self.fit.stats["lp"].size))
        coordinates = self._noise.rows(few.data)
        whole = self._noise.partition(coordinates).arrays
        others = np.setdiff1d(np.arange(few.data.height), self.before)
        at_others = {name: values[others] for name, values in coordinates.items()}
        parts = family_density.suites(at_others, whole["shared"][others], whole["shared_kind"])
        residual, variance = PredictiveNoise(few).residual(few.curve(), others)
        log_tokens = few.log_tokens_of(few.data[others]) - few.law.log_reference.get("D", 0.0)
        scale = {name: few.flat(name) for name in (*NUMBERS, SUITE_SCALE)}
        own = variance - np.square(scale["sigma"])[:, None]
        return few, *shared_given(parts, scale, residual, own, log_tokens)

    @property
    def _noise(self) -> Families:
        assert isinstance(self.fit.noise, Families)
        return self.fit.noise


@dataclass(frozen=True)
class GivenRows:
    """Draws of a fit, and the log density that each gives the own rows.

    Attributes
    ----------
    rows
        The own rows.
    source
        The draws, with places for what the rows bring.
    root
        What the effects in it are to be completed with; see `FamilyResiduals.of_one_suite`.
    weighed
        The rows' densities, or those of the suite's fitted rows and these.
    log_ratio
        Prior over proposal of tokens that nobody tells, over the density of fitted rows in `weighed`; ``(draws,)``.
    """

    rows: OwnRows
    source: Posterior
    root: np.ndarray
    weighed: Weighed
    log_ratio: np.ndarray

    @property
    def log_weight(self) -> np.ndarray:
        """The logarithms of the draws' weights; shape ``(draws,)``."""
        return np.asarray(self.weighed.log_density() + self.log_ratio)

    def completed(self, chosen: np.ndarray) -> dict[str, np.ndarray]:
        """Return some draws with what the own rows bring, drawn given them."""
        found = {name: self.source.flat(name)[chosen] for name in self.source.draws}
        rng = self.rows.rng
        z = self.weighed.draw_z(chosen, rng)
        if self.root.shape[2]:
            steps = self.weighed.draw_normals(chosen, z, rng)
            found[SHARED_EFFECT] = found[SHARED_EFFECT] + np.einsum("dem,dm->de", self.root[chosen], steps)
        if self.weighed.rows.scale_sd is not None:
            place = self.source.coords["suite"].index(self.rows.suite)
            others = np.delete(found[SUITE_SCALE], place, axis=1) if not self.rows.is_new else found[SUITE_SCALE]
            found[SUITE_SCALE] = np.insert(others, place, np.exp(found["suite_scale_sd"] * z), axis=1)
        return found

    def tokens(self, weight: np.ndarray) -> np.ndarray:
        """Return how often to draw the tokens that nobody tells, by the draws' weights; shape ``(models, bins)``."""
        low, high = np.log(BETWEEN)
        drawn = np.log(self.source.flat(UNKNOWN)[:, -len(self.rows.untold) :])
        place = np.clip(((drawn - low) / (high - low) * _BINS).astype(int), 0, _BINS - 1)
        share = np.stack([np.bincount(of, weight, _BINS) for of in place.T])
        wider = np.pad(share, ((0, 0), (1, 1)), mode="edge")
        share = 0.25 * wider[:, :-2] + 0.5 * share + 0.25 * wider[:, 2:]
        return np.asarray((1.0 - _FLAT) * share / share.sum(axis=1, keepdims=True) + _FLAT / _BINS)


def given_rows(rows: OwnRows, tokens: np.ndarray | None = None, integrated: int = 0) -> GivenRows:
    """Return draws of the fit with the density that each gives the rows.

    Parameters
    ----------
    rows
        The own rows.
    tokens
        How often to draw the tokens that nobody tells; see `GivenRows.tokens`. None is flat.
    integrated
        Of how many draws of the fit the effects that all suites share are to be integrated out as well; 0 is of none.
    """
    fit, rng = rows.fit, rows.rng
    each = _EACH if rows.untold else 1
    kind, known = rows.places
    again = rows.before if integrated else rows.before[:0]
    if integrated:
        at_most = max(100, int(_NUMBERS / (len(again) + len(rows.own)) ** 2))
        few, middle, of_known = rows.integrated(min(integrated, at_most))
    else:
        total = min(_MOST, max(500, int(_NUMBERS / len(rows.own) ** 2)))
        few = fit.thinned(min(total // each, fit.stats["lp"].size))
        middle = few.flat(SHARED_EFFECT)
        of_known = np.zeros((len(middle), known.sum(), 0))
    flat = {name: np.repeat(few.flat(name), each, axis=0) for name in few.draws}
    spread = np.stack([flat[name] for name in SHARED], axis=1)[:, kind[~known]]
    effect = np.zeros((len(spread), len(kind)))
    effect[:, known] = np.repeat(middle, each, axis=0)
    steps = of_known.shape[2]
    root = np.zeros((len(spread), len(kind), steps + (~known).sum()))
    root[:, known, :steps] = np.repeat(of_known, each, axis=0)
    root[:, ~known, steps:] = spread[:, :, None] * np.eye(spread.shape[1])
    flat[SHARED_EFFECT] = effect
    coords, dims = dict(few.coords), dict(few.dims)
    log_ratio = np.zeros(len(spread))
    if rows.untold:
        new, log_ratio = _tokens(few.stats["lp"].size, len(rows.untold), tokens, rng)
        flat[UNKNOWN] = np.c_[flat[UNKNOWN], new] if UNKNOWN in flat else new
        coords["untold"], dims[UNKNOWN] = (*coords.get("untold", ()), *rows.untold), "untold"
    coords["effect"] = rows._noise.labels(Fitted(rows.data))
    coords["suite"] = (*coords["suite"], *([rows.suite] if rows.is_new else ()))
    source = replace(
        few,
        draws={name: values[None] for name, values in flat.items()},
        stats={name: np.repeat(values, each, axis=1) for name, values in few.stats.items()},
        coords=coords,
        dims=dims,
        data=rows.data,
    )
    curve = source.curve()
    frame = pl.concat([fit.data[again].select(rows.asked.columns), rows.asked], how="vertical_relaxed")
    asked = query.build(curve, frame, {})
    scatter = PredictiveNoise(source)
    where = scatter.coordinates(asked.frame, together=True)
    conditioned = scatter.conditioned(curve, where)
    assert isinstance(conditioned, FamilyResiduals)
    law = np.broadcast_to(curve.log_response(asked.log_covariates, asked.index), (len(spread), len(frame)))
    if not again.size:
        weighed = conditioned.of_one_suite(where, law, rows.own, root).weighed(rows.log_qid, rng)
        return GivenRows(rows, source, root, weighed, log_ratio)
    # What was measured is taken off the mean, since rows too noisy for a logarithm have one of their own in each draw.
    left, variance = scatter.residual(curve, again)
    left = np.concatenate([-left, law[:, len(again) :] - rows.log_qid], axis=1)
    own = np.c_[variance - np.square(flat["sigma"])[:, None], np.tile(rows.own, (len(left), 1))]
    both = replace(conditioned, known={}).of_one_suite(where, left, own, root)
    measured = np.zeros(len(frame))
    fitted = both.first(len(again)).weighed(measured[: len(again)], rng)
    return GivenRows(rows, source, root, both.weighed(measured, rng), log_ratio - fitted.log_density())


def _tokens(
    count: int, models: int, share: np.ndarray | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return tokens of models, several for each draw, and the logarithm of prior over proposal.

    Shapes ``(count * each, models)`` and ``(count * each,)``.
    """
    share = np.full((models, _BINS), 1.0 / _BINS) if share is None else share
    # Of each model a draw's go over all quantiles, in an order of their own.
    order = rng.permuted(np.tile(np.arange(_EACH), (count, models, 1)), axis=2)
    level = np.swapaxes((order + rng.uniform(size=order.shape)) / _EACH, 1, 2).reshape(-1, models)
    low, high = np.log(BETWEEN)
    new, log_ratio = np.empty_like(level), np.zeros(len(level))
    for model, of in enumerate(share):
        ends = np.concatenate([[0.0], of.cumsum()])
        place = np.clip(np.searchsorted(ends, level[:, model], side="right") - 1, 0, _BINS - 1)
        within = (level[:, model] - ends[place]) / of[place]
        new[:, model] = np.exp(low + (high - low) * np.clip((place + within) / _BINS, 0.0, 1.0))
        log_ratio -= np.log(_BINS * of[place])
    return new, log_ratio
