"""What fits and stacks of fits are asked that needs draws: QiD far beyond the data."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from qidbayes.posterior.answers import Answers, Counts, Kind, Numbers, OneLaw
from qidbayes.posterior.assumed import projected
from qidbayes.posterior.band import answer_first, with_band
from qidbayes.posterior.guessing import against_guessing


class Projects(Answers):
    """Answers with draws, of laws that were fitted to data."""

    data: pl.DataFrame
    loss_16bit: OneLaw | None

    def project(
        self,
        *,
        n_params: Counts,
        bits: Numbers | None = None,
        tokens: Counts | None = None,
        loss_16bit: OneLaw | None = None,
        vocabulary: int | None = None,
        kind: Kind = "response",
        ci_prob: float = 0.9,
        **further: Any,
    ) -> pl.DataFrame:
        """Return bands of QiD far beyond the data, and how likely the quantized model is worse than guessing.

        Parameters
        ----------
        n_params, bits, kind, ci_prob, **further
            As in `predict`.
        tokens
            If not given, 100T, the far end of a projection; an `AssumptionWarning` says so.
        loss_16bit
            What the 16-bit loss is taken from: a fit of a 16-bit law, or a published point; a fit with a 16-bit law
            beside it uses that one. Of a fit every draw is used. If not given, ``kaplan-16bit``'s published point,
            times what brings it to the table's own 16-bit losses, if it has any; an `AssumptionWarning` says so.
        vocabulary
            The size of the vocabulary: random guessing has the loss ln(vocabulary), in nats per token. If not given,
            Llama 3's, 128,256; an `AssumptionWarning` says so. Of the paper's own points neither is said.

        Returns
        -------
        polars.DataFrame
            ``median``, ``lower``, ``upper`` and ``worse_than_random``, the share of draws in which 16-bit loss + QiD is
            above ln(vocabulary). Then ``mean``, ``sd``, how far the question lies outside the data, and for kind
            ``"response"`` how a fit's bands have held: the columns of `Fit.held`, but for those that are empty. Last
            ``loss_16bit`` (nats per token) and the question's columns. A plain print of so wide a frame shows its first
            four columns and its last four.

        Raises
        ------
        InputError
            If the law is of the loss itself, or `loss_16bit` is not of the 16-bit loss.
        """
        frame = self._questions({"n_params": n_params, "tokens": projected(tokens), "bits": bits, **further}, kind)
        draws = np.exp(self.log_draws(frame, kind))
        guessing = against_guessing(frame, draws, self.data, loss_16bit or self.loss_16bit, vocabulary, kind)
        band = with_band(frame, draws, ci_prob)
        parts = [band, self._outside(frame, kind, ci_prob), guessing]
        return answer_first(pl.concat(parts, how="horizontal"), "worse_than_random", frame.columns)

    @abstractmethod
    def log_draws(self, frame: pl.DataFrame, kind: Kind = "response") -> np.ndarray:
        """Return the draws that `predict` makes bands of: log responses, shape ``(draws, queries)``.

        Parameters
        ----------
        frame
            A question a row, with the columns the law needs; further columns are ignored, but for `model`. Questions
            that fewer draws answer than others have each of theirs several times.
        kind
            As in `predict`.
        """

    @abstractmethod
    def _questions(self, values: Mapping[str, Any], kind: Kind) -> pl.DataFrame:
        """Return a question a row, of values as `predict` takes them."""

    @abstractmethod
    def _outside(self, frame: pl.DataFrame, kind: Kind, ci_prob: float) -> pl.DataFrame:
        """Return how far questions lie outside the data, and what is known of bands there."""
