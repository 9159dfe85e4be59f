"""What a law sees of a table: the rows it is about, as arrays."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from qidbayes.errors import InputError
from qidbayes.infer import pooling
from qidbayes.infer.borrowed import Borrowed
from qidbayes.infer.nested import Level
from qidbayes.infer.problem import Problem
from qidbayes.law import COVARIATES, Law
from qidbayes.law.law import RESPONSES
from qidbayes.table.groups import dimension, labels
from qidbayes.table.schema import NAMES, validate


@dataclass(frozen=True)
class Design:
    """The rows of a table that a law is fitted to.

    Attributes
    ----------
    frame
        The rows used, in the schema's columns.
    left_out
        How many of the table's rows were not used, by reason.
    log_response, variance
        The logarithm of the response (nats per token), and the variance that its measured standard error gives that
        logarithm; shape ``(rows,)``.
    log_covariates
        For each covariate of the law, the logarithm of its value over the law's reference; shape ``(rows,)``.
    index, coords
        For each dimension (`model`, `checkpoint`, and what parameters differ by), the group of each row, shape
        ``(rows,)``, and the groups' labels.
    borrowed
        The prior, where it is another fit's posterior.
    """

    law: Law
    frame: pl.DataFrame
    left_out: Mapping[str, int]
    log_response: np.ndarray
    variance: np.ndarray
    log_covariates: Mapping[str, np.ndarray]
    index: Mapping[str, np.ndarray]
    coords: Mapping[str, tuple[str, ...]]
    borrowed: Borrowed | None = None

    @cached_property
    def levels(self) -> tuple[Level, ...]:
        """The law's noise groups from the inside out: the members of the first are rows, then the groups before.

        A level whose groups have one member each has nothing to share and is left out.
        """
        found = []
        rows = np.arange(len(self.log_response))
        for group in ("checkpoint", "model"):
            if group in self.law.noise.groups and len(self.coords[group]) < len(rows):
                found.append(Level(group, self.index[group][rows], len(self.coords[group])))
                _, rows = np.unique(self.index[group], return_index=True)
        return tuple(found)

    @cached_property
    def centring(self) -> dict[str, np.ndarray]:
        """For each partially pooled parameter, how its groups are sampled; see `qidbayes.infer.pooling`."""
        return pooling.centring(Problem(self))

    @property
    def row_data(self) -> dict[str, np.ndarray]:
        """The arrays a model of the rows is given, by the names they have there."""
        arrays = {"log_response": self.log_response, "variance": self.variance}
        arrays |= {f"log_{c}": values for c, values in self.log_covariates.items()}
        arrays |= {f"{d}_of_row": self.index[d] for d in dict.fromkeys(map(dimension, _bys(self.law)))}
        arrays |= {f"{level.name}_parent": level.parent for level in self.levels if not level.regular}
        return arrays


def _bys(law: Law) -> list[tuple[str, ...]]:
    return [prior.by for prior in law.priors.values() if prior.by]


def design(table: pl.DataFrame, law: Law) -> Design:
    """Pick the rows a law is about and turn them into arrays.

    A QiD law uses every measured quantization; a 16-bit law one row for each checkpoint and data set.

    Raises
    ------
    InputError
        If the table breaks the schema, no row can be used, a covariate is missing, or a response is not positive and
        so has no logarithm.
    """
    if not set(NAMES) <= set(table.columns):  # a frame made by hand; tables that were read are complete
        table = validate(table, "table")
    frame, left_out = _rows(table, law)
    response = frame[law.response].to_numpy()
    if (response <= 0).any():
        bad = frame.filter(pl.col(law.response) <= 0)
        first = bad.row(0, named=True)
        raise InputError(
            f"{bad.height} of {frame.height} rows have {RESPONSES[law.response]} ≤ 0 (first: {first['model']} "
            f"{first['revision']}, {first['method']} {first['bits']:g} bits, {first[law.response]:g}), and this law's "
            f"errors are on its logarithm; filter them out and say so: table.filter(pl.col('{law.response}') > 0)"
        )
    error = frame["qid_se"].fill_null(0.0).to_numpy() if law.response == "qid" else np.zeros(frame.height)
    log_covariates = {}
    for symbol in law.covariates:
        column = frame[COVARIATES[symbol]]
        if column.null_count() or column.min() <= 0:  # type: ignore[operator]
            raise InputError(
                f"column {COVARIATES[symbol]!r} must be known and positive in every row for law {law.name!r}"
            )
        log_covariates[symbol] = np.log(column.cast(pl.Float64).to_numpy() / law.reference.get(symbol, 1.0))
    index, coords = {}, {}
    for by in dict.fromkeys([*((g,) for g in law.noise.groups), *_bys(law)]):
        found = labels(frame, by)
        coords[dimension(by)] = tuple(found.unique(maintain_order=True))
        codes = {label: code for code, label in enumerate(coords[dimension(by)])}
        index[dimension(by)] = np.array([codes[label] for label in found], dtype=np.int64)
    for by in _bys(law):
        if len(coords[dimension(by)]) == frame.height:
            raise InputError(
                f"law {law.name!r} has a constant of its own for each {' and '.join(by)}, and in this table each has "
                f"one row: nothing tells the constants from the rows' errors; give more rows, or choose another law"
            )
    return Design(law, frame, left_out, np.log(response), (error / response) ** 2, log_covariates, index, coords)


def _rows(table: pl.DataFrame, law: Law) -> tuple[pl.DataFrame, dict[str, int]]:
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
