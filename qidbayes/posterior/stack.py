"""Several fits as one: the mixture of their predictions by stacking weights."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from qidbayes.errors import InputError
from qidbayes.posterior import query
from qidbayes.posterior.answers import Answers, Counts, Kind, Numbers, Response
from qidbayes.posterior.assumed import projected
from qidbayes.posterior.band import answer_last, with_band, with_tokens, without_empty
from qidbayes.posterior.distance import beyond
from qidbayes.posterior.fit import Fit
from qidbayes.posterior.guessing import against_guessing
from qidbayes.posterior.point import Point
from qidbayes.posterior.predictive import Predictive

DRAWS = 4000
"""How many draws a stack answers with, shared between its fits by their weights."""


class Stack(Answers):
    """The mixture of several fits' predictions: of each, so many draws as its weight gives it.

    It answers like a fit. A band of a mixture is wider than its parts where they disagree, which is what is wanted:
    that the laws disagree is something the data have not settled.

    Parameters
    ----------
    fits
        Fits of laws of one response.
    weights
        Their weights, 0 or above, such as `compare` finds; they are scaled to sum to 1.

    Raises
    ------
    InputError
        If there are not as many weights as fits, or no weight is positive, or the fits' responses differ.

    Examples
    --------
    >>> from qidbayes.posterior import load_fit
    >>> fits = [load_fit("unified.nc"), load_fit("per-bit.nc")]  # doctest: +SKIP
    >>> Stack(fits, [0.3, 0.7]).predict(n_params=7e9, tokens=1e13, bits=4)  # doctest: +SKIP
    """

    def __init__(self, fits: Sequence[Fit], weights: Sequence[float]) -> None:
        if len(fits) != len(weights) or not fits:
            raise InputError(f"give one weight a fit; there are {len(fits)} fits and {len(weights)} weights")
        given = np.array(weights, dtype=float)
        if not np.isfinite(given).all() or (given < 0).any() or not given.sum() > 0:
            raise InputError(f"weights must be 0 or above, and not all 0; got {', '.join(f'{w:g}' for w in given)}")
        if len({fit.law.response for fit in fits}) > 1:
            raise InputError("a stack is of laws of one response")
        self.weights = given / given.sum()
        self.fits = tuple(fits)
        counts = _apportion(self.weights, DRAWS)
        self._counts = {i: n for i, n in enumerate(counts) if n}

    def _predict(
        self,
        queries: pl.DataFrame | None,
        values: Mapping[str, Any],
        response: Response | None,
        kind: Kind,
        ci_prob: float,
    ) -> pl.DataFrame:
        own = self.fits[0].law.response
        if response not in (None, own):
            raise InputError(f"a stack answers with the response of its laws, {own!r}, not {response!r}")
        frame = self._frame(queries, values)
        return with_band(frame, np.exp(self._draws(lambda fit: fit.log_draws(frame, kind))), ci_prob)

    def tokens_to_threshold(
        self,
        qid: Numbers,
        *,
        n_params: Counts | None = None,
        bits: Numbers | None = None,
        kind: Kind = "response",
        ci_prob: float = 0.9,
        **further: Any,
    ) -> pl.DataFrame:
        """Return the training tokens at which QiD reaches a threshold: the columns of `Fit.tokens_to_threshold`."""
        if any(self.fits[i].law.response != "qid" or "D" not in self.fits[i].law.covariates for i in self._counts):
            raise InputError("not every law of the stack says how QiD grows with tokens")
        frame = self._frame(None, {"qid": qid, "n_params": n_params, "bits": bits, **further}, ("qid",))
        return with_tokens(frame, self._draws(lambda fit: fit.log_tokens_draws(frame, kind)), ci_prob)

    def project(
        self,
        *,
        n_params: Counts,
        bits: Numbers | None = None,
        tokens: Counts | None = None,
        loss_16bit: "Fit | Point | None" = None,
        vocabulary: int | None = None,
        kind: Kind = "response",
        ci_prob: float = 0.9,
        **further: Any,
    ) -> pl.DataFrame:
        """Return bands of QiD far beyond the data: the columns of `Fit.project` for a fit without a backtest."""
        frame = self._frame(None, {"n_params": n_params, "tokens": projected(tokens), "bits": bits, **further})
        draws = np.exp(self._draws(lambda fit: fit.log_draws(frame, kind)))
        guessing = against_guessing(frame, draws, self.fits[0].data, loss_16bit, vocabulary, kind)
        where = beyond(self.fits[0].data, frame, left_out_is_new=self.fits[0].noise.by_draw).drop("outside")
        return without_empty(answer_last(with_band(frame, draws, ci_prob), guessing, where), "not_fitted")

    def predictive(self, frame: pl.DataFrame) -> Predictive:
        """Return the posterior predictive of measured rows; see `Fit.predictive`."""
        parts = [(self.fits[i].predictive(frame), count) for i, count in self._counts.items()]
        return Predictive(
            np.concatenate([_thin(part.mean, count) for part, count in parts]),
            np.concatenate([_thin(part.sd, count) for part, count in parts]),
        )

    def __repr__(self) -> str:
        parts = ", ".join(f"{w:.2f} {fit.law.name}" for w, fit in zip(self.weights, self.fits, strict=True))
        return f"<Stack of {parts}>"

    def _frame(
        self, queries: pl.DataFrame | None, values: Mapping[str, Any], extra: Sequence[str] = ()
    ) -> pl.DataFrame:
        given = {name: value for name, value in values.items() if value is not None}
        if queries is not None:
            if given:
                raise InputError("give either a frame of queries or values, not both")
            return queries
        taken = [(*query.needs(fit.law), *fit.noise.asked) for fit in self.fits]
        known = dict.fromkeys([*extra, "model", *(name for names in taken for name in names)])
        unused = [name for name in given if name not in known]
        if unused:
            raise InputError(f"no law of the stack depends on {unused[0]!r}; they take {', '.join(known)}")
        return query.combinations(given)

    def _draws(self, of: Callable[[Fit], np.ndarray]) -> np.ndarray:
        return np.concatenate([_thin(of(self.fits[i]), count) for i, count in self._counts.items()])


def _thin(draws: np.ndarray, count: int) -> np.ndarray:
    """Return so many draws, evenly spaced; some twice if there are fewer."""
    return np.asarray(draws[np.floor(np.arange(count) * len(draws) / count).astype(int)])


def _apportion(weights: np.ndarray, total: int) -> list[int]:
    """Share out a total by weights, the largest remainders rounded up."""
    exact = weights * total
    counts = np.floor(exact).astype(int)
    order = np.argsort(counts - exact, kind="stable")
    counts[order[: total - counts.sum()]] += 1
    return [int(n) for n in counts]
