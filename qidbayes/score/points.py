"""Held-out rows beside their forecasts, and scores over many of them."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from qidbayes.noise.coordinates import KIND
from qidbayes.posterior.distance import beyond
from qidbayes.posterior.predictive import crps
from qidbayes.score.forecasters import Forecaster

LEVELS = (50, 80, 90, 95)
"""Nominal coverages, in percent."""
IDENTITY = ("suite", "model", "revision", "n_params", "tokens", "method", "bits", "group_size", "settings", "dataset")
"""What tells a row from every other."""


def score_points(
    forecaster: Forecaster, train: pl.DataFrame, held_out: pl.DataFrame, response: str, random_seed: int
) -> pl.DataFrame:
    """Return each held-out row with its forecast: see `Backtest.points`.

    Parameters
    ----------
    forecaster
        What was fitted to `train`.
    train, held_out
        Rows of a table; the held-out ones have positive responses.
    response
        The response's column, nats per token.
    random_seed
        Decides the draws that CRPS and quantiles are taken from.
    """
    predictive = forecaster.predictive(held_out)
    observed = np.log(held_out[response].to_numpy())
    draws = predictive.draws(random_seed)
    tails = [tail for level in LEVELS for tail in ((100 - level) / 200, (100 + level) / 200)]
    middle, *ends = np.quantile(draws, [0.5, *tails], axis=0)
    names = [f"{end}_{level}" for level in LEVELS for end in ("lower", "upper")]
    columns = {
        "median": np.exp(middle),
        **{name: np.exp(values) for name, values in zip(names, ends, strict=True)},
        "pit": predictive.pit(observed),
        "log_density": predictive.log_density(observed),
        "crps": crps(draws, observed),
        "log_error": observed - middle,
    }
    scored = held_out.select(*IDENTITY, response).with_columns(pl.Series(n, v) for n, v in columns.items())
    about = (
        held_out if response != "loss_16bit" else held_out.drop("bits", *KIND)
    )  # 16-bit losses are of no quantization
    return pl.concat([scored, beyond(train, about)], how="horizontal")


def aggregate(points: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """Return the scores of groups of held-out points, in the order they first appear.

    Returns
    -------
    polars.DataFrame
        `by`, then ``points``; ``coverage_50``, ``coverage_80``, ``coverage_90``, ``coverage_95``: the share of points
        in the central band; ``log_width_90``: the median of log(upper end / lower end); ``crps`` (log response);
        ``log_density``: the mean, nats a point, of log response; ``bias``: the mean of log(measured / median).
    """
    held = [(2.0 * (pl.col("pit") - 0.5).abs() <= level / 100.0).mean().alias(f"coverage_{level}") for level in LEVELS]
    return points.group_by(list(by), maintain_order=True).agg(
        pl.len().alias("points"),
        *held,
        (pl.col("upper_90") / pl.col("lower_90")).log().median().alias("log_width_90"),
        pl.col("crps").mean(),
        pl.col("log_density").mean(),
        pl.col("log_error").mean().alias("bias"),
    )
