"""How far a model is trained, told from what quantization costs it: the paper's proposal, with its uncertainty.

By Bayes' rule, with y the logarithms of the QiDs measured of one checkpoint and θ the law's constants,

    p(log D | y) ∝ p(log D) · mean over posterior draws of θ of p(y | D, θ)

where p(y | D, θ) is the joint density of the measurements: they share the effects of their run and checkpoint (and,
where it is modelled, what the equation misses there), so that ten of them tell little more than one. The prior is flat
in log D between two ends. The density is worked out on a grid, without sampling.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from qidbayes.errors import InputError
from qidbayes.posterior import query
from qidbayes.posterior.band import answered, tails
from qidbayes.posterior.constants import Curve
from qidbayes.posterior.joint import joint
from qidbayes.posterior.posterior import Posterior
from qidbayes.posterior.predictive_noise import PredictiveNoise
from qidbayes.posterior.threshold import check_grows
from qidbayes.table.question import as_in_tables
from qidbayes.units import format_count, parse_count

BETWEEN = (1e6, 1e15)
"""The ends of the prior, in tokens: wider than anything anybody has trained."""
NOISIEST = 0.2
"""The largest qid_se / QiD whose logarithm is near enough to normal."""
_COARSE, _FINE = 61, 161
LOOKING = 40
"""How many draws tell where to look."""
_NEGLIGIBLE = 14.0  # nats below the peak
_AT_AN_END = 0.01


class PriorEdgeWarning(UserWarning):
    """A posterior reaches an end of its prior's range: the answer depends on where that end is."""


def measurements(
    qid: float | Sequence[float], qid_se: float | Sequence[float] | None, values: Mapping[str, Any]
) -> pl.DataFrame:
    """Return the measurements of one checkpoint, a row each; what is one number holds for all of them.

    Raises
    ------
    InputError
        If lists are not of one length, or a QiD or its error cannot be used.
    """
    given = {"qid": qid, "qid_se": qid_se, **values}
    columns = {name: _listed(value) for name, value in given.items() if value is not None}
    count = max(len(column) for column in columns.values())
    for name, column in columns.items():
        if len(column) not in (1, count):
            raise InputError(
                f"{name}: {len(column)} values for {count} measurements; give one for each, or one for all"
            )
    frame = as_in_tables(pl.DataFrame({n: c * (count if len(c) == 1 else 1) for n, c in columns.items()}, strict=False))
    value = query.positive(frame, "qid")
    if "qid_se" in frame.columns:
        error = query.positive(frame, "qid_se")
        noisy = error > NOISIEST * value
        if noisy.any():
            raise InputError(
                f"qid_se: {error[noisy][0]:g} is more than a fifth of the QiD {value[noisy][0]:g}, which hardly tells "
                "how far the model is trained; measure it on more text, or at fewer bits"
            )
    for name in ("n_params", "model"):
        if name in frame.columns and frame[name].n_unique() > 1:
            raise InputError(f"{name}: the measurements must be of one model; ask for each model by itself")
    return frame


def log_density(fit: Posterior, curve: Curve, frame: pl.DataFrame, log_tokens: np.ndarray) -> np.ndarray:
    """Return log p(y | D), up to a constant, at each of some log tokens; shape ``(points,)``.

    Parameters
    ----------
    frame
        The measurements, a row each, with `qid` and perhaps `qid_se` (nats per token).
    log_tokens
        Shape ``(points,)``.
    """
    value = frame["qid"].cast(pl.Float64).to_numpy()
    error = frame["qid_se"].cast(pl.Float64).to_numpy() if "qid_se" in frame.columns else np.zeros(len(value))
    asked = frame.drop("qid", "qid_se", strict=False)
    points = pl.DataFrame({"tokens": np.exp(log_tokens)}).join(asked, how="cross", maintain_order="left_right")
    expected = joint(fit, curve, points, blocks=len(log_tokens))
    each = expected.log_density(np.log(value), np.square(error / value))
    return np.asarray(np.logaddexp.reduce(np.where(np.isnan(each), -np.inf, each), axis=0))


def training_level(
    fit: Posterior,
    some: Posterior,
    curve: Curve,
    frame: pl.DataFrame,
    between: tuple[float | str, float | str],
    ci_prob: float,
) -> pl.DataFrame:
    """Return the posterior of D; see `Fit.training_level`. `some` of the draws tell where to look."""
    check_grows(fit.law)
    lower, upper = tails(ci_prob)
    start, end = (parse_count(end) if isinstance(end, str) else end for end in between)
    if not 0 < start < end < np.inf:
        raise InputError(f"between must be two counts of tokens, the smaller one first; got {start:g} and {end:g}")
    asked = frame.drop("qid", "qid_se", strict=False)
    query.refuse_unused(fit.law, asked.columns, (*query.needs(fit.law, "tokens"), *PredictiveNoise(fit).asked))
    PredictiveNoise(fit).refuse_unknown_models(frame)
    coarse = np.linspace(np.log(start), np.log(end), _COARSE)
    found = log_density(some, some.curve(), frame, coarse)
    if not np.isfinite(found).any():
        raise InputError(
            f"no tokens between {start:g} and {end:g} explain these measurements; check qid, or widen between"
        )
    near = np.flatnonzero(found > found.max() - _NEGLIGIBLE)
    first, last = max(near[0] - 1, 0), min(near[-1] + 1, _COARSE - 1)
    grid = np.linspace(coarse[first], coarse[last], _FINE)
    found = log_density(fit, curve, frame, grid)
    density = np.exp(found - found.max())
    share = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    share /= share[-1]
    # Of an e-folding at either end of the prior; further out there is none.
    for edge, mass in (
        (start, np.interp(np.log(start) + 1, grid, share)),
        (end, 1 - np.interp(np.log(end) - 1, grid, share)),
    ):
        if mass > _AT_AN_END:
            warnings.warn(
                f"the answer depends on an end of the prior: {mass:.0%} of the posterior lies near "
                f"{format_count(edge)} tokens",
                PriorEdgeWarning,
                skip_file_prefixes=(str(Path(__file__).parent),),
            )
    quantiles = np.exp(np.interp([0.5, lower, upper], share, grid))
    same = [name for name in asked.columns if asked[name].n_unique() == 1]
    band = {name: quantiles[[i]] for i, name in enumerate(("median", "lower", "upper"))}
    return answered(asked.select(same).head(1), **band, measurements=np.array([frame.height]))


def _listed(value: Any) -> list[Any]:
    return (
        list(value) if isinstance(value, Sequence | np.ndarray | pl.Series) and not isinstance(value, str) else [value]
    )
