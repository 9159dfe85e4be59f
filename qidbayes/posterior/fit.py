"""A fit: the posterior of a law, and the questions it answers."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import polars as pl

from qidbayes.errors import AssumptionWarning, InputError
from qidbayes.posterior import query
from qidbayes.posterior.answers import Counts, Kind, Numbers, OneLaw, Question, Response
from qidbayes.posterior.band import tails, with_band, with_tokens
from qidbayes.posterior.cautious import Cautious, IdentificationWarning
from qidbayes.posterior.constants import Curve
from qidbayes.posterior.coverage import coverage, read_backtest
from qidbayes.posterior.distance import COLUMNS, beyond
from qidbayes.posterior.joint import Joint, joint
from qidbayes.posterior.of_loss import TWO_ERRORS, not_quantized, qid_draws
from qidbayes.posterior.posterior import Posterior
from qidbayes.posterior.predictive import Predictive
from qidbayes.posterior.predictive_noise import PredictiveNoise
from qidbayes.posterior.projects import Projects
from qidbayes.posterior.shown import warn_who_asked
from qidbayes.posterior.threshold import log_tokens, threshold_query
from qidbayes.posterior.training_level import BETWEEN, LOOKING, measurements, training_level
from qidbayes.process import note
from qidbayes.resources import shipped
from qidbayes.table.frames import Table
from qidbayes.table.own_error import standard_error
from qidbayes.table.question import as_in_tables

if TYPE_CHECKING:
    import os

__all__ = ["Counts", "Fit", "IdentificationWarning", "Kind", "Numbers", "Response", "load_fit"]

_DRAWS_FOR = ((40, 2000), (120, 500), (10**9, 200))
"""Fitted rows of the suite that a question is about, and how many draws answer it."""
ATLAS = "atlas"
"""The name of the fit that is shipped: of all tables of families."""
SMOOTH_DRAWS = 200
"""How many draws answer for measurements where the discrepancy is modelled: each takes a matrix of the fitted rows."""


@dataclass(frozen=True, repr=False)
class Fit(Cautious, Projects, OneLaw):
    """The posterior of a law, as `qidbayes.fit` returns and `load_fit` reads; for what it holds see `Posterior`."""

    loss_16bit: "Fit | None" = None

    def _predict(self, question: Question) -> pl.DataFrame:
        response, kind, ci_prob = question.response, question.kind, question.ci_prob
        base = self.loss_16bit
        own = response in (None, self.law.response)
        if not own and self.law.response == "loss":
            return self._beside_loss(question)
        if not own and base is None:
            raise InputError(f"law {self.law.name!r} says nothing of {response}; law 'joint' shows how to declare one")
        if base and response == "loss_16bit":
            return base._predict(replace(question, response=None))
        extra = self._extra(kind)
        frame = query.build(self._answering(kind)[1], question.queries, question.values, extra=extra).frame
        counts = self._draws_for(frame, kind)
        if len(set(counts)) > 1:
            return self._predict_apart(replace(question, queries=frame, values={}), counts)
        source, curve = self._answering(kind, frame)
        asked = query.build(curve, frame, {})
        draws = np.exp(source._log_draws(curve, asked, kind))
        if base and not own:
            draws = draws + base.beside(asked.frame, kind, len(draws))
        return with_band(asked.frame, draws, ci_prob)

    def _predict_apart(self, question: Question, counts: list[int]) -> pl.DataFrame:
        """Answer questions by the number of draws that each takes, so that none depends on what else is asked."""
        frame, kind = question.queries, question.kind
        assert frame is not None
        self._warn(self._answering(kind)[1], frame, kind)
        self.warn_if_unfitted(frame, kind)
        parts = [np.flatnonzero(np.array(counts) == count) for count in sorted(set(counts))]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # which were said of all questions
            bands = [self._predict(replace(question, queries=frame[rows])) for rows in parts]
        return pl.concat(bands)[np.argsort(np.concatenate(parts))]

    def _beside_loss(self, question: Question) -> pl.DataFrame:
        """Answer with QiD or the 16-bit loss by a law of the loss after quantization."""
        queries, values, kind = question.queries, question.values, question.kind
        if question.response == "loss_16bit":
            queries, values = not_quantized(self.law, queries, values)
            return self._predict(replace(question, queries=queries, values=values, response="loss"))
        source, curve = self._answering(kind)
        asked = query.build(curve, queries, values, extra=self._extra(kind))
        self._warn(curve, asked.frame, kind)
        self.warn_if_unfitted(asked.frame, kind)
        if kind == "response":
            warn_who_asked(TWO_ERRORS, AssumptionWarning)
        return with_band(asked.frame, qid_draws(source, curve, asked.frame, kind), question.ci_prob)

    def _tokens(self, values: Mapping[str, Any], kind: Kind, ci_prob: float) -> pl.DataFrame:
        source, curve = self._answering(kind)
        asked, log_qid = threshold_query(curve, values, self._extra(kind))
        return with_tokens(asked.frame, source._log_tokens(curve, asked, log_qid, kind), ci_prob)

    def training_level(
        self,
        qid: Numbers,
        *,
        n_params: Counts | None = None,
        bits: Numbers | None = None,
        qid_se: Numbers | None = None,
        between: tuple[float | str, float | str] = BETWEEN,
        ci_prob: float = 0.9,
        **further: Any,
    ) -> pl.DataFrame:
        """Return on how many tokens a model was trained, from QiDs measured of one checkpoint of it.

        Parameters
        ----------
        qid
            One measured QiD (nats per token), or several of the same checkpoint: then the other values are lists of as
            many, or one that holds for all. Their errors are not independent, and they are not taken to be.
        n_params, bits
            Non-embedding parameters (count) and bit widths.
        qid_se
            The standard error of each QiD over the evaluation's sequences, up to a fifth of it.
        between
            The ends of the prior, which is flat in log D between them (tokens).
        ci_prob
            The probability of the equal-tailed credible interval.
        **further
            What else the law needs or takes: `method`, …. Of a run that was fitted, `model` brings in its effect.

        Returns
        -------
        polars.DataFrame
            One row: ``median``, ``lower`` and ``upper`` of the tokens, the number of ``measurements``, and what these
            have in common.

        Raises
        ------
        InputError
            If the law has no QiD or no tokens, or the measurements are not of one model, not above 0, or too noisy.

        Examples
        --------
        >>> load_fit("unified.nc").training_level([0.05, 0.22], n_params=7e9, bits=[4, 3])  # doctest: +SKIP
        """
        frame = measurements(qid, qid_se, {"n_params": n_params, "bits": bits, **further})
        source, curve = self._answering("response")
        found = training_level(source, source._few(LOOKING), curve, frame, between, ci_prob)
        self._warn(curve, frame, "response")
        self.warn_if_unfitted(frame, "response")
        return found

    def _questions(self, values: Mapping[str, Any], kind: Kind) -> pl.DataFrame:
        if self.law.response == "loss":
            raise InputError(f"law {self.law.name!r} is of the loss itself; ask predict, with response='qid' for QiD")
        return query.build(self._answering(kind)[1], None, values, extra=self._extra(kind)).frame

    def _outside(self, frame: pl.DataFrame, kind: Kind, ci_prob: float) -> pl.DataFrame:
        held = self.held(frame, ci_prob)
        if kind == "response_params":  # a backtest is of bands for measurements
            held = held.select(pl.selectors.by_name(*COLUMNS, require_all=False))
        return held

    def held(self, frame: pl.DataFrame, ci_prob: float = 0.9) -> pl.DataFrame:
        """Return how far questions lie outside the data, and how bands have held so far out in the fit's backtest.

        Parameters
        ----------
        frame
            The questions, a row each.
        ci_prob
            The probability of the bands.

        Returns
        -------
        polars.DataFrame
            ``n_params_beyond``, ``tokens_beyond`` and ``bits_beyond``: the factors by which a question is outside the
            fitted rows, 1 inside. ``not_fitted``: which of its suite, method, group size and data set no fitted row
            has, null if none. With a backtest also ``held``: the share of the held-out measurements as far outside that
            their bands held; ``held_se``, its standard error over training runs; ``held_of``, ``held_checkpoints`` and
            ``held_runs``: how many measurements they were, of how many checkpoints of how many runs. As far outside are
            those with the same doublings of size, tokens and bits on the same side, and with suite and quantization
            fitted or not, alike. Of fewer than 10 checkpoints or 3 runs ``held`` and ``held_se`` are null.

        Raises
        ------
        InputError
            If the saved backtest is damaged.
        """
        distance = beyond(self.data, frame, left_out_is_new=self.noise.by_draw)
        where = distance.drop("outside")
        if "backtest" not in self.attributes:
            return where
        kept = read_backtest(self.attributes["backtest"])
        return pl.concat([where, coverage(kept, distance["outside"].to_list(), *tails(ci_prob))], how="horizontal")

    def with_backtest(self, backtest: Any) -> "Fit":
        """Return `backtest.attach(self)`: deprecated, see `Backtest.attach`."""
        warnings.warn("Fit.with_backtest(backtest) is now backtest.attach(fit)", DeprecationWarning, stacklevel=2)
        found: Fit = backtest.attach(self)
        return found

    def log_draws(self, frame: pl.DataFrame, kind: Kind = "response") -> np.ndarray:
        """Return the draws that `predict` makes bands of; see `Projects.log_draws`."""
        if len(set(self._draws_for(frame, kind))) > 1:
            self._warn(self._answering(kind)[1], frame, kind)
            self.warn_if_unfitted(frame, kind)
        return self._apart(frame, kind, lambda part: (self._log_draws_of(part, kind),))[0]

    def _log_draws_of(self, frame: pl.DataFrame, kind: Kind) -> np.ndarray:
        source, curve = self._answering(kind, frame)
        return source._log_draws(curve, query.build(curve, frame, {}), kind)

    def _apart(
        self, frame: pl.DataFrame, kind: Kind, ask: Callable[[pl.DataFrame], tuple[np.ndarray, ...]]
    ) -> tuple[np.ndarray, ...]:
        """Return arrays of shape ``(draws, queries)``, asked for by the number of draws that each question takes."""
        counts = np.array(self._draws_for(frame, kind))
        if len(set(counts)) < 2:
            return ask(frame)
        parts = [np.flatnonzero(counts == count) for count in sorted(set(counts))]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # which whoever asks has said of all
            found = [ask(frame[rows]) for rows in parts]
        most = max(len(of[0]) for of in found)
        order = np.argsort(np.concatenate(parts))
        # All go evenly over the same draws: those that stand side by side are near each other.
        repeated = [[v[np.arange(most) * len(v) // most] for v in of] for of in found]
        return tuple(np.concatenate(columns, axis=1)[:, order] for columns in zip(*repeated, strict=True))

    def log_tokens_draws(self, frame: pl.DataFrame, kind: Kind = "response") -> np.ndarray:
        """Return the draws that `tokens_to_threshold` makes intervals of: log tokens, shape ``(draws, queries)``.

        Parameters
        ----------
        frame
            A question a row, with its threshold in `qid` (nats per token).
        kind
            As in `predict`.
        """
        source, curve = self._answering(kind)
        asked = query.build(curve, frame, {}, leave_out="tokens")
        return source._log_tokens(curve, asked, np.log(query.positive(frame, "qid")), kind)

    def predictive(self, frame: pl.DataFrame) -> Predictive:
        """Return the posterior predictive of measured rows: kind ``"response"``, with its density.

        Parameters
        ----------
        frame
            A row a measurement, with the columns the law needs. Where a row's `model` was fitted, the model's effect
            is the fitted one; other models are new ones. A row's own `qid_se` widens its forecast. Further columns are
            ignored.

        Returns
        -------
        Predictive
            Mean and standard deviation of each row's log response given each draw. A row is for itself: what the
            rows share is in each of them.

        Raises
        ------
        InputError
            If a column the law needs is missing, or a group of a row is one the law has no constants for.

        Examples
        --------
        >>> from qidbayes.posterior import load_fit
        >>> load_fit("unified.nc").predictive(held_out).log_density(np.log(held_out["qid"]))  # doctest: +SKIP
        """
        return Predictive(*self._apart(frame, "response", self._moments))

    def _moments(self, frame: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation of each row's log response given each draw; shape ``(draws, rows)``."""
        source, curve = self._answering("response", frame)
        asked = query.build(curve, frame, {})
        added, variance = PredictiveNoise(source).of(asked.frame, curve)
        mean = curve.log_response(asked.log_covariates, asked.index) + added
        mean, variance = np.broadcast_arrays(mean, variance)
        if mean.shape[1] < frame.height:
            mean, variance = (np.broadcast_to(v, (len(v), frame.height)) for v in (mean, variance))
        error = standard_error(frame, self.law.response)
        if error.any():
            variance = variance + np.square(error * np.exp(-mean))  # of the logarithm, at the QiD that is expected
        return mean, np.sqrt(variance)

    def joint(self, frame: pl.DataFrame) -> Joint:
        """Return what measurements are expected to be together, with what they share, given each draw.

        Parameters
        ----------
        frame
            A row a measurement, with the columns the law needs. `model` and `revision` say which rows share a run and a
            checkpoint, also of models that were not fitted; without a `model` all rows are of one new checkpoint.
        """
        source, curve = self._answering("response")
        found = joint(source, curve, frame)
        self._warn(curve, frame, "response")
        self.warn_if_unfitted(frame, "response")
        return found

    def condition(self, rows: Table) -> Self:
        """Return the posterior given a few rows of one's own as well, in seconds and without sampling anew.

        Parameters
        ----------
        rows
            Measurements in any form that `read_table` takes as a table. A suite that was not fitted is a new one;
            questions that name it are then answered with what its rows say.

        Returns
        -------
        Fit
            1,000 draws, resampled by the density that each of this fit's draws gives the rows (see
            `qidbayes.posterior.conditioning`); ``attributes["conditioned_on"]`` has for each suite how many ``rows``
            were taken in and how many were ``left_out`` for want of a QiD, Pareto k, and effective draws.

        Raises
        ------
        InputError
            If the rows cannot be used, or say so much that is new that a fit of all rows is needed.
        """
        from qidbayes.posterior.conditioning import condition

        note()
        return condition(self, rows)

    def _answering(self, kind: Kind, frame: pl.DataFrame | None = None) -> tuple["Fit", Curve]:
        """Return the draws that answer questions of a kind, as a fit, and their curve.

        Of a frame of questions it is as many as the one takes that can have the fewest.
        """
        note()
        if kind not in ("response", "response_params"):
            raise InputError(f"kind must be 'response' or 'response_params', not {kind!r}")
        if kind != "response" or not self.noise.by_draw:
            return self, self.curve()
        few = SMOOTH_DRAWS if frame is None else min(self._draws_for(frame, kind), default=SMOOTH_DRAWS)
        source = self._few(few)
        return source, source.curve()

    @cached_property
    def _thinned(self) -> dict[int, Self]:
        """The draws that answer where each takes a matrix, with what is kept of them between questions."""
        return {}

    def _few(self, draws: int) -> Self:
        if draws not in self._thinned:
            self._thinned[draws] = self.thinned(draws)
        return self._thinned[draws]

    def _draws_for(self, frame: pl.DataFrame, kind: Kind) -> list[int]:
        """Return how many draws answer each question: each takes a matrix of the fitted rows of its suite."""
        if kind != "response" or self.law.noise.discrepancy != "families":
            return [SMOOTH_DRAWS] * frame.height
        frame = self.fitted.with_models_columns(as_in_tables(frame))
        rows = dict(self.data["suite"].value_counts().iter_rows())
        suites = frame["suite"].to_list() if "suite" in frame.columns else [None] * frame.height
        return [next(draws for most, draws in _DRAWS_FOR if rows.get(suite, 0) <= most) for suite in suites]

    def thinned(self, draws: int = SMOOTH_DRAWS) -> Self:
        """Return the fit with only some of its draws; see `Posterior.thinned`."""
        return super().thinned(draws)

    def _log_draws(self, curve: Curve, asked: query.Query, kind: Kind) -> np.ndarray:
        self._warn(curve, asked.frame, kind)
        self.warn_if_unfitted(asked.frame, kind)
        found = curve.log_response(asked.log_covariates, asked.index)
        if kind == "response":
            scatter = PredictiveNoise(self)
            scatter.refuse_unknown_models(asked.frame)
            mean, variance = scatter.of(asked.frame, curve)
            found = scatter.spread(found + mean, variance)
        return np.broadcast_to(found, (len(found), asked.frame.height))

    def beside(self, frame: pl.DataFrame, kind: Kind, count: int) -> np.ndarray:
        """Return draws of the response where another law was asked, nats per token; shape ``(count, queries)``."""
        source, curve = self._answering(kind)
        taken = [*query.needs(self.law), *self.noise.asked]
        asked = query.build(curve, frame.select(name for name in dict.fromkeys(taken) if name in frame.columns), {})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AssumptionWarning)  # which whoever asks has said of the same questions
            found = np.exp(source._log_draws(curve, asked, kind))
        # The two laws' draws are independent: which of them stand side by side does not matter.
        return np.asarray(found[np.linspace(0, len(found) - 1, count).round().astype(int)])

    def _log_tokens(self, curve: Curve, asked: query.Query, log_qid: np.ndarray, kind: Kind) -> np.ndarray:
        self._warn(curve, asked.frame, kind)
        self.warn_if_unfitted(asked.frame, kind)
        if kind == "response_params":
            return log_tokens(curve, asked, log_qid)
        scatter = PredictiveNoise(self)
        scatter.refuse_unknown_models(asked.frame)
        return scatter.log_tokens(curve, asked, log_qid)


