"""Turn draws into bands: the quantiles of each question's draws as columns beside it."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from qidbayes.errors import InputError


def tails(ci_prob: float) -> tuple[float, float]:
    """Return the tail probabilities of an equal-tailed interval.

    Raises
    ------
    InputError
        If it is not a probability between 0 and 1.
    """
    if not (isinstance(ci_prob, int | float) and 0 < ci_prob < 1):
        raise InputError(f"ci_prob must be between 0 and 1, not {ci_prob!r}")
    return (1 - ci_prob) / 2, (1 + ci_prob) / 2


def with_band(frame: pl.DataFrame, draws: np.ndarray, ci_prob: float) -> pl.DataFrame:
    """Return ``median``, ``lower``, ``upper``, ``mean``, ``sd``, and the questions; draws ``(draws, queries)``."""
    lower, upper = tails(ci_prob)
    with np.errstate(all="ignore"):  # a draw in the far tail may be infinite; the quantiles do not mind
        middle, low, high = np.quantile(draws, [0.5, lower, upper], axis=0)
        found = {
            "median": middle,
            "lower": low,
            "upper": high,
            "mean": draws.mean(axis=0),
            "sd": draws.std(axis=0, ddof=1),
        }
    return answered(frame, **found)


def with_tokens(frame: pl.DataFrame, log_tokens: np.ndarray, ci_prob: float) -> pl.DataFrame:
    """Return ``tokens``, ``lower``, ``upper``, ``never``, and the questions; log tokens ``(draws, queries)``."""
    with np.errstate(over="ignore"):  # beyond 10³⁰⁸ tokens is never
        tokens = np.exp(log_tokens)
    lower, upper = tails(ci_prob)
    # "higher" keeps a quantile that falls between a finite draw and infinity from becoming NaN.
    middle, low, high = np.quantile(tokens, [0.5, lower, upper], axis=0, method="higher")
    return answered(frame, tokens=middle, lower=low, upper=high, never=np.isinf(tokens).mean(axis=0))


def answered(frame: pl.DataFrame, **answers: np.ndarray | None) -> pl.DataFrame:
    """Return answers, an array or nulls each, and after them the questions.

    A plain print of a wide frame shows the first four columns and the last four: what was found, and what was asked.
    """
    columns = (
        pl.lit(None, dtype=pl.Float64).alias(name) if values is None else pl.Series(name, values)
        for name, values in answers.items()
    )
    return frame.with_columns(*columns).select(*answers, pl.exclude(*answers))


def answer_first(found: pl.DataFrame, also: str, question: Sequence[str]) -> pl.DataFrame:
    """Return a frame with the band and one more column first, the question's columns last, and none that is empty."""
    first = ["median", "lower", "upper", also]
    ordered = found.select(*first, pl.exclude(*first, *question), *question)
    return without_empty(ordered, "not_fitted", "held", "held_se")


def without_empty(frame: pl.DataFrame, *names: str) -> pl.DataFrame:
    """Return a frame without those of some columns in which every row is null."""
    return frame.drop(name for name in names if name in frame and frame[name].null_count() == frame.height)
