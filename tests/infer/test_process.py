"""A fit leaves the process as it was, and in a fork of it questions are refused instead of hanging."""

import subprocess
import sys
from pathlib import Path

LEFT_ALONE = """
import atexit, gc, logging, os, random, signal, sys, threading, warnings

import jax, matplotlib, numpy as np, polars as pl
matplotlib.use("Agg")
import matplotlib.pyplot as plt
# What these do when they are imported, or compile for the first time, is theirs.
import arviz_stats, netCDF4, numpyro, pymc, pytensor, xarray
from numpyro.infer import NUTS
from pymc.logprob.utils import CheckParameterValue
from pytensor.link.jax.dispatch import jax_funcify

import qidbayes as qb


def state():
    keys, place, *rest = np.random.get_state()[1:]
    registry = {kind: jax_funcify.registry.get(kind) for kind in (CheckParameterValue,)}
    return {
        "environment": dict(os.environ),
        "JAX": dict(jax.config.values),
        "JAX's dtype": str(jax.numpy.ones(1).dtype),
        "PyTensor": {"floatX": pytensor.config.floatX, "mode": pytensor.config.mode, "registry": registry},
        "signals": {s: signal.getsignal(s) for s in signal.valid_signals()},
        "hooks": (sys.excepthook, sys.unraisablehook, threading.excepthook, sys.settrace, sys.displayhook),
        "exit handlers": atexit._ncallbacks(),
        "logging": {
            name: (found.level, tuple(found.handlers), found.propagate, found.disabled)
            for name, found in [("", logging.root), *logging.root.manager.loggerDict.items()]
            if isinstance(found, logging.Logger)
            and (found.level, found.handlers, found.propagate, found.disabled) != (0, [], True, False)
        },
        "warnings": (list(warnings.filters), warnings.showwarning),
        "NumPy's errors": np.geterr(),
        "NumPy's printing": np.get_printoptions(),
        "NumPy's generator": (keys.tobytes(), place, *rest),
        "Python's generator": random.getstate(),
        "matplotlib": dict(matplotlib.rcParams),
        "figures": plt.get_fignums(),
        "folder": os.getcwd(),
        "polars": pl.Config.state(),
        "threads": sorted(t.name for t in threading.enumerate()),
        "recursion": sys.getrecursionlimit(),
        "garbage": (gc.isenabled(), gc.get_threshold()),
    }


def use():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        law = qb.load_law("unified").with_noise(discrepancy="none")
        fit = qb.fit(qb.load_table("pythia"), law, draws=50, tune=100, chains=2, random_seed=0)
        fit.summary()
        fit.predict(n_params=7e9, tokens=1e12, bits=4)
        fit.save("fit.nc")
        qb.load_fit("fit.nc")
        plt.close(qb.plot.qid_by_tokens(fit))


pytensor.function([], pytensor.tensor.constant(1.0) + 1.0)()
x = pytensor.tensor.scalar()
pytensor.function([x], x + 1.0)(1.0)
before = state()
use()
after = state()
for name, was in before.items():
    now = after[name]
    if was != now:
        if isinstance(was, dict):
            was, now = ({k: v for k, v in one.items() if was.get(k) != now.get(k)} for one in (was, now))
        print(name, "was", was, "and is", now)
"""

FORKED = """
import os, warnings
import qidbayes as qb

warnings.simplefilter("ignore")
table = qb.load_table("pythia")
law = qb.load_law("unified").with_noise(discrepancy="none")
fit = qb.fit(table, law, draws=50, tune=100, chains=1, random_seed=0)
ASKED = {
    "fit": lambda: qb.fit(table, law),
    "load_table": lambda: qb.load_table("pythia"),
    "predict": lambda: fit.predict(n_params=7e9, tokens=1e12, bits=4),
    "summary": lambda: fit.summary(),
    "interval": lambda: fit.interval("beta"),
    "tokens": lambda: fit.tokens_to_threshold(0.1, n_params=7e9, bits=4),
}
for name, ask in ASKED.items():
    child = os.fork()
    if not child:
        try:
            ask()
        except RuntimeError as error:
            os.write(1, f"{name}: {error}\\n".encode())
        os._exit(0)
    os.waitpid(child, 0)
"""


def run(program: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_fit_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    assert run(LEFT_ALONE, tmp_path) == ""


def test_questions_in_a_fork_are_refused(tmp_path: Path) -> None:
    lines = run(FORKED, tmp_path).splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "fit", "load_table", "predict", "summary", "interval", "tokens",
    ]  # fmt: skip
    assert all("was forked from one" in line and "spawn" in line for line in lines)
