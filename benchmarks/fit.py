"""The default fit of the paper's 360 points beside other ways to sample its model: `make bench-fit`.

Each contender fits twice in a process of its own that finds nothing compiled: `first` compiles, `second` fits other
data of the same shape. All have four chains. `qidbayes.fit` has its default settings; the others sample the model that
`qb.build_model` returns, with 300 transitions after 300 of warm-up, so that compare them by ESS per second. Seconds are
of CPU, of the process and of those it starts.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

CONTENDERS = {
    "default": "qidbayes.fit, the default",
    "pymc": 'pm.sample(nuts_sampler="pymc")',
    "numpyro": 'pm.sample(nuts_sampler="numpyro")',
    "nutpie": 'pm.sample(nuts_sampler="nutpie")',
    "bootstrap": "least squares, 1,000 bootstrap resamples",
}
RESULTS = Path(__file__).parent / "fit.csv"


def _cpu() -> float:
    of = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in of)


def one(contender: str) -> dict[str, float]:
    """Import, fit, and fit again to other data of the same shape; return CPU seconds and the smallest bulk ESS."""
    run = _runner(contender)
    imported = _cpu()
    from qidbayes.table import load_table

    table = load_table("pythia")
    run(table, 1)
    first = _cpu()
    ess = run(_perturbed(table), 2)
    second = _cpu()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {"imports": imported, "first": first - imported, "second": second - first, "ess": ess, "peak_mb": peak}


def _perturbed(table: Any) -> Any:
    import numpy as np
    import polars as pl

    noise = np.exp(np.random.default_rng(0).normal(0.0, 0.01, table.height))
    return table.with_columns(pl.Series("qid", table["qid"].to_numpy() * noise), loss=None)


def _runner(contender: str) -> Any:
    if contender == "bootstrap":
        import numpy as np

        from qidbayes.infer.design import design
        from qidbayes.infer.least_squares import minimize
        from qidbayes.infer.problem import Problem
        from qidbayes.law import load_law

        def bootstrap(table: Any, seed: int) -> float:
            problem, rng = Problem(design(table, load_law("unified"))), np.random.default_rng(seed)
            for _ in range(1000):
                drawn = rng.integers(0, table.height, table.height)
                minimize(problem, "linear", np.bincount(drawn, minlength=table.height))
            return 1000.0

        return bootstrap
    import qidbayes as qb

    if contender == "default":

        def ours(table: Any, seed: int) -> float:
            found = qb.fit(table, "unified", random_seed=seed)
            assert not found.diagnostics.problems()
            return min(c.ess_bulk for c in found.diagnostics.convergence.values())

        return ours
    # Every import a contender needs, so that what is timed after is its own work.
    import arviz_stats.base
    import pymc as pm

    if contender == "numpyro":
        import pymc.sampling.jax
    if contender == "nutpie":
        import nutpie  # noqa: F401

    def through_pymc(table: Any, seed: int) -> float:
        with qb.build_model(table, "unified"):
            settings = {"draws": 300, "tune": 300, "chains": 4, "target_accept": 0.9, "progressbar": False}
            tree = pm.sample(**settings, random_seed=seed, nuts_sampler=contender)
        posterior = tree["posterior"]
        return min(
            float(arviz_stats.base.array_stats.ess(posterior[v].values, chain_axis=0, draw_axis=1, method="bulk"))
            for v in posterior.data_vars
        )

    return through_pymc


def main() -> None:
    """Run every contender and print the table, as ratios to ours too."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--one", choices=CONTENDERS)
    if chosen := parser.parse_args().one:
        print(json.dumps(one(chosen)))
        return
    rows = []
    for contender, what in CONTENDERS.items():
        with tempfile.TemporaryDirectory() as cache:
            found = _measure(contender, cache)
        rows.append({
            "contender": what,
            "imports_cpu_s": found["imports"],
            "first_cpu_s": found["first"],
            "second_cpu_s": found["second"],
            "smallest_ess": found["ess"],
            "ess_per_cpu_s": found["ess"] / found["second"],
            "peak_mb": found["peak_mb"],
        })  # fmt: skip
        print(f"{what}: {found}", file=sys.stderr, flush=True)
    import polars as pl

    frame = pl.DataFrame(rows)
    frame = frame.with_columns(
        ours_times_ess_per_s=frame["ess_per_cpu_s"][0] / pl.col("ess_per_cpu_s"),
        ours_times_faster_from_nothing=pl.col("first_cpu_s") / frame["first_cpu_s"][0],
    )
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=220, fmt_str_lengths=60, float_precision=2):
        print(frame)
    frame.with_columns(pl.selectors.float().round(3)).write_csv(RESULTS)
    names = ("pymc", "numpyro", "nutpie", "jax")
    print(f"{platform.machine()}, {os.cpu_count()} cores; " + ", ".join(f"{n} {version(n)}" for n in names))


def _measure(contender: str, cache: str) -> dict[str, float]:
    environment = {
        **os.environ,
        "XDG_CACHE_HOME": cache,
        "PYTENSOR_FLAGS": f"base_compiledir={cache}/pytensor",
        "NUMBA_CACHE_DIR": f"{cache}/numba",
        "PYTHONWARNINGS": "ignore",
    }
    command = [sys.executable, __file__, "--one", contender]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
