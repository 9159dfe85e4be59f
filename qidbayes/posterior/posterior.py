"""A posterior: what is known of a law after a fit, apart from the questions that a `Fit` answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import polars as pl

from qidbayes.law.law import Law
from qidbayes.noise.coordinates import Fitted
from qidbayes.noise.model import NoiseModel, noise_model
from qidbayes.noise.unknown_tokens import BETWEEN, UNKNOWN
from qidbayes.posterior.constants import Curve
from qidbayes.posterior.diagnostics import Diagnostics, number
from qidbayes.posterior.population import has_population, new_groups
from qidbayes.table.groups import CHECKPOINT

_USUAL = (2.0, 3.0, 4.0, 5.0, 6.0, 8.0)


@dataclass(frozen=True)
class Posterior:
    """What a fit consists of, and what is saved of it.

    Attributes
    ----------
    law
        The law.
    draws
        Every number by its name: the parameters at the reference point, the noise's standard deviations, definitions,
        constants in raw counts, and `model_effect`; shape ``(chains, draws)`` or ``(chains, draws, groups)``.
    dims, coords
        The dimension of each name that differs between groups, and the dimensions' labels.
    stats
        The sampler's statistics by ArviZ's names; shape ``(chains, draws)``.
    data
        The rows fitted: the response, the covariates and the groups.
    diagnostics
        The checks the fit went through.
    attributes
        Seed, versions, table hash, sampler settings, rows left out.
    loss_16bit
        The same of the law's `loss_16bit`, fitted to the same table.
    """

    law: Law
    draws: Mapping[str, np.ndarray]
    dims: Mapping[str, str]
    coords: Mapping[str, tuple[str, ...]]
    stats: Mapping[str, np.ndarray]
    data: pl.DataFrame
    diagnostics: Diagnostics
    attributes: Mapping[str, Any] = field(default_factory=dict)
    loss_16bit: "Posterior | None" = None

    @cached_property
    def noise(self) -> NoiseModel:
        """How measurements scatter around the law."""
        return noise_model(self.law, [g for g in ("model", CHECKPOINT) if f"{g}_sd" in self.draws])

    @cached_property
    def fitted(self) -> Fitted:
        """The rows, and what was worked out of them for earlier questions."""
        return Fitted(self.data, tuple(self.coords.get("model", ())))

    @property
    def widths(self) -> list[float]:
        """The bit widths that answers choose from where nobody names any: those fitted, or the usual ones of families.

        Tables of many families hold hundreds of widths, as files of mixed precision have 3.91 bits a weight.
        """
        if self.law.noise.discrepancy == "families":
            return list(_USUAL)
        return sorted(set(self.data["bits"].to_list()))

    def flat(self, name: str) -> np.ndarray:
        """Return the draws of a number, all chains one after the other; shape ``(draws, …)``."""
        values = self.draws[name]
        return values.reshape(-1, *values.shape[2:])

    def curve(self) -> Curve:
        """Return the law with this posterior's constants, one set for each draw."""
        constants = {name: self.flat(name) for name in self.law.constants}
        if self.law.noise.discrepancy != "families":
            return Curve(self.law, constants, self.coords, self._new_groups)
        return Curve(self.law, constants, self.coords, self._new_groups, self.log_tokens_of, self._with_sizes)

    def log_tokens_of(self, frame: pl.DataFrame) -> np.ndarray:
        """Return log tokens given each draw, shape ``(draws, rows)``, also of rows that do not tell them.

        Of a fitted model they are those of its last checkpoint, or its posterior's where nobody tells them; of a new
        one the prior's, which is flat in log D (see `qidbayes.noise.unknown_tokens`).
        """
        count = self.stats["lp"].size
        frame = self.fitted.with_models_tokens(frame)
        found = np.tile(np.log(frame["tokens"].cast(pl.Float64).fill_null(np.nan).to_numpy()), (count, 1))
        known = {model: i for i, model in enumerate(self.coords.get("untold", ()))}
        low, high = np.log(BETWEEN)
        steps = np.random.default_rng(1).permutation((np.arange(count) + 0.5) / count)
        models = frame["model"].to_list() if "model" in frame.columns else [None] * frame.height
        for row in np.flatnonzero(np.isnan(found[0])):
            model = known.get(str(models[row]))
            new = low + (high - low) * steps
            found[:, row] = new if model is None else np.log(self.flat(UNKNOWN)[:, model])
        return found

    def _with_sizes(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return questions with the parameters of each fitted model, where they do not tell them."""
        named = self.fitted.with_models_columns(frame)
        return frame.with_columns(named["n_params"]) if "n_params" in named.columns else frame

    def thinned(self, draws: int) -> Self:
        """Return the same with only some of its draws, evenly spaced over all chains; shape ``(1, draws)``."""
        count = self.stats["lp"].size
        chosen = np.unique(np.linspace(0, count - 1, draws).round().astype(int))
        few = {name: self.flat(name)[chosen][None] for name in self.draws}
        return replace(self, draws=few, stats={n: v.reshape(-1)[chosen][None] for n, v in self.stats.items()})

    def is_identified(self, name: str, group: str | None = None) -> bool:
        """Return whether the data say anything of a parameter, or of every parameter a constant is made of."""
        sampled = {self.law.sampled_name(p): p for p in self.law.priors}
        made_of = {sampled[name]} if name in sampled else self.law.depends_on(name.removesuffix("_ref"))
        numbers = {number(self.law.sampled_name(p), group if self.law.priors[p].by else None) for p in made_of}
        return not (numbers | {number(name, group)}) & set(self.diagnostics.unidentified)

    def _new_groups(self, dim: str, labels: Sequence[str]) -> dict[str, np.ndarray] | None:
        if not has_population(self.law, dim):
            return None
        flat = {name: self.flat(name) for name in self.draws}
        return new_groups(self.law, flat, dim, labels, int(self.attributes["random_seed"]))
