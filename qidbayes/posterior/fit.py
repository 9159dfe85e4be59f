"""A fit: the posterior of a law, and the questions it answers."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from qidbayes.errors import InputError
from qidbayes.law.law import STUDENT_T_FREEDOM, Law
from qidbayes.posterior import query
from qidbayes.posterior.constants import Curve
from qidbayes.posterior.diagnostics import number
from qidbayes.posterior.population import has_population, new_groups
from qidbayes.posterior.record import Record
from qidbayes.posterior.threshold import log_tokens, threshold_query

if TYPE_CHECKING:
    import os

    import xarray

    from qidbayes.posterior.point import Point

type Kind = Literal["response", "response_params"]
type Numbers = float | Sequence[float]

VOCABULARY = 128_256
"""The size of Llama 3's vocabulary, whose tokens the paper's losses are counted in."""


class IdentificationWarning(UserWarning):
    """An answer rests on a prior, because the data do not identify a parameter."""


@dataclass(frozen=True)
class Fit(Record):
    """The posterior of a law, as `qidbayes.fit` returns and `load_fit` reads; what it holds is listed at `Record`."""

    def summary(self, ci_prob: float = 0.9, published: str | None = None) -> pl.DataFrame:
        """Return every parameter and constant with its credible interval and diagnostics.

        Parameters
        ----------
        ci_prob
            The probability of the equal-tailed credible interval.
        published
            A published point of the law to stand beside, such as ``"eq8"``.

        Returns
        -------
        polars.DataFrame
            ``name``, ``group``, ``mean``, ``sd``, ``median``, ``lower``, ``upper``, ``ess_bulk``, ``ess_tail``,
            ``r_hat``, ``identified``, and ``published`` if asked for. A number the data do not identify has nulls in
            the place of an answer. Constants are in raw counts; ``*_ref`` is at the law's reference point.
        """
        lower, upper = _tails(ci_prob)
        paper = _published(self.law, published)
        rows = []
        for name in self._reported():
            values = self._flat(name)
            for i, group in enumerate(self.coords[self.dims[name]] if name in self.dims else (None,)):
                column = values if group is None else values[:, i]
                known = self.is_identified(name, group)
                found = self.diagnostics.convergence.get(number(name, group))
                quantiles = np.quantile(column, [0.5, lower, upper])
                numbers = [column.mean(), column.std(ddof=1), *quantiles] if known else [None] * 5
                rows.append(
                    {
                        "name": name,
                        "group": group,
                        **dict(zip(("mean", "sd", "median", "lower", "upper"), numbers, strict=True)),
                        "ess_bulk": found.ess_bulk if found else None,
                        "ess_tail": found.ess_tail if found else None,
                        "r_hat": found.r_hat if found else None,
                        "identified": known,
                        "published": _of_group(paper.get(name), group),
                    }
                )
        frame = pl.DataFrame(
            rows, schema_overrides={"group": pl.String, "published": pl.Float64}, infer_schema_length=None
        )
        return frame if published else frame.drop("published")

    def interval(self, name: str, ci_prob: float = 0.9) -> pl.DataFrame:
        """Return the equal-tailed credible interval of a parameter or constant: ``name``, ``group``, ``median``, ….

        Raises
        ------
        InputError
            If there is no such name, or the data do not identify it.
        """
        if name not in self._reported():
            raise InputError(f"no parameter is called {name!r}; there are {', '.join(self._reported())}")
        chosen = self.summary(ci_prob).filter(pl.col("name") == name)
        if not chosen["identified"].any():
            raise InputError(f"{name!r} is not identified by these data: an interval would only repeat the prior")
        return chosen.select("name", "group", "median", "lower", "upper", "mean", "sd")

    def is_identified(self, name: str, group: str | None = None) -> bool:
        """Return whether the data say anything of a parameter, or of every parameter a constant is made of."""
        sampled = {self.law.sampled_name(p): p for p in self.law.priors}
        made_of = {sampled[name]} if name in sampled else self.law.depends_on(name.removesuffix("_ref"))
        numbers = {number(self.law.sampled_name(p), group if self.law.priors[p].by else None) for p in made_of}
        return not (numbers | {number(name, group)}) & set(self.diagnostics.unidentified)

    def predict(
        self,
        queries: pl.DataFrame | None = None,
        *,
        n_params: Numbers | None = None,
        tokens: Numbers | None = None,
        bits: Numbers | None = None,
        kind: Kind = "response",
        ci_prob: float = 0.9,
        **further: Any,
    ) -> pl.DataFrame:
        """Return the band of the law's response for every combination of the values, or every row of a frame.

        Parameters
        ----------
        queries
            A frame with a question a row, in place of the values.
        n_params, tokens, bits
            Non-embedding parameters and training tokens (counts) and bit width; numbers or lists.
        kind
            ``"response"``: the band of a newly measured checkpoint, with the effects of its run and checkpoint and
            the error of its row; of a known run if `model` is given. ``"response_params"``: the band of the law alone.
        ci_prob
            The probability of the equal-tailed band.
        **further
            What else the law needs or takes: `model`, `method`, …. A group that was not fitted, of a parameter that is
            partially pooled, is drawn from its population.

        Returns
        -------
        polars.DataFrame
            The question's columns, then ``median``, ``lower``, ``upper``, ``mean``, ``sd`` in nats per token. Each
            row's band holds for itself: the rows share their draws, so that bands are smooth in N, D and P.
        """
        curve = self.curve()
        extra = ("model",) if "model_effect" in self.draws and kind == "response" else ()
        values = {"n_params": n_params, "tokens": tokens, "bits": bits, **further}
        asked = query.build(curve, queries, values, extra=extra)
        return _with_band(asked.frame, np.exp(self._log_draws(curve, asked, kind)), ci_prob)

    def tokens_to_threshold(
        self,
        qid: Numbers,
        *,
        n_params: Numbers | None = None,
        bits: Numbers | None = None,
        kind: Kind = "response",
        ci_prob: float = 0.9,
        **further: Any,
    ) -> pl.DataFrame:
        """Return the training tokens at which QiD reaches a threshold.

        Parameters
        ----------
        qid
            Thresholds, nats per token.
        n_params, bits, kind, ci_prob, **further
            As in `predict`. The band cuts that of `predict` horizontally: the tokens by which a checkpoint's QiD has
            reached the threshold with probability p are the p-quantile.

        Returns
        -------
        polars.DataFrame
            The question's columns, then ``tokens`` (the median), ``lower``, ``upper``, and ``never``: the share of
            draws whose curve never rises to the threshold. Those count as infinite, so an upper end may be ``inf``.
        """
        curve = self.curve()
        asked, log_qid = threshold_query(curve, qid, {"n_params": n_params, "bits": bits, **further})
        self._warn_if_unidentified(curve)
        with np.errstate(over="ignore"):  # beyond 10³⁰⁸ tokens is never
            tokens = np.exp(log_tokens(curve, asked, log_qid - self._log_scatter(asked.frame, kind)))
        lower, upper = _tails(ci_prob)
        # "higher" keeps a quantile that falls between a finite draw and infinity from becoming NaN.
        middle, low, high = np.quantile(tokens, [0.5, lower, upper], axis=0, method="higher")
        never = np.isinf(tokens).mean(axis=0)
        return asked.frame.with_columns(
            pl.Series("tokens", middle), pl.Series("lower", low), pl.Series("upper", high), pl.Series("never", never)
        )

    def project(
        self,
        *,
        n_params: Numbers,
        bits: Numbers | None = None,
        tokens: Numbers = 100e12,
        loss_16bit: "Fit | Point | None" = None,
        vocabulary: int = VOCABULARY,
        kind: Kind = "response",
        ci_prob: float = 0.9,
        **further: Any,
    ) -> pl.DataFrame:
        """Return bands of QiD far beyond the data, and how likely the quantized model is worse than guessing.

        Parameters
        ----------
        loss_16bit
            What the 16-bit loss is taken from: a fit of a 16-bit law, or a published point (the default:
            ``kaplan-16bit``'s). Its median is used.
        vocabulary
            The size of the vocabulary: random guessing has the loss ln(vocabulary), in nats per token.

        Returns
        -------
        polars.DataFrame
            The columns of `predict`, then ``loss_16bit`` (nats per token) and ``worse_than_random``: the share of
            draws in which 16-bit loss + QiD is above ln(vocabulary).
        """
        from qidbayes.posterior.point import published

        curve = self.curve()
        values = {"n_params": n_params, "tokens": tokens, "bits": bits, **further}
        asked = query.build(curve, None, values, extra=("model",))
        draws = np.exp(self._log_draws(curve, asked, kind))
        base = loss_16bit or published("kaplan-16bit")
        if base.law.response != "loss_16bit":
            raise InputError(f"loss_16bit must come from a law of the 16-bit loss, not {base.law.name!r}")
        where = asked.frame.select(query.needs(base.law))
        loss = base.predict(where)["median"].to_numpy()
        worse = (draws + loss > np.log(vocabulary)).mean(axis=0)
        return _with_band(asked.frame, draws, ci_prob).with_columns(
            pl.Series("loss_16bit", loss), pl.Series("worse_than_random", worse)
        )

    def curve(self) -> Curve:
        """Return the law with this posterior's constants, one set for each draw."""
        return Curve(self.law, {n: self._flat(n) for n in self.law.constants}, self.coords, self._new_groups)

    def to_datatree(self) -> "xarray.DataTree":
        """Return the fit as the DataTree that ArviZ works on."""
        from qidbayes.posterior.store import to_datatree

        return to_datatree(self)

    def save(self, path: "str | os.PathLike[str]") -> None:
        """Write the fit to a NetCDF file, whole or not at all; ArviZ and xarray read it too.

        Raises
        ------
        InputError
            If the file cannot be written.
        """
        from qidbayes.posterior.store import save

        save(self, path)

    def __repr__(self) -> str:
        chains, draws = self.stats["lp"].shape
        failed = len(self.diagnostics.problems())
        verdict = f"{failed} checks failed" if failed else "all checks passed"
        return f"<Fit of {self.law.name} to {self.data.height} rows: {chains} × {draws} draws, {verdict}>"

    def _new_groups(self, dim: str, labels: Sequence[str]) -> dict[str, np.ndarray] | None:
        if not has_population(self.law, dim):
            return None
        flat = {name: self._flat(name) for name in self.draws}
        return new_groups(self.law, flat, dim, labels, int(self.attributes["random_seed"]))

    def _reported(self) -> list[str]:
        law, sampled = self.law, []
        for name, prior in law.priors.items():
            sampled.append(law.sampled_name(name))
            sampled += [law.population_name(name), law.spread_name(name)] if prior.pooled else []
        made = [name for name in self.draws if name not in sampled and name != "model_effect"]
        constants = [name for name in made if not name.endswith(("_sd", "_ref")) and name != "sigma"]
        noise = [name for name in made if name.endswith("_sd") or name == "sigma"]
        return [*sampled, *constants, *noise]

    def _flat(self, name: str) -> np.ndarray:
        values = self.draws[name]
        return values.reshape(-1, *values.shape[2:])

    def _log_draws(self, curve: Curve, asked: query.Query, kind: Kind) -> np.ndarray:
        self._warn_if_unidentified(curve)
        found = curve.log_response(asked.log_covariates, asked.index) + self._log_scatter(asked.frame, kind)
        return np.broadcast_to(found, (len(found), asked.frame.height))

    def _log_scatter(self, frame: pl.DataFrame, kind: Kind) -> np.ndarray:
        """Return what a new checkpoint's measurement adds to the law's logarithm; shape ``(draws, queries or 1)``."""
        if kind == "response_params":
            return np.zeros((1, 1))
        if kind != "response":
            raise InputError(f"kind must be 'response' or 'response_params', not {kind!r}")
        rng = np.random.default_rng([int(self.attributes["random_seed"]), 1])
        count = self._flat("sigma").size
        scatter = np.zeros((count, 1))
        # The order is fixed, so that naming a model changes nothing but the model's effect.
        for name in ("sigma", "checkpoint_sd", "model_sd"):
            if name not in self.draws:
                continue
            student = name == "sigma" and self.law.noise.family == "student_t"
            steps = rng.standard_t(STUDENT_T_FREEDOM, count) if student else rng.standard_normal(count)
            effect = (self._flat(name) * steps)[:, None]
            if name == "model_sd" and "model" in frame.columns:
                effect = self._effects_of(frame["model"], effect)
            scatter = scatter + effect
        return scatter

    def _effects_of(self, models: pl.Series, new: np.ndarray) -> np.ndarray:
        """Return the effects of models, and `new` for one that the law itself draws from a population."""
        known = {label: i for i, label in enumerate(self.coords["model"])}
        unknown = models.filter(~models.is_in(list(known)))
        if len(unknown) and "model" not in self.law.by:  # otherwise the law has had its say
            raise InputError(
                f"model {unknown[0]!r} was not fitted; known are {', '.join(known)}; leave it out to ask of a new one"
            )
        every = np.concatenate([self._flat("model_effect"), new], axis=1)
        return every[:, np.array([known.get(m, len(known)) for m in models], dtype=np.int64)]

    def _warn_if_unidentified(self, curve: Curve) -> None:
        law = self.law
        populations = [f(p) for p in law.priors for f in (law.population_name, law.spread_name)]
        for remark in self.diagnostics.remarks(apart_from=() if curve.drawn else populations):
            warnings.warn(
                f"{remark}; so do answers that depend on it",
                IdentificationWarning,
                skip_file_prefixes=(str(Path(__file__).parent),),  # it points at the line that asked
            )


def load_fit(path: "str | os.PathLike[str]") -> Fit:
    """Read a fit that `Fit.save` wrote. Needs neither PyMC nor JAX.

    Raises
    ------
    InputError
        If the file is missing, or is not a fit.
    """
    from qidbayes.posterior.store import load

    return Fit(**vars(load(path)))


def _with_band(frame: pl.DataFrame, draws: np.ndarray, ci_prob: float) -> pl.DataFrame:
    lower, upper = _tails(ci_prob)
    with np.errstate(all="ignore"):  # a draw in the far tail may be infinite; the quantiles do not mind
        middle, low, high = np.quantile(draws, [0.5, lower, upper], axis=0)
        found = {
            "median": middle,
            "lower": low,
            "upper": high,
            "mean": draws.mean(axis=0),
            "sd": draws.std(axis=0, ddof=1),
        }
    return frame.with_columns(pl.Series(name, values) for name, values in found.items())


def _tails(ci_prob: float) -> tuple[float, float]:
    if not (isinstance(ci_prob, int | float) and 0 < ci_prob < 1):
        raise InputError(f"ci_prob must be between 0 and 1, not {ci_prob!r}")
    return (1 - ci_prob) / 2, (1 + ci_prob) / 2


def _published(law: Law, point: str | None) -> Mapping[str, float | Mapping[str, float]]:
    if point is None:
        return {}
    from qidbayes.posterior.point import published

    return published(law, point).constants


def _of_group(constant: float | Mapping[str, float] | None, group: str | None) -> float | None:
    if isinstance(constant, Mapping):
        return constant.get(group or "")
    return constant
