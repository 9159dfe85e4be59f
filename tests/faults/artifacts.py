"""Every kind of file the modelling half writes, by how it writes it, small enough to be written often."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from made import NESTED, unified_fit
from matplotlib.figure import Figure

import qidbayes as qb
from qidbayes.cli.output import write_csv
from qidbayes.plots import save
from qidbayes.table import write_table

type Writer = Callable[[Path], None]


def table() -> pl.DataFrame:
    """Twelve of the paper's points."""
    return qb.load_table("pythia").head(12)


def fit(draws: int = 40) -> qb.Fit:
    """A fit made by hand."""
    rng = np.random.default_rng(0)
    beta = rng.normal(0.5, 0.03, draws)
    constants = {"k_ref": rng.lognormal(-3, 0.1, draws), "beta": beta, "alpha": 0.3, "gamma": 5.0}
    data = table().drop("learning_rate", "status", "error", "device", "seconds_quantize", "seconds_evaluate")
    return unified_fit(constants, NESTED, data, dict.fromkeys(table()["model"].unique().sort(), 0.0))


def sound_fit() -> qb.Fit:
    """A fit whose 4 × 500 draws pass every check, also when they are judged again."""
    rng, shape = np.random.default_rng(0), (4, 500)
    spread = {"k_ref": 0.05, "alpha": 0.3, "gamma": 5.0, **NESTED}
    drawn = {name: value * rng.lognormal(0.0, 0.1, 2000) for name, value in spread.items()}
    data = table().drop("learning_rate", "status", "error", "device", "seconds_quantize", "seconds_evaluate")
    constants = {"beta": rng.normal(0.5, 0.03, 2000), **{name: drawn.pop(name) for name in ("k_ref", "alpha", "gamma")}}
    made = unified_fit(constants, drawn, data, dict.fromkeys(table()["model"].unique().sort(), 0.0))
    stats = {name: values.reshape(shape) for name, values in made.stats.items()}
    stats["energy"] = rng.normal(size=shape)
    draws = {name: values.reshape(*shape, *values.shape[2:]) for name, values in made.draws.items()}
    return replace(made, draws=draws, stats=stats)


def writers() -> dict[str, Writer]:
    """Return a writer for each kind of file."""
    made, rows, figure = fit(), table(), Figure()
    return {
        "table.csv": lambda path: write_table(rows, path),
        "table.parquet": lambda path: write_table(rows, path, {"plan": "tiny"}),
        "fit.nc": made.save,
        "figure.png": lambda path: save(figure, path),
        "figure.svg": lambda path: save(figure, path),
        "figure.pdf": lambda path: save(figure, path),
        "report.html": lambda path: qb.report(made, path),
        "answers.csv": lambda path: write_csv(rows, path),
    }
