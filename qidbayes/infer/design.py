"""The rows of a table that a law is fitted to, as arrays (the design)."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from qidbayes.errors import InputError
from qidbayes.infer import measurement_error
from qidbayes.law import Law
from qidbayes.law.evaluate import evaluate_log
from qidbayes.law.law import DATA, QUANTIZED, RESPONSES, column_of
from qidbayes.noise import unknown_tokens
from qidbayes.table.groups import dimension, labels
from qidbayes.table.own_error import standard_error
from qidbayes.table.question import per_channel_as_rows
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
        For a row too noisy for it, its sketch (see `qidbayes.infer.measurement_error`).
    log_covariates
        For each covariate of the law, the logarithm of its value over the law's reference, ``-inf`` of 0; shape
        ``(rows,)``.
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

    A law of QiD or of the loss uses every measured quantization; a 16-bit law one row for each checkpoint and data
    set, as does a law of the loss that says what P is for a model that was not quantized. A group that is
    a whole row is as long as `row_length` says, where the law asks for group sizes and the table has that column.

    Raises
    ------
    InputError
        If the table breaks the schema, no row can be used, a covariate is missing, or a response is not positive and
        its standard error does not say why.
    """
    if not set(NAMES) <= set(table.columns):  # a frame made by hand; tables that were read are complete
        table = validate(table, "table")
    frame, left_out = used_rows(table, law)
    _refuse_unknown_tokens(frame, law)
    frame = per_channel_as_rows(frame) if "group_size" in law.covariates else frame
    response = frame[law.response].to_numpy()
    if frame.height > 2 and np.unique(response).size == 1:
        raise InputError(
            f"all {frame.height} rows have the same {RESPONSES[law.response]}, {response[0]:g}, which no error "
            "explains: there is nothing to fit; see whether the column is the one that was meant"
        )
    error = standard_error(frame, law.response)
    if law.response in QUANTIZED:
        _refuse_hopeless(frame, law.response, response, error)
    noisy = measurement_error.is_noisy(response, error, measurement_error.limit(law))
    if noisy.any() and law.noise.family == "student_t":
        raise InputError(
            f"{noisy.sum()} of {frame.height} rows have a {law.response}_se above {measurement_error.LIMIT:.0%} of "
            f"their {RESPONSES[law.response]}, which goes with normal errors only; law {law.name!r} has noise family "
            "'student_t'"
        )
    positive = response.copy()
    positive[noisy] = measurement_error.expected(response[noisy], error[noisy])
    raw = {symbol: _covariate(frame, column_of(symbol), law) for symbol in law.covariates}
    middle = {symbol: float(f"{np.exp(np.log(v).mean()):.1e}") for symbol, v in raw.items() if v.all()}
    if unplaced := [symbol for symbol, value in law.reference.items() if value == DATA and symbol not in middle]:
        raise InputError(
            f"column {column_of(unplaced[0])!r} is 0 in some rows, so that it has no middle as a reference"
        )
    law = law.with_reference(middle)
    with np.errstate(divide="ignore"):  # the logarithm of 0 is -inf, and the value carried back is 0
        log_covariates = {symbol: np.log(v / float(law.reference.get(symbol, 1.0))) for symbol, v in raw.items()}
    _refuse_valueless(frame, law, log_covariates)
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


def _refuse_unknown_tokens(frame: pl.DataFrame, law: Law) -> None:
    """Refuse rows that do not say on how many tokens their model was trained, where the law needs that."""
    if law.noise.discrepancy == "families":
        return  # it samples them
    unknown = frame.filter(pl.col("tokens").is_null())
    by_tokens = "tokens" in (group for by in (*parameter_groups(law), law.noise.groups) for group in by)
    why = (
        "its equation has D" if "D" in law.covariates
        else "its constants differ by tokens" if by_tokens
        else "its discrepancy is over D" if law.noise.discrepancy != "none"
        else None
    )  # fmt: skip
    if unknown.height and why:
        raise InputError(
            f"tokens: {unknown.height} of {frame.height} rows do not say on how many tokens their model was trained "
            f"(first: {unknown['model'][0]} {unknown['revision'][0]}), and law {law.name!r} needs that: {why}. "
            "Give the tokens, leave these rows out, or fit law 'atlas', which samples them, or a law without D "
            'whose [noise] says discrepancy = "none"'
        )


