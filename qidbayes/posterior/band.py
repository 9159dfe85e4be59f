"""Turn draws into bands: the quantiles of each question's draws as columns beside it."""

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
    """Return the questions with ``median``, ``lower``, ``upper``, ``mean``, ``sd``; draws ``(draws, queries)``."""
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
    return frame.with_columns(pl.Series(name, values) for name, values in found.items())


def with_tokens(frame: pl.DataFrame, log_tokens: np.ndarray, ci_prob: float) -> pl.DataFrame:
    """Return the questions with ``tokens``, ``lower``, ``upper``, ``never``; log tokens ``(draws, queries)``."""
    with np.errstate(over="ignore"):  # beyond 10³⁰⁸ tokens is never
        tokens = np.exp(log_tokens)
    lower, upper = tails(ci_prob)
    # "higher" keeps a quantile that falls between a finite draw and infinity from becoming NaN.
    middle, low, high = np.quantile(tokens, [0.5, lower, upper], axis=0, method="higher")
    never = np.isinf(tokens).mean(axis=0)
    return frame.with_columns(
        pl.Series("tokens", middle), pl.Series("lower", low), pl.Series("upper", high), pl.Series("never", never)
    )


def answer_last(*parts: pl.DataFrame, last: str = "worse_than_random") -> pl.DataFrame:
    """Return frames side by side, their answer last: of a wide frame a plain print shows the last four columns."""
    found = pl.concat(parts, how="horizontal")
    answer = [name for name in ("mean", "sd", "median", "lower", "upper", last) if name in found.columns]
    return found.select(pl.exclude(answer), *answer)


def without_empty(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    """Return a frame without a column in which every row is null."""
    return frame.drop(name) if frame[name].null_count() == frame.height else frame
