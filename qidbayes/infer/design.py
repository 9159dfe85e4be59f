"""What a law sees of a table: the rows it is about, as arrays."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from qidbayes.errors import InputError
from qidbayes.infer import latent
from qidbayes.law import COVARIATES, Law
from qidbayes.law.law import QUANTIZED, RESPONSES
from qidbayes.table.groups import dimension, labels
from qidbayes.table.own_error import standard_error
from qidbayes.table.schema import NAMES, validate


@dataclass(frozen=True)
class Design:
    """The rows of a table that a law is fitted to.

    Attributes
    ----------
    law
        The law, its reference in numbers.
    frame
        The rows used, in the schema's columns.
    left_out
        How many of the table's rows were not used, by reason.
    response, error
        What was measured and its standard error, nats per token; shape ``(rows,)``.
    log_response, variance
        The logarithm of the response, and the variance that its standard error gives that logarithm; shape ``(rows,)``.
        For a row too noisy for it, its sketch (see `qidbayes.infer.latent`).
    log_covariates
        For each covariate of the law, the logarithm of its value over the law's reference; shape ``(rows,)``.
    index, coords
        For each dimension (`model`, `checkpoint`, and what parameters differ by), the group of each row, shape
        ``(rows,)``, and the groups' labels.
    """

    law: Law
    frame: pl.DataFrame
    left_out: Mapping[str, int]
    response: np.ndarray
    error: np.ndarray
    log_response: np.ndarray
    variance: np.ndarray
    log_covariates: Mapping[str, np.ndarray]
    index: Mapping[str, np.ndarray]
    coords: Mapping[str, tuple[str, ...]]


def parameter_groups(law: Law) -> list[tuple[str, ...]]:
    """Return the combinations of groups that a law's parameters differ by."""
    return [prior.by for prior in law.priors.values() if prior.by]


def design(table: pl.DataFrame, law: Law) -> Design:
    """Pick the rows a law is about and turn them into arrays.

    A QiD law uses every measured quantization; a 16-bit law one row for each checkpoint and data set.

    Raises
    ------
    InputError
        If the table breaks the schema, no row can be used, a covariate is missing, or a response is not positive and
        its standard error does not say why.
    """
    if not set(NAMES) <= set(table.columns):  # a frame made by hand; tables that were read are complete
        table = validate(table, "table")
    frame, left_out = used_rows(table, law)
    response = frame[law.response].to_numpy()
    if frame.height > 2 and np.unique(response).size == 1:
        raise InputError(
            f"all {frame.height} rows have the same {RESPONSES[law.response]}, {response[0]:g}, which no error "
            "explains: there is nothing to fit; see whether the column is the one that was meant"
        )
    error = standard_error(frame, law.response)
    if law.response in QUANTIZED:
        _refuse_hopeless(frame, law.response, response, error)
    noisy = latent.is_noisy(response, error)
    if noisy.any() and law.noise.family == "student_t":
        raise InputError(
            f"{noisy.sum()} of {frame.height} rows have a {law.response}_se above {latent.LIMIT:.0%} of their "
            f"{RESPONSES[law.response]}, which goes with normal errors only; law {law.name!r} has noise family "
            "'student_t'"
        )
    positive = response.copy()
    positive[noisy] = latent.expected(response[noisy], error[noisy])
    raw = {}
    for symbol in law.covariates:
        column = frame[COVARIATES[symbol]]
        if column.null_count() or column.min() <= 0:  # type: ignore[operator]
            raise InputError(
                f"column {COVARIATES[symbol]!r} must be known and positive in every row for law {law.name!r}"
            )
        raw[symbol] = column.cast(pl.Float64).to_numpy()
    law = law.with_reference({symbol: float(f"{np.exp(np.log(values).mean()):.1e}") for symbol, values in raw.items()})
    log_covariates = {symbol: np.log(values / float(law.reference.get(symbol, 1.0))) for symbol, values in raw.items()}
    index, coords = {}, {}
    for by in dict.fromkeys([*((g,) for g in law.noise.groups), *parameter_groups(law)]):
        found = labels(frame, by)
        coords[dimension(by)] = tuple(found.unique(maintain_order=True))
        codes = {label: code for code, label in enumerate(coords[dimension(by)])}
        index[dimension(by)] = np.array([codes[label] for label in found], dtype=np.int64)
    for by in parameter_groups(law):
        if len(coords[dimension(by)]) == frame.height:
            raise InputError(
                f"law {law.name!r} has a constant of its own for each {' and '.join(by)}, and in this table each has "
                f"one row: nothing tells the constants from the rows' errors; give more rows, or choose another law"
            )
    variance = (error / positive) ** 2
    return Design(law, frame, left_out, response, error, np.log(positive), variance, log_covariates, index, coords)


def _refuse_hopeless(frame: pl.DataFrame, response: str, value: np.ndarray, error: np.ndarray) -> None:
    """Refuse rows that are not above 0 where their standard error does not say why."""
    what = RESPONSES[response]
    for wrong, ail, remedy in (
        (
            (value <= 0) & (error == 0),
            f"{what} ≤ 0 and no {response}_se",
            f"so nothing says how far above 0 it may be; give {response}_se, or",
        ),
        (
            value < -latent.BELOW * error,
            f"a {what} more than {latent.BELOW:g} {response}_se below 0",
            f"which no {what} above 0 explains; see what else is in their error, or",
        ),
    ):
        if wrong.any():
            first = frame.row(int(np.flatnonzero(wrong)[0]), named=True)
            raise InputError(
                f"{wrong.sum()} of {frame.height} rows have {ail} (first: {first['model']} {first['revision']}, "
                f"{first['method']} {first['bits']:g} bits, {first[response]:g}), {remedy} filter them out and say so"
            )


def used_rows(table: pl.DataFrame, law: Law) -> tuple[pl.DataFrame, dict[str, int]]:
    """Return the rows of a table that a law is about, and how many were left out, by reason.

    Raises
    ------
    InputError
        If there is none.
    """
    measured = table.filter(pl.col("status") == "ok")
    used = measured.filter(pl.col(law.response).is_not_null())
    left_out = {
        "failed cells": table.height - measured.height,
        f"without a {RESPONSES[law.response]}": measured.height - used.height,
    }
    if law.response == "loss_16bit":
        once = used.unique(["suite", "model", "revision", "tokens", "dataset"], keep="first", maintain_order=True)
        left_out["repeating a checkpoint's 16-bit loss"] = used.height - once.height
        used = once
    if used.is_empty():
        raise InputError(f"no row of the table has a {RESPONSES[law.response]}, which law {law.name!r} is about")
    # Run by run and checkpoint by checkpoint, so that the groups of a full grid need no index (see `Level.regular`).
    used = used.sort("model", "tokens", "revision", "method", "bits", maintain_order=True)
    return used, {reason: count for reason, count in left_out.items() if count}
