"""The questions that fits, stacks of fits and points answer alike: `predict` and `tokens_to_threshold`."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from qidbayes.errors import InputError
from qidbayes.law.law import Law
from qidbayes.table.frames import Frame, as_frame

type Kind = Literal["response", "response_params"]
type Response = Literal["qid", "loss_16bit", "loss"]
type Numbers = float | Sequence[float]
type Counts = float | str | Sequence[float | str]


@dataclass(frozen=True)
class Question:
    """What `Answers.predict` is asked, by the names of its arguments."""

    queries: pl.DataFrame | None
    values: Mapping[str, Any]
    response: Response | None
    kind: Kind
    ci_prob: float


class Answers(ABC):
    """Answers what a law's response is, and when QiD reaches a threshold."""

    def predict(
        self,
        queries: Frame | None = None,
        *,
        n_params: Counts | None = None,
        tokens: Counts | None = None,
        bits: Numbers | None = None,
        response: Response | None = None,
        kind: Kind = "response",
        ci_prob: float = 0.9,
        **further: Any,
    ) -> pl.DataFrame:
        """Return the band of the law's response for every combination of the values, or every row of a frame.

        Parameters
        ----------
        queries
            A frame of any library, or a dict of columns, with a question a row, in place of the values.
        n_params, tokens, bits
            Non-embedding parameters and training tokens (counts, also as people say them: ``"7B"``) and bit width;
            single values or lists.
        response
            What to answer with: the law's own response (the default), or, of a fit with a 16-bit law beside it,
            ``"loss_16bit"`` or ``"loss"``: the loss of the quantized model, 16-bit loss + QiD. A law of the loss that
            says what P is without quantization answers with ``"loss_16bit"`` and ``"qid"``, their difference, too.
        kind
            ``"response"``: the band of a newly measured checkpoint, with the effects of its run and checkpoint and
            the error of its row; of a known run if `model` is given. ``"response_params"``: the band of the law alone:
            its equation with the posterior's constants, without the effects of suite, run and checkpoint and without
            the discrepancy. Where a discrepancy is modelled the fitted rows know the sum of these better than the law,
            so that this band, of a suite at random, may be the wider one.
        ci_prob
            The probability of the equal-tailed band.
        **further
            What else the law needs or takes: `model`, `method`, …. A group that was not fitted, of a parameter that is
            partially pooled, is drawn from its population.

        Returns
        -------
        polars.DataFrame
            ``median``, ``lower``, ``upper``, ``mean``, ``sd`` in nats per token, then the question's columns. Each
            row's band holds for itself: the rows share their draws, so that bands are smooth in N, D and P.
        """
        if response not in (None, "qid", "loss_16bit", "loss"):
            raise InputError(f"response must be 'qid', 'loss_16bit' or 'loss', not {response!r}")
        values = {"n_params": n_params, "tokens": tokens, "bits": bits, **further}
        frame = None if queries is None else as_frame(queries, "queries")
        return self._predict(Question(frame, values, response, kind, ci_prob))

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
            ``tokens`` (the median), ``lower``, ``upper``, and ``never``: the share of draws whose curve never rises to
            the threshold. Those count as infinite, so an upper end may be ``inf``. Published constants and least
            squares have no band: ``lower`` and ``upper`` are null. Then the question's columns.

        Raises
        ------
        InputError
            If the law has no QiD or no tokens, or does not depend on what a question names.

        Examples
        --------
        >>> from qidbayes.posterior import published
        >>> table = published("per-bit").tokens_to_threshold(0.2, n_params=1e9, bits=[3, 4])
        >>> [f"{tokens:.3e}" for tokens in table["tokens"]]
        ['1.089e+11', '1.442e+12']
        """
        return self._tokens({"qid": qid, "n_params": n_params, "bits": bits, **further}, kind, ci_prob)

    @abstractmethod
    def _predict(self, question: Question) -> pl.DataFrame:
        """Return the answers; see `predict`."""

    @abstractmethod
    def _tokens(self, values: Mapping[str, Any], kind: Kind, ci_prob: float) -> pl.DataFrame:
        """Return the answers; see `tokens_to_threshold`."""


class OneLaw(Answers):
    """Answers by one law: a fit, or a point."""

    law: Law

    @abstractmethod
    def beside(self, frame: pl.DataFrame, kind: Kind, count: int) -> np.ndarray:
        """Return draws of the response where another law was asked, nats per token; shape ``(count or 1, queries)``."""
