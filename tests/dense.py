"""The discrepancy's covariance as one dense matrix, from a table's own columns and by the definition of its kernel."""

from collections.abc import Mapping

import numpy as np
import polars as pl
from scipy.special import gamma, kv

KIND = ("method", "group_size", "dataset")
ERRORS = {2.0: 0.04, 3.0: 0.02, 4.0: 0.01}
"""A standard error for each width, as a share of QiD."""


def with_errors(table: pl.DataFrame, seed: int = 0) -> pl.DataFrame:
    """Return the measured rows, each with a QiD of its own and the standard error of its width."""
    table = table.filter(pl.col("qid").is_not_null())
    scatter = np.exp(0.3 * np.random.default_rng(seed).standard_normal(table.height))
    table = table.with_columns(qid=pl.col("qid") * scatter, loss=None, loss_16bit=None)
    share = pl.col("bits").replace_strict(ERRORS, default=0.03, return_dtype=pl.Float64)
    return table.with_columns(qid_se=share * pl.col("qid"))


def variance(table: pl.DataFrame) -> np.ndarray:
    """Return the variance that their standard errors give the rows' log QiD."""
    return np.asarray((table["qid_se"] / table["qid"]).to_numpy() ** 2)


def covariance(scale: Mapping[str, float], a: pl.DataFrame, b: pl.DataFrame) -> np.ndarray:
    """Return the covariance between measurements without their own errors; shape ``(rows of a, rows of b)``."""

    def near(column: str, length: str) -> np.ndarray:
        one, other = (np.log(frame[column].cast(pl.Float64).to_numpy()) for frame in (a, b))
        return matern(np.abs(one[:, None] - other[None, :]) / scale[length])

    def same(*columns: str) -> np.ndarray:
        one, other = (np.array([str(row) for row in frame.select(columns).rows()]) for frame in (a, b))
        return (one[:, None] == other[None, :]).astype(float)

    smooth = near("n_params", "length_params") * near("tokens", "length_tokens")
    runs = same("suite") * (scale["suite_sd"] ** 2 + scale["smooth_sd"] ** 2 * smooth)
    runs += same("model") * scale["model_sd"] ** 2 + same("model", "revision") * scale["checkpoint_sd"] ** 2
    alike = scale["similarity"] + (1 - scale["similarity"]) * same(*KIND)
    return np.asarray(runs * near("bits", "length_bits") * alike)


def matern(distance: np.ndarray) -> np.ndarray:
    """Return Matérn's kernel of smoothness 5/2 by its definition, with a Bessel function."""
    r = np.sqrt(5.0) * np.maximum(distance, 1e-6)
    return np.asarray(2.0 ** (1 - 2.5) / gamma(2.5) * r**2.5 * kv(2.5, r))
