"""What the equation misses: a Gaussian process over runs and quantizations, and what it says of new measurements.

Measurement i is of run r_i (a checkpoint of a model of a suite) at quantization q_i (a bit width by a method). Around
the law's logarithm it scatters with the covariance σ²·1[i = j] + R(r_i, r_j)·Q(q_i, q_j), where

    R = 1[suite]·(suite_sd² + smooth_sd²·k(Δ log N / length_params)·k(Δ log D / length_tokens))
        + 1[model]·model_sd² + 1[checkpoint]·checkpoint_sd²
    Q = k(Δ log P / length_bits)·(1 if of one kind, else similarity)

and k is Matérn's kernel of smoothness 5/2. So what the law misses at one checkpoint is missed by all its quantizations,
the more alike the nearer their widths; it drifts along a run and over sizes; and away from the data it is anything that
its standard deviations allow (Kennedy and O'Hagan 2001). Nothing here knows of PyMC: the same functions serve the
model, on PyTensor, and the questions to a saved fit, on NumPy.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from qidbayes.errors import InputError
from qidbayes.table.groups import CHECKPOINT, labels

SCALES = ("smooth_sd", "suite_sd", "model_sd", "checkpoint_sd")
LENGTHS = ("length_params", "length_tokens", "length_bits")
SIMILARITY = "similarity"
KIND = ("method", "group_size", "dataset")
"""What makes two quantizations of one bit width different kinds."""
NEW = -1
"""The code of a group that no fitted row is of."""

type Cells = Mapping[str, Any]
"""Where measurements stand, arrays of shape ``(rows,)``: ``log_params``, ``log_tokens``, ``log_bits`` and the codes of
``suite``, ``model``, ``checkpoint`` and ``kind``."""


def covariance(scale: Mapping[str, Any], a: Cells, b: Cells, ops: Any) -> Any:
    """Return R·Q between measurements; shape ``(…, rows of a, rows of b)``.

    Parameters
    ----------
    scale
        What `SCALES`, `LENGTHS` and `SIMILARITY` name, each broadcasting with ``(rows of a, rows of b)``; what is
        missing is not part of the covariance.
    ops
        The array library: NumPy or PyTensor.
    """
    return runs(scale, a, b, ops) * quantizations(scale, a, b, ops)


def runs(scale: Mapping[str, Any], a: Cells, b: Cells, ops: Any) -> Any:
    """Return R; see `covariance`."""
    found = places(scale, a, b, ops)
    for group in ("model", "checkpoint"):
        if f"{group}_sd" in scale:
            found = found + _same(a, b, group, ops) * scale[f"{group}_sd"] ** 2
    return found


def places(scale: Mapping[str, Any], a: Cells, b: Cells, ops: Any) -> Any:
    """Return R without the effects of models and checkpoints: what depends on suite, N and D."""
    near = matern(_apart(a, b, "log_params") / scale["length_params"], ops)
    near = near * matern(_apart(a, b, "log_tokens") / scale["length_tokens"], ops)
    return _same(a, b, "suite", ops) * (scale["suite_sd"] ** 2 + scale["smooth_sd"] ** 2 * near)


def quantizations(scale: Mapping[str, Any], a: Cells, b: Cells, ops: Any) -> Any:
    """Return Q; see `covariance`."""
    if SIMILARITY not in scale:
        return 1.0
    alike = scale[SIMILARITY] + (1.0 - scale[SIMILARITY]) * _same(a, b, "kind", ops)
    return matern(_apart(a, b, "log_bits") / scale["length_bits"], ops) * alike


def matern(distance: Any, ops: Any) -> Any:
    """Return Matérn's kernel of smoothness 5/2 (Rasmussen and Williams 2006, Eq. 4.17).

    Examples
    --------
    >>> matern(np.array([0.0, 1.0]), np).round(3).tolist()
    [1.0, 0.524]
    """
    r = np.sqrt(5.0) * ops.abs(distance)
    return (1.0 + r + r**2 / 3.0) * ops.exp(-r)


def _apart(a: Cells, b: Cells, name: str) -> Any:
    return a[name][:, None] - b[name][None, :]


def _same(a: Cells, b: Cells, group: str, ops: Any) -> Any:
    return 1.0 - ops.minimum(1.0, ops.abs(_apart(a, b, group)))


@dataclass(frozen=True)
class Fitted:
    """The fitted rows, and where others stand beside them."""

    data: pl.DataFrame

    def cells(self, frame: pl.DataFrame) -> dict[str, np.ndarray]:
        """Return where a frame's rows stand.

        What a row does not name, because its cell is empty or the frame has no such column, is new, unless all fitted
        rows agree on it: then it is taken to be theirs. A model is new unless named; suite and size of a named model
        need not be given. Each row stands where it would stand alone.

        Raises
        ------
        InputError
            If a row says neither its N, D and bits, nor a fitted model that has them.
        """
        frame = self._completed(frame)
        found = {}
        for short, column in (("params", "n_params"), ("tokens", "tokens"), ("bits", "bits")):
            if column not in frame.columns or frame[column].null_count():
                raise InputError(f"what the law misses depends on {column} too: give it with every question")
            found[f"log_{short}"] = np.log(frame[column].cast(pl.Float64).to_numpy())
        for group in ("suite", "model", CHECKPOINT):
            found[group] = self._codes(frame, group, (group,))
        found["kind"] = self._codes(frame, "kind", KIND)
        return found

    def _codes(self, frame: pl.DataFrame, group: str, columns: tuple[str, ...]) -> np.ndarray:
        needed = ("model", "revision") if group == CHECKPOINT else columns
        if any(column not in frame.columns for column in needed):
            return np.full(frame.height, NEW)
        known = {label: code for code, label in enumerate(labels(self.data, columns).unique(maintain_order=True))}
        return np.array([known.get(label, NEW) for label in labels(frame, columns)], dtype=np.int64)

    def _completed(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Fill in, row by row, what a row does not name: from its model's fitted rows, or from all if they agree."""
        for column in ("suite", "n_params"):
            if "model" in frame.columns:
                of_model = self.data.unique("model", maintain_order=True).select("model", pl.col(column).alias("known"))
                known = frame.select("model").join(of_model, on="model", how="left", maintain_order="left")["known"]
                frame = frame.with_columns(_filled(frame, column, known))
        for column in ("suite", *KIND, "bits"):
            # An empty group size is a value, per channel, wherever a frame has the column.
            if self.data[column].n_unique() == 1 and (column != "group_size" or column not in frame.columns):
                theirs = pl.repeat(self.data[column][0], frame.height, dtype=self.data.schema[column], eager=True)
                frame = frame.with_columns(_filled(frame, column, theirs))
        return frame


def _filled(frame: pl.DataFrame, column: str, known: pl.Series) -> pl.Series:
    """Return a frame's column with what is known in the place of what it does not name."""
    if column not in frame.columns:
        return known.alias(column)
    return frame.select(pl.coalesce(column, pl.lit(known)).alias(column))[column]


def prior_variance(scale: Mapping[str, Any]) -> Any:
    """Return the variance of the discrepancy at a measurement that nothing is known of."""
    return sum(scale[name] ** 2 for name in SCALES if name in scale)
