"""The cautions of a fit's answers: as sentences, and as warnings when it is asked."""

import polars as pl

from qidbayes.errors import AssumptionWarning, DiagnosticsWarning, ExtrapolationWarning, UnfittedWarning
from qidbayes.posterior.answers import Kind
from qidbayes.posterior.assumed import assumed
from qidbayes.posterior.cautions import extrapolated, far_in_tokens, unidentified_noise
from qidbayes.posterior.constants import Curve
from qidbayes.posterior.shown import Shown, warn_who_asked
from qidbayes.posterior.unfitted import unfitted
from qidbayes.table.question import as_in_tables


class IdentificationWarning(DiagnosticsWarning):
    """An answer rests on a prior, because the data do not identify a parameter."""


class Cautious(Shown):
    """A posterior that says what is to be known of answers to a question."""

    def cautions(self, frame: pl.DataFrame, kind: Kind = "response") -> list[str]:
        """Return a sentence for each thing to know of the answers to these questions, beside the fit's diagnostics.

        Parameters
        ----------
        frame
            The questions, a row each, or their answers.
        kind
            As in `predict`.

        Returns
        -------
        list of str
            What is assumed because no question says it (see `qidbayes.posterior.assumed`); which bit widths lie outside
            the fitted ones, and how far training tokens do; and, for kind ``"response"``, which numbers of the noise an
            answer rests on that the data do not identify, as `suite_sd` of a suite that was not fitted.
        """
        told = str(assumed(self, frame, kind))
        rests = unidentified_noise(self, frame) if kind == "response" else ()
        return [*([told] if told else ()), *extrapolated(self, frame), *far_in_tokens(self, frame), *rests]

    def _warn(self, curve: Curve, frame: pl.DataFrame, kind: Kind) -> None:
        law = self.law
        populations = [f(p) for p in law.priors for f in (law.population_name, law.spread_name)]
        for remark in self.diagnostics.not_identified(apart_from=() if curve.drawn else populations):
            warn_who_asked(f"{remark}; so do answers that depend on it", IdentificationWarning)
        for remark in self.diagnostics.weak_directions():
            warn_who_asked(f"{remark}; answers that depend on it rest on the prior too", IdentificationWarning)
        for caution in extrapolated(self, frame):
            warn_who_asked(caution, ExtrapolationWarning)
        for caution in unidentified_noise(self, frame) if kind == "response" else ():
            warn_who_asked(caution, IdentificationWarning)
        self._warn_if_doubtful()

    def warn_if_unfitted(self, frame: pl.DataFrame, kind: Kind) -> None:
        """Warn of what questions name that no fitted row has, as a method or a suite, and of what they leave out."""
        left_out = assumed(self, frame, kind)
        if left_out.new:
            warn_who_asked(str(left_out), AssumptionWarning)
        # Models that were not fitted are refused, but for those of a law that differs by model.
        matter = [*(name for name in self._extra(kind) if name != "model"), *self.law.by]
        for remark in unfitted(self.data, as_in_tables(frame), matter):
            warn_who_asked(remark, UnfittedWarning)

    def _extra(self, kind: Kind) -> tuple[str, ...]:
        return self.noise.asked if kind == "response" else ()