def load_fit(path: "str | os.PathLike[str]") -> Fit:
    """Read a fit that `Fit.save` wrote, or the one shipped by a name, ``"atlas"``. Needs neither PyMC nor JAX.

    A file of that name comes first.

    Raises
    ------
    InputError
        If the file is missing, or is not a fit.

    Examples
    --------
    >>> load_fit("atlas").predict(n_params=8e9, tokens=15e12, bits=4, method="gptq")  # doctest: +SKIP
    """
    from qidbayes.posterior.store import load

    note()
    return _fit(load(_of_name(path)))


def _of_name(path: "str | os.PathLike[str]") -> "str | os.PathLike[str]":
    """Return the file shipped by a name, and a path as it is."""
    if str(path) != ATLAS or Path(path).exists():
        return path
    found = shipped("measurements") / ATLAS / f"{ATLAS}.nc"
    if not found.is_file():
        raise InputError(
            f"{ATLAS}: this copy of qidbayes comes without the fit of that name, and no file here is called so; give a "
            f"saved FIT, or make this one: `qidbayes fit {ATLAS} --law {ATLAS}` writes {ATLAS}.nc"
        )
    return found


def _fit(posterior: Posterior) -> Fit:
    known = {field.name: getattr(posterior, field.name) for field in fields(posterior)}
    return Fit(**known | {"loss_16bit": _fit(posterior.loss_16bit) if posterior.loss_16bit else None})