def _covariate(frame: pl.DataFrame, column: str, law: Law) -> np.ndarray:
    """Return a covariate's values, refusing rows that do not say it or say that it is below 0."""
    if column not in frame.columns:
        others = ", ".join(name for name in frame.columns if name not in NAMES) or "none beside the schema's"
        raise InputError(
            f"law {law.name!r} takes {column!r}, which has no prior and so is a column; the table has no such column "
            f"(of numbers it has {others}): add it, or give {column!r} a prior"
        )
    values = frame[column].cast(pl.Float64)
    if column == "tokens" and law.noise.discrepancy == "families":  # whose unknown tokens are sampled
        values = values.fill_null(float(np.sqrt(np.prod(unknown_tokens.BETWEEN))))
    wrong = (values.is_null() | ~values.is_finite() | (values < 0)).fill_null(True)
    if wrong.any():
        where = frame.row(int(wrong.arg_true()[0]), named=True)
        whole_rows = ", or their lengths as 'row_length'" if column == "group_size" else ""
        raise InputError(
            f"column {column!r} must be known and positive in every row for law {law.name!r}, or 0; it is not in "
            f"{wrong.sum()} of {frame.height} rows (first: {where['model']} {where['revision']}, {where['method']} "
            f"{where['bits']:g} bits, {where[column]}): fill it in{whole_rows}, or filter those rows out"
        )
    return values.to_numpy()


def _refuse_valueless(frame: pl.DataFrame, law: Law, log_covariates: Mapping[str, np.ndarray]) -> None:
    """Refuse rows in which a covariate is 0 and the law, with the middle of its priors, has no value there."""
    zeros = {symbol: np.isneginf(values) for symbol, values in log_covariates.items() if np.isneginf(values).any()}
    if not zeros:
        return
    rng = np.random.default_rng(0)
    middle = {name: np.median(prior.sample(1000, rng)) for name, prior in law.priors.items()}
    with np.errstate(all="ignore"):
        lost = ~np.isfinite(evaluate_log(law.expression, law.scope(np, middle, log_covariates)))
    for symbol, rows in zeros.items():
        if (rows & lost).any():
            where = frame.row(int(np.flatnonzero(rows & lost)[0]), named=True)
            raise InputError(
                f"column {column_of(symbol)!r} must be positive in every row for law {law.name!r}, which has no value "
                f"where it is 0 (first: {where['model']} {where['revision']}): filter those rows out"
            )


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
            value < -measurement_error.BELOW * error,
            f"a {what} more than {measurement_error.BELOW:g} {response}_se below 0",
            f"which no {what} above 0 explains; see what else is in their error, or",
        ),
    ):
        if wrong.any():
            first = frame.row(int(np.flatnonzero(wrong)[0]), named=True)
            raise InputError(
                f"{wrong.sum()} of {frame.height} rows have {ail} (first: {first['model']} {first['revision']}, "
                f"{first['method']} {first['bits']:g} bits, {first[response]:g}), {remedy} filter them out and say so"
            )


def _each_checkpoint(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.unique(["suite", "model", "revision", "tokens", "dataset"], keep="first", maintain_order=True)


def _not_quantized(measured: pl.DataFrame, law: Law) -> pl.DataFrame:
    """Return the checkpoints' 16-bit losses as rows of method ``none`` with the bits that a law gives them."""
    rows = _each_checkpoint(measured.filter(pl.col("loss_16bit").is_not_null()))
    unknown = [name for name in ("bits_per_weight", "group_size", "qid", "qid_se") if name in rows.columns]
    return rows.with_columns(
        method=pl.lit("none"),
        bits=pl.lit(float(law.bits_unquantized)),
        loss=pl.col("loss_16bit"),
        **{name: pl.lit(None, rows.schema[name]) for name in unknown},
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
        once = _each_checkpoint(used)
        left_out["repeating a checkpoint's 16-bit loss"] = used.height - once.height
        used = once
    if law.unquantized is not None:
        used = pl.concat([used, _not_quantized(measured, law)])
    if used.is_empty():
        raise InputError(f"no row of the table has a {RESPONSES[law.response]}, which law {law.name!r} is about")
    # Run by run and checkpoint by checkpoint, so that the groups of a full grid need no index (see `Level.regular`).
    used = used.sort("model", "tokens", "revision", "method", "bits", maintain_order=True)
    return used, {reason: count for reason, count in left_out.items() if count}
