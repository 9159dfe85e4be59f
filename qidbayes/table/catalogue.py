"""The tables that are shipped, found by name."""

import functools
import os
from pathlib import Path

import numpy as np
import polars as pl

from qidbayes.errors import InputError, nearest
from qidbayes.process import note
from qidbayes.resources import shipped
from qidbayes.table.join import join_named
from qidbayes.table.read import SUFFIXES, read_file

_MOST_WIDTHS = 12  # that a list of tables names one by one


def load_table(*tables: str | os.PathLike[str]) -> pl.DataFrame:
    """Load one or several measurement tables, joined.

    Parameters
    ----------
    *tables
        Names of shipped tables (`list_tables` has them) or paths to `.csv` and `.parquet` files.

    Returns
    -------
    polars.DataFrame
        One row per checkpoint, quantization and evaluation set; parameters and tokens are counts, losses and QiD
        nats per token.

    Raises
    ------
    InputError
        If a name is unknown, a file breaks the schema, or two tables hold the same cell.

    Examples
    --------
    >>> load_table("pythia").height, load_table("pythia", "pythia/awq-bnb").height
    (360, 576)
    """
    note()
    if not tables:
        raise InputError(f"no table named; give a .csv or .parquet file, or one of {', '.join(_shipped_files())}")
    return join_named([(os.fspath(table), _load(table)) for table in tables])


def list_tables() -> pl.DataFrame:
    """List the shipped tables: `name`, `rows`, `suites`, `models` (how many), `methods`, `bits` and `what` they hold.

    Of a table with more than 12 widths `bits` has the least, the greatest and how many there are.

    Examples
    --------
    >>> list_tables().filter(pl.col("name") == "spectra").select("rows", "models", "methods", "bits").row(0)
    (18, 9, 'gptq', '3, 4')
    """
    listed = []
    for name, path in _shipped_files().items():
        table = read_file(path)
        listed.append(
            {
                "name": name,
                "rows": table.height,
                "suites": _values(table["suite"]),
                "models": table["model"].n_unique(),
                "methods": _values(table["method"]),
                "bits": _widths(table["bits"]),
                "what": _what(name, path),
            }
        )
    return pl.DataFrame(listed)


def _load(table: str | os.PathLike[str]) -> pl.DataFrame:
    files = _shipped_files()
    if table in files:
        return read_file(files[str(table)])
    path = Path(table)
    if path.suffix or not isinstance(table, str) or path.is_dir():
        return read_file(path)
    near = nearest(table, files)
    hint = f"did you mean {near!r}? " if near else ""
    known = ", ".join(files)
    raise InputError(f"unknown table {str(table)!r}; {hint}give a .csv or .parquet file, or one of {known}")


@functools.cache
def _shipped_files() -> dict[str, Path]:
    """Name every shipped table: `<suite>` for the suite's main one, `<suite>/<other>` for the others."""
    files = {}
    for path in sorted(shipped("measurements").glob("*/*")):
        if path.suffix in SUFFIXES:
            suite = path.parent.name
            files[suite if path.stem == suite else f"{suite}/{path.stem}"] = path
    return dict(sorted(files.items()))


def _values(column: pl.Series) -> str:
    values = column.unique().sort()
    return ", ".join(f"{value:g}" if isinstance(value, float) else value for value in values)


def _widths(bits: pl.Series) -> str:
    if (count := bits.n_unique()) <= _MOST_WIDTHS:
        return _values(bits)
    least, greatest = (f"{end:.3g}" for end in np.quantile(bits.to_numpy(), [0, 1]))
    return f"{least} to {greatest}, {count} widths"


def _what(name: str, path: Path) -> str:
    """Return what the suite's data card says a table is: the heading `## <name>: <what>`."""
    heading = f"## {name}: "
    card = path.with_name("README.md")
    lines = card.read_text(encoding="utf-8").splitlines() if card.is_file() else []
    return next((line.removeprefix(heading) for line in lines if line.startswith(heading)), "")


@functools.cache
def shipped_tokens() -> dict[str, int]:
    """Return the training tokens of the shipped tables' models that have one count, by their names in lower case."""
    found: dict[str, set[int]] = {}
    for path in _shipped_files().values():
        for model, tokens in read_file(path).select("model", "tokens").drop_nulls().unique().iter_rows():
            found.setdefault(model.rsplit("/", 1)[-1].lower(), set()).add(tokens)
    return {model: tokens.pop() for model, tokens in found.items() if len(tokens) == 1}


@functools.cache
def shipped_sizes() -> dict[str, int]:
    """Return the non-embedding parameters of the models in the shipped tables, by their names in lower case."""
    sizes: dict[str, int] = {}
    for path in _shipped_files().values():
        for model, size in read_file(path).select("model", "n_params").unique().iter_rows():
            sizes[model.rsplit("/", 1)[-1].lower()] = size
    return sizes
