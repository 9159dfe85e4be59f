"""Tables of drift: how far training moved weights since the checkpoint before, and how far rounding moves them.

A row is a checkpoint, a quantization and a weight matrix, or `all` of them. Lengths are relative to the matrix's scale,
the root mean square of its weights at that checkpoint. `_p05` to `_p95` are percentiles of the absolute value over
weights (within .5%), the name without an ending is the root mean square over weights.
"""

import os
from pathlib import Path

import polars as pl

from qidbayes.atomic import write_whole
from qidbayes.errors import InputError
from qidbayes.resources import shipped
from qidbayes.table.parquet import UnreadableError, from_parquet, to_parquet

PERCENTILES = (5, 25, 50, 75, 95)
ALL = "all"
"""What `matrix` says in a row for all weight matrices together."""

DRIFT_COLUMNS: dict[str, type[pl.DataType]] = {
    "suite": pl.String,
    "model": pl.String,
    "revision": pl.String,
    "revision_before": pl.String,  # the checkpoint before; null for a run's first
    "n_params": pl.Int64,
    "tokens": pl.Int64,
    "tokens_before": pl.Int64,
    "learning_rate": pl.Float64,
    "method": pl.String,  # `none`, 16 bits: what training did, without any rounding
    "bits": pl.Float64,
    "group_size": pl.Int64,
    "matrix": pl.String,
    "n_weights": pl.Int64,
    "weight_scale": pl.Float64,  # the root mean square of the weights themselves
    "weight_change": pl.Float64,
    **{f"weight_change_p{p:02d}": pl.Float64 for p in PERCENTILES},
    "rounding_error": pl.Float64,
    **{f"rounding_error_p{p:02d}": pl.Float64 for p in PERCENTILES},
    "moved_farther": pl.Float64,  # share of weights that rounding moves farther than training did
    "output_error": pl.Float64,  # tr(dW M dWᵀ) / tr(W M Wᵀ), M the second moment of the matrix's inputs
    "curvature": pl.Float64,  # output_error / rounding_error²: 1 where inputs are white, or errors blind to them
    "status": pl.String,
    "error": pl.String,
    "source": pl.String,
    "device": pl.String,
}
FOR_LAWS = ("weight_change", "rounding_error", "moved_farther", "output_error", "curvature")
"""The columns that `with_drift` gives a table of losses."""
_CELL = ("suite", "model", "revision", "method", "bits", "group_size")


def read_drift(table: str | os.PathLike[str]) -> pl.DataFrame:
    """Read a table of drift, as `qidbayes measure --drift` writes it.

    Parameters
    ----------
    table
        A Parquet file, or the name of a shipped suite that has one (`nano-drift`).

    Returns
    -------
    polars.DataFrame
        The columns of `DRIFT_COLUMNS`.

    Raises
    ------
    InputError
        If there is no such file, or it is none of these tables.

    Examples
    --------
    >>> read_drift("pythia.parquet")
    Traceback (most recent call last):
    ...
    qidbayes.errors.InputError: pythia.parquet: no such file; give one that `qidbayes measure --drift` wrote
    """
    path = _path(table)
    if not path.is_file():
        raise InputError(f"{path}: no such file; give one that `qidbayes measure --drift` wrote")
    try:
        frame = from_parquet(path.read_bytes(), digested=True).frame
    except UnreadableError as error:
        raise InputError(f"{path}: not a table that `qidbayes measure --drift` wrote ({error})") from error
    if dict(frame.schema) != DRIFT_COLUMNS:
        other = sorted(set(DRIFT_COLUMNS).symmetric_difference(frame.columns))
        which = f"; {', '.join(other[:5])} is missing or too much" if other else ""
        raise InputError(f"{path}: not a table of drift{which}; give one that `qidbayes measure --drift` wrote")
    return frame


def write_drift(frame: pl.DataFrame, path: Path) -> None:
    """Write a table of drift, whole or not at all."""
    write_whole(path, to_parquet(frame.select(list(DRIFT_COLUMNS))))


def with_drift(table: pl.DataFrame, drift: pl.DataFrame) -> pl.DataFrame:
    """Return a table of losses with what a law may use of a table of drift, by checkpoint and quantization.

    Parameters
    ----------
    table
        Of losses, of the same plan: rows meet by suite, model, revision, method, bits and group size.
    drift
        From `read_drift`; its rows for all matrices count.

    Returns
    -------
    polars.DataFrame
        The table with `weight_change`, `rounding_error`, `moved_farther`, `output_error` and `curvature` (numbers);
        null where the drift has nothing of a row.
    """
    whole = drift.filter(pl.col("matrix") == ALL).select(*_CELL, *FOR_LAWS)
    return table.join(whole, on=list(_CELL), how="left", nulls_equal=True, maintain_order="left")


def _path(table: str | os.PathLike[str]) -> Path:
    named = shipped("measurements") / os.fspath(table) / "weights" / "drift.parquet"
    return named if named.is_file() and not Path(table).exists() else Path(table)
