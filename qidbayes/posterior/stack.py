"""Several fits as one: the mixture of their predictions by stacking weights."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from qidbayes.errors import InputError
from qidbayes.posterior import query
from qidbayes.posterior.answers import Kind, Question
from qidbayes.posterior.band import with_band, with_tokens
from qidbayes.posterior.distance import beyond
from qidbayes.posterior.fit import Fit
from qidbayes.posterior.predictive import Predictive
from qidbayes.posterior.projects import Projects

DRAWS = 4000
"""How many draws a stack answers with, shared between its fits by their weights."""


class Stack(Projects):
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
        self.data, self.loss_16bit = fits[0].data, None
        counts = _apportion(self.weights, DRAWS)
        self._counts = {i: n for i, n in enumerate(counts) if n}

    def _predict(self, question: Question) -> pl.DataFrame:
        own, kind = self.fits[0].law.response, question.kind
        if question.response not in (None, own):
            raise InputError(f"a stack answers with the response of its laws, {own!r}, not {question.response!r}")
        frame = self._frame(question.queries, question.values)
        return with_band(frame, np.exp(self.log_draws(frame, kind)), question.ci_prob)

    def _tokens(self, values: Mapping[str, Any], kind: Kind, ci_prob: float) -> pl.DataFrame:
        if any(self.fits[i].law.response != "qid" or "D" not in self.fits[i].law.covariates for i in self._counts):
            raise InputError("not every law of the stack says how QiD grows with tokens")
        frame = self._frame(None, values, ("qid",))
        return with_tokens(frame, self._draws(lambda fit: fit.log_tokens_draws(frame, kind)), ci_prob)

    def log_draws(self, frame: pl.DataFrame, kind: Kind = "response") -> np.ndarray:
        """Return the draws that `predict` makes bands of; see `Projects.log_draws`."""
        return self._draws(lambda fit: fit.log_draws(frame, kind))

    def _questions(self, values: Mapping[str, Any], kind: Kind) -> pl.DataFrame:  # noqa: ARG002
        if self.fits[0].law.response == "loss":
            raise InputError("the laws of the stack are of the loss itself; ask predict")
        return self._frame(None, values)

    def _outside(self, frame: pl.DataFrame, kind: Kind, ci_prob: float) -> pl.DataFrame:  # noqa: ARG002
        return beyond(self.data, frame, left_out_is_new=self.fits[0].noise.by_draw).drop("outside")

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
