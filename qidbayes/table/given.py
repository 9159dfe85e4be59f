"""Make a measurement table of what a user gives: a file, a frame, a dict, or runs of other programs."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from qidbayes.errors import InputError
from qidbayes.table.catalogue import load_table
from qidbayes.table.frames import Table, as_frame
from qidbayes.table.join import join_named
from qidbayes.table.read import read_raw
from qidbayes.table.runs.imported import SUFFIXES as RUN_SUFFIXES
from qidbayes.table.runs.imported import import_runs, warn
from qidbayes.table.schema import validate


def read_table(
    table: Table,
    *more: Table,
    labels: Table | None = None,
    tokenizer: str | os.PathLike[str] | None = None,
    **values: Any,
) -> pl.DataFrame:
    """Return a measurement table, checked against the schema, of whatever form it comes in.

    Parameters
    ----------
    table
        - A `.csv` or `.parquet` file. A CSV file is in UTF-8. Its fields are separated by commas, or by semicolons or
          tabs where the header has no comma or a first line such as ``sep=;`` says so. Numbers have a decimal point; a
          decimal comma is refused. Counts may be typed like 7B.
        - The name of a shipped table: see `list_tables`.
        - A frame of polars (also a `LazyFrame`), pandas, pyarrow, or anything else with the Arrow or the dataframe
          protocol.
        - A dict of columns, in which one value stands for all rows.
        - Runs of other programs: the ``results_….json`` of lm-eval (with its samples beside it, for paired errors),
          logs of llama.cpp's ``llama-perplexity`` (with ``--kl-divergence`` or without), or a folder of them. Runs
          before and after quantization are paired by model, revision, text and context.
    *more
        Further files of runs, or tables to be joined with them.
    labels
        What the runs' files do not say: a table with the column `file` and any of the schema's columns that are not
        measured. Empty fields say nothing.
    tokenizer
        A ``tokenizer.json``, or a folder with one, to count the texts of lm-eval's samples in tokens: its results are
        per byte.
    **values
        What holds for all runs: ``n_params="6.5B"``, ``tokens="2T"``, ``n_eval_tokens=``, ``suite=``, ….

    Returns
    -------
    polars.DataFrame
        The schema's columns (parameters and tokens are counts, losses and QiD nats per token), and after them whatever
        further columns hold numbers. Others are left out, and a `TableWarning` names them, as it does runs that cannot
        be paired.

    Raises
    ------
    InputError
        If it cannot be read as a table, or breaks the schema: file, row, column and what would be accepted. A row of a
        CSV file is called by its line, the header being line 1; a row of a frame by its number, from 1.

    Examples
    --------
    >>> runs = {"method": ["fp16", "gptq"], "bits": [16, 4], "ppl": [5.47, 5.61]}
    >>> table = read_table({"suite": "mine", "model": "x", "n_params": "6.5B", "tokens": "1T", **runs})
    >>> table.select("suite", "n_params", "method", pl.col("qid").round(4)).rows()
    [('mine', 6500000000, 'none', None), ('mine', 6500000000, 'gptq', 0.0253)]
    """
    files = [given for given in (table, *more) if isinstance(given, str | os.PathLike)]
    further = bool(more or values) or labels is not None or tokenizer is not None
    if not further and not (files and holds_runs(files[0])):
        return as_table(table, "table")
    if len(files) < 1 + len(more):
        raise InputError(_of_frames(values, "labels" if labels is not None else "tokenizer" if tokenizer else None))
    labelled = None if labels is None else _labels(labels)
    return warn(import_runs(files, values, labelled, None if tokenizer is None else Path(tokenizer)))


def _of_frames(values: Mapping[str, Any], option: str | None) -> str:
    """Return why a frame or dict cannot be read with what was given beside it, and what can be done instead."""
    if values:
        name, value = next(iter(values.items()))
        return (
            f"{name}={value!r}: values beside a table are for files of runs; a frame or a dict has them as columns: "
            f"{{..., {name!r}: {value!r}}}, or frame.with_columns({name}=pl.lit({value!r}))"
        )
    if option:
        return f"{option}: is for files of runs, and a frame or a dict was given; give the names of files"
    return "several frames: read_table takes one, or files; join tables with join_tables"


def holds_runs(file: str | os.PathLike[str]) -> bool:
    """Return whether a file is one of another program's runs, by its name, or a folder."""
    path = Path(file)
    if path.suffix.lower() in RUN_SUFFIXES:
        return True
    try:
        return path.is_dir()
    except PermissionError:  # of a folder that is closed; whoever reads the file says so
        return False


def _labels(labels: Table) -> pl.DataFrame:
    if not isinstance(labels, str | os.PathLike):
        return as_frame(labels, "labels")
    return read_raw(labels)


def as_table(given: Table, what: str) -> pl.DataFrame:
    """Return a measurement table, called `what` in messages if it is no file; see `read_table`.

    Raises
    ------
    InputError
        As `read_table`.
    """
    if isinstance(given, str | os.PathLike):
        return load_table(given)
    return validate(as_frame(given, what), what)


def join_tables(*tables: Table) -> pl.DataFrame:
    """Put tables under one another, and refuse cells that two of them hold.

    Parameters
    ----------
    *tables
        Of any form that `read_table` takes.

    Raises
    ------
    InputError
        If there is no table, one breaks the schema, or two clash: which tables (the file, or `table 1`, `table 2`, …)
        and cells.

    Examples
    --------
    >>> point = {"model": "m", "n_params": 1e9, "tokens": 2e11, "method": "gptq", "bits": 4, "qid": 0.1}
    >>> join_tables({"suite": "mine", **point}, {"suite": "theirs", **point})["suite"].to_list()
    ['mine', 'theirs']
    """
    named = [(f"table {number}", table) for number, table in enumerate(tables, start=1)]
    return join_named([(_name(table, name), as_table(table, name)) for name, table in named])


def _name(table: Table, name: str) -> str:
    return os.fspath(table) if isinstance(table, str | os.PathLike) else name
