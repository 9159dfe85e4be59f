"""The covariance of rows of many families as one dense matrix, pair by pair from a table's own columns."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

REFERENCE = {"n_params": 7e9, "tokens": 3e12, "bits": 4.0}
SHARED = (
    "method_sd", "method_bits_sd", "method_curve_sd", "dataset_sd", "maker_sd", "maker_bits_sd",
    "group_size_sd", "bits_curve_sd",
)  # fmt: skip


def scales(seed: int = 0) -> dict[str, float]:
    """Return a number for each name of the noise, none like another."""
    names = (
        *SHARED, "suite_sd", "suite_tokens_sd", "suite_params_sd", "suite_bits_sd", "suite_group_size_sd", "smooth_sd",
        "length_params", "length_tokens", "model_sd", "model_bits_sd", "model_tokens_sd", "checkpoint_sd",
        "method_suite_sd", "method_suite_bits_sd", "sigma", "suite_scale_sd",
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    return {name: float(value) for name, value in zip(names, rng.uniform(0.1, 0.9, len(names)), strict=True)}


def groups(row: Mapping[str, Any]) -> float:
    """Return log(row length / group size) of a row, 0 per channel."""
    if row["group_size"] is None:
        return 0.0
    return max(0.0, float(np.log(4096 * (row["n_params"] / 6.5e9) ** 0.37 / row["group_size"])))


def covariance(
    scale: Mapping[str, float], of_suite: Mapping[str, float], a: pl.DataFrame, b: pl.DataFrame, *, shared: bool = True
) -> np.ndarray:
    """Return the covariance between rows without their own errors; shape ``(rows of a, rows of b)``.

    `of_suite` has λ of each suite; without `shared` the effects that all suites share are left out.
    """
    return np.array([[_pair(scale, of_suite, x, y, shared) for y in b.to_dicts()] for x in a.to_dicts()])


def _pair(scale: Mapping[str, float], of_suite: Mapping[str, float], x: Any, y: Any, shared: bool) -> float:
    def var(name: str) -> float:
        return scale[f"{name}_sd"] ** 2

    def log(row: Any, column: str) -> float:
        return float(np.log(row[column] / REFERENCE[column]))

    def matern(column: str, length: str) -> float:
        r = np.sqrt(3) * abs(log(x, column) - log(y, column)) / scale[length]
        return float((1 + r) * np.exp(-r))

    n, d, p = (log(x, c) * log(y, c) for c in ("n_params", "tokens", "bits"))
    found = 0.0
    if shared:
        found += var("group_size") * groups(x) * groups(y) + var("bits_curve") * p**2
        found += var("dataset") * (x["dataset"] == y["dataset"])
        if "/" in x["settings"] and "/" in y["settings"]:
            found += (var("maker") + var("maker_bits") * p) * (
                x["settings"].split("/")[0] == y["settings"].split("/")[0]
            )
        if x["method"] == y["method"]:
            found += var("method") + var("method_bits") * p + var("method_curve") * p**2
    if x["suite"] != y["suite"]:
        return found
    found += var("suite") + var("suite_tokens") * d + var("suite_params") * n + var("suite_bits") * p
    found += var("suite_group_size") * groups(x) * groups(y)
    found += var("smooth") * matern("n_params", "length_params") * matern("tokens", "length_tokens")
    own = 0.0
    if x["model"] == y["model"]:
        own += var("model") + var("model_bits") * p + var("model_tokens") * d
        own += var("checkpoint") * (x["tokens"] == y["tokens"])
    if x["method"] == y["method"]:
        own += var("method_suite") + var("method_suite_bits") * p
    return found + of_suite[x["suite"]] ** 2 * own


def own_variance(
    scale: Mapping[str, float], of_suite: Mapping[str, float], frame: pl.DataFrame, error: Sequence[float] | np.ndarray
) -> np.ndarray:
    """Return the variance of rows' own errors, given that of their measurement."""
    return np.array([(of_suite[s] * scale["sigma"]) ** 2 for s in frame["suite"]]) + np.asarray(error)
