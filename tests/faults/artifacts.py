"""Every kind of file the package writes, by how it writes it, small enough to be written often."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.figure import Figure

import qidbayes as qb
from posterior.made import NESTED, unified_fit
from qidbayes.cli.output import write_csv
from qidbayes.measure import Plan, load_plan
from qidbayes.measure.store import _SCHEMA, Store
from qidbayes.plots import save
from qidbayes.resources import shipped
from qidbayes.table import write_table

type Writer = Callable[[Path], None]
"""Writes one file at a path, or in a folder of that name."""


def table() -> pl.DataFrame:
    """Twelve of the paper's points."""
    return qb.load_table("pythia").head(12)


def fit(draws: int = 40) -> qb.Fit:
    """A fit made by hand."""
    rng = np.random.default_rng(0)
    constants = {"k_ref": rng.lognormal(-3, 0.1, draws), "beta": rng.normal(0.5, 0.03, draws), "alpha": 0.3, "gamma": 5.0}
    data = table().select("suite", "model", "revision", "n_params", "tokens", "method", "bits", "group_size", "dataset",
                          "qid")  # fmt: skip
    return unified_fit(constants, NESTED, data, dict.fromkeys(table()["model"].unique().sort(), 0.0))


def plan() -> Plan:
    """The shipped tiny plan."""
    return load_plan(shipped("measurements") / "tiny" / "plan.toml")


def _figure() -> Figure:
    figure = Figure()
    figure.add_subplot().plot([1, 2], [1, 2])
    return figure


def _windows(path: Path) -> None:
    import torch

    from qidbayes.measure.data import Windows, _save

    _save(Windows(torch.zeros(200, 33, dtype=torch.long), 1.0, "0" * 64), path)


def _part(folder: Path) -> None:
    row = dict.fromkeys(_SCHEMA) | {"model": "m", "method": "none", "bits": 16.0, "dataset": "d", "status": "ok"}
    Store(folder).write(plan().checkpoints[0], [row] * 50)


def writers() -> dict[str, Writer]:
    """Return a writer for each kind of file."""
    made, rows, figure = fit(), table(), _figure()
    return {
        "table.csv": lambda path: write_table(rows, path),
        "table.parquet": lambda path: write_table(rows, path, {"plan": "tiny"}),
        "fit.nc": made.save,
        "figure.png": lambda path: save(figure, path),
        "figure.svg": lambda path: save(figure, path),
        "figure.pdf": lambda path: save(figure, path),
        "report.html": lambda path: qb.report(made, path),
        "answers.csv": lambda path: write_csv(rows, path),
        "windows.safetensors": _windows,
        "store": _part,
    }
