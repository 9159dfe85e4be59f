"""Cautions that depend on the question, such as extrapolation; a fit's own are in its diagnostics."""

import polars as pl

from qidbayes.posterior import query
from qidbayes.posterior.distance import beyond, unmeasured_bits
from qidbayes.posterior.posterior import Posterior

_ASKED = {
    "model_sd": "a training run that was not fitted",
    "model_tokens_sd": "a training run that was not fitted",
    "walk_sd": "training tokens outside the data",
    "suite_sd": "a suite that was not fitted",
    "similarity": "a method, group size or data set that was not fitted",
    "length_params": "a size outside the data",
    "length_tokens": "training tokens outside the data",
    "length_bits": "a bit width outside the data",
    "smooth_sd": "what lies outside the data",
}
"""The numbers of the noise that questions of some kinds rest on, and what is asked about there."""

_INSIDE = 1.001
_FAR = 2.0
_TESTED = 24
"""The farthest outside its data, in tokens, that a law has been tested: Pythia's and nano's first checkpoints asked of
their last (docs/backtest.md)."""


def extrapolated(fit: Posterior, frame: pl.DataFrame) -> list[str]:
    """Return a sentence on bit widths outside the fitted ones, if the fit is of a law that differs by bits."""
    if fit.law.response == "loss_16bit" or "bits" not in query.needs(fit.law):
        return []
    return unmeasured_bits(fit.data, frame)


def far_in_tokens(fit: Posterior, frame: pl.DataFrame) -> list[str]:
    """Return a sentence on training tokens far beyond the fitted ones, if any is asked about.

    Examples
    --------
    >>> from qidbayes.posterior import load_fit
    >>> far_in_tokens(load_fit("atlas"), pl.DataFrame({"tokens": [15e12, 1e15]}))[0].partition(":")[0]
    'tokens lie up to 27.8 times outside the fitted ones'
    """
    if "tokens" not in frame.columns or "tokens" not in fit.data.columns or not frame.height:
        return []
    far = beyond(fit.data.filter(pl.col("tokens").is_not_null()), frame.select("tokens"))
    if "tokens_beyond" not in far.columns:
        return []
    most = float(far["tokens_beyond"].fill_nan(1.0).max())  # type: ignore[arg-type]
    if most < _FAR:
        return []
    return [
        f"tokens lie up to {most:.3g} times outside the fitted ones: an answer there assumes no break after the data; "
        f"nobody has tested one farther out than {_TESTED} times"
    ]


def unidentified_noise(fit: Posterior, frame: pl.DataFrame) -> list[str]:
    """Return a sentence on the numbers of the noise that an answer rests on and the data do not identify, if any.

    Parameters
    ----------
    fit
        What is asked.
    frame
        The questions about measurements; the law alone, `kind="response_params"`, has no noise.
    """
    unknown = fit.diagnostics.unidentified_noise
    resting = _rests_on(fit, frame) if unknown else set()
    names = [name for name in _ASKED if name in resting and name in unknown]
    if not names:
        return []
    priors = "its prior" if len(names) == 1 else "their priors"
    asked = _listed([_ASKED[name] for name in names])
    return [f"these data do not identify {_listed(names)}: an answer for {asked} rests on {priors}"]


def _listed(words: list[str]) -> str:
    words = list(dict.fromkeys(words))
    return " and ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)


def _rests_on(fit: Posterior, frame: pl.DataFrame) -> set[str]:
    """Return the numbers of the noise that decide how much more than the fitted rows an answer may scatter."""
    known = fit.data["model"].to_list()
    models = frame["model"].to_list() if "model" in frame.columns else [None]
    found = {"model_sd", "model_tokens_sd"} if any(model not in known for model in models) else set()
    if not fit.noise.by_draw:
        return found & set(fit.draws)
    far = beyond(fit.data, frame, left_out_is_new=True)
    new = set(", ".join(far["not_fitted"].drop_nulls()).split(", ")) - {""}
    found |= {"suite_sd", "smooth_sd"} if "suite" in new else set()
    found |= {"similarity"} if new - {"suite"} else set()
    for column, length in (("n_params", "length_params"), ("tokens", "length_tokens"), ("bits", "length_bits")):
        if f"{column}_beyond" in far.columns and (far[f"{column}_beyond"] > _INSIDE).any():
            found |= {length, "smooth_sd", "walk_sd"} if column == "tokens" else {length, "smooth_sd"}
    return found & set(fit.draws)
