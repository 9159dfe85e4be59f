"""Declarative, Bayesian scaling laws for what low-bit quantization costs a language model.

>>> import qidbayes as qb
>>> table = qb.load_table("pythia")
>>> qb.published("unified").predict(n_params=1e9, tokens=1e11, bits=4)["median"].round(3).item()
0.046
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qidbayes.decide.advise import advise
    from qidbayes.decide.next_measurements import next_measurements
    from qidbayes.decide.pareto import pareto
    from qidbayes.errors import InputError
    from qidbayes.infer.fit import fit
    from qidbayes.infer.least_squares import least_squares
    from qidbayes.infer.model import build_model
    from qidbayes.law import Law, Noise, Prior, load_law
    from qidbayes.law.formats import gaussian_mse
    from qidbayes.posterior import Fit, PointEstimate, Stack, load_fit, published
    from qidbayes.reports.report import report
    from qidbayes.reports.what_if import what_if
    from qidbayes.score.backtest import Backtest, backtest
    from qidbayes.score.compare import Comparison, compare
    from qidbayes.score.search import search
    from qidbayes.table import join_tables, list_tables, load_table, read_table, write_table

# Nothing heavy is imported before it is used: `import qidbayes` costs nothing, and asking a saved fit no sampler.
_HOMES = {
    "Backtest": "qidbayes.score.backtest",
    "Comparison": "qidbayes.score.compare",
    "Fit": "qidbayes.posterior",
    "InputError": "qidbayes.errors",
    "Law": "qidbayes.law",
    "Noise": "qidbayes.law",
    "PointEstimate": "qidbayes.posterior",
    "Prior": "qidbayes.law",
    "Stack": "qidbayes.posterior",
    "advise": "qidbayes.decide.advise",
    "backtest": "qidbayes.score.backtest",
    "build_model": "qidbayes.infer.model",
    "compare": "qidbayes.score.compare",
    "fit": "qidbayes.infer.fit",
    "gaussian_mse": "qidbayes.law.formats",
    "join_tables": "qidbayes.table",
    "least_squares": "qidbayes.infer.least_squares",
    "list_tables": "qidbayes.table",
    "load_fit": "qidbayes.posterior",
    "load_law": "qidbayes.law",
    "load_table": "qidbayes.table",
    "next_measurements": "qidbayes.decide.next_measurements",
    "pareto": "qidbayes.decide.pareto",
    "published": "qidbayes.posterior",
    "read_table": "qidbayes.table",
    "report": "qidbayes.reports.report",
    "search": "qidbayes.score.search",
    "what_if": "qidbayes.reports.what_if",
    "write_table": "qidbayes.table",
}

# What was called otherwise in an earlier version.
_RENAMED = {"Point": "PointEstimate", "design": "next_measurements"}

__version__ = "0.1.0"
__all__ = [
    "Backtest", "Comparison", "Fit", "InputError", "Law", "Noise", "PointEstimate", "Prior", "Stack", "advise",
    "backtest", "build_model", "compare", "fit", "gaussian_mse", "join_tables", "least_squares", "list_tables",
    "load_fit", "load_law", "load_table", "next_measurements", "pareto", "plot", "published", "read_table", "report",
    "search", "what_if", "write_table",
]  # fmt: skip


def __dir__() -> list[str]:
    """Return the public names, for completion; none is imported for it."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})


def __getattr__(name: str) -> Any:
    if name == "plot":
        return import_module("qidbayes.plots")
    if name in _RENAMED:
        new = _RENAMED[name]
        warnings.warn(f"qidbayes.{name} is now qidbayes.{new}", DeprecationWarning, stacklevel=2)
        return __getattr__(new)
    if name not in _HOMES:
        raise AttributeError(f"module 'qidbayes' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
