"""Which rows of one's own a fit can be conditioned on: those whose QiD has a logarithm near enough to normal."""

import os
from pathlib import Path

import polars as pl

from qidbayes.errors import InputError, TableWarning
from qidbayes.posterior.posterior import Posterior
from qidbayes.posterior.shown import warn_who_asked
from qidbayes.table.frames import Table
from qidbayes.table.given import as_table
from qidbayes.table.read import read_raw

NOISIEST = 0.2
"""The largest qid_se / QiD whose logarithm is near enough to normal."""


def own_table(fit: Posterior, given: Table, suite: str | None = None) -> pl.DataFrame:
    """Return rows of one's own as a table.

    Parameters
    ----------
    fit
        What is to take them in.
    given
        As in `qidbayes.read_table`.
    suite
        The suite of rows of a file that name none. If not given it is the file's name. Where the fit has a suite of
        that name the rows are of a new one all the same, and a `TableWarning` says so.
    """
    table = as_table(given, "own rows")
    if not isinstance(given, str | os.PathLike) or not Path(given).is_file():
        return table
    raw, name = read_raw(given), Path(given).stem
    unnamed = raw["suite"].is_null().any() if "suite" in raw.columns else True
    if not unnamed or (suite is None and name not in fit.data["suite"].to_list()):
        return table
    if suite is None:
        suite = f"{name} (own rows)"
        warn_who_asked(
            f"{given}: rows without a suite are taken to be of a new one, {suite!r}, and not of the fitted suite "
            f"{name!r}; name it in a column `suite`, or by --suite {name}, if they are of that",
            TableWarning,
        )
    return table.with_columns(suite=pl.when(pl.col("suite") == name).then(pl.lit(suite)).otherwise("suite"))


def usable(fit: Posterior, rows: pl.DataFrame, suite: str) -> tuple[pl.DataFrame, int]:
    """Return the rows of one suite that can be taken in, as the fit has its own, and how many were left out.

    Raises
    ------
    InputError
        If the fit is not of QiD, no row is left, or the fit has some of them already.

    Warns
    -----
    TableWarning
        Of rows that are left out because their QiD is not above 0 or too noisy.
    """
    if fit.law.response != "qid":
        raise InputError(f"a fit of law {fit.law.name!r} is not of QiD, and is not conditioned on rows of it")
    quantized = rows.filter(pl.col("method") != "none")
    rows = quantized.filter(pl.col("qid").is_not_null(), pl.col("status") == "ok")
    if rows.is_empty():
        raise InputError(f"no row of suite {suite!r} has a QiD to condition on")
    rows = _with_a_logarithm(rows, suite)
    rows = rows.with_columns(pl.col(n).cast(t) for n, t in fit.data.schema.items() if n in rows.columns)
    rows = fit.fitted.with_models_tokens(rows).with_columns(pl.col("tokens").cast(fit.data.schema["tokens"]))
    # Under whatever suite: a row that is counted twice makes bands too narrow.
    alike = [
        c
        for c in ("model", "tokens", "method", "bits", "group_size", "dataset", "settings", "qid")
        if c in fit.data.columns
    ]
    same = rows.join(fit.data, on=alike, how="semi", nulls_equal=True)
    if same.height:
        raise InputError(f"{same.height} of the rows of suite {suite!r} are in the fit already: leave them out")
    rows = rows.with_columns(
        pl.lit(None, dtype=t).alias(n) for n, t in fit.data.schema.items() if n not in rows.columns
    )
    return rows, quantized.height - rows.height


def _with_a_logarithm(rows: pl.DataFrame, suite: str) -> pl.DataFrame:
    noisy = (pl.col("qid") <= 0) | (pl.col("qid_se").fill_null(0.0) > NOISIEST * pl.col("qid"))
    out = rows.filter(noisy)
    if out.is_empty():
        return rows
    first = out.row(0, named=True)
    said = (
        f"{out.height} of {rows.height} rows of suite {suite!r} have a QiD of 0 or below, or a qid_se above "
        f"{NOISIEST:.0%} of it (first: {first['model']}, {first['method']} {first['bits']:g} bits, QiD "
        f"{first['qid']:g})"
    )
    if out.height == rows.height:
        raise InputError(f"{said}: none is left to condition on; fit all rows together")
    warn_who_asked(f"{said}: left out", TableWarning)
    return rows.filter(~noisy)
