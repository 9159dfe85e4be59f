"""Time the unified fit without its discrepancy against other ways to sample that model: `make bench-fit`.

Each contender runs in processes of its own: first with no compilation cache, then with the cache that left, and in the
second process a second time on new data. 4 chains × 1,000 draws after 1,000 warm-up transitions, 2 cores.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

CONTENDERS = {
    "qidbayes": "qidbayes.fit (NumPyro NUTS, data as arguments)",
    "default": "qidbayes.fit with the discrepancy, the default",
    "pymc": 'pm.sample(nuts_sampler="pymc")',
    "numpyro": 'pm.sample(nuts_sampler="numpyro")',
    "nutpie": 'pm.sample(nuts_sampler="nutpie")',
    "bootstrap": "least squares, 1,000 bootstrap resamples",
}
RESULTS = Path(__file__).parent / "fit.csv"


def one(contender: str) -> dict[str, float]:
    """Import, fit, and fit again to other data of the same shape; return seconds and the smallest bulk ESS."""
    started = time.perf_counter()
    run = _runner(contender)
    imported = time.perf_counter()
    from qidbayes.table import load_table

    table = load_table("pythia")
    run(table, 1)
    first = time.perf_counter()
    ess = run(_perturbed(table), 2)
    second = time.perf_counter()
    return {"imports": imported - started, "first": first - imported, "second": second - first, "ess": ess}


def _perturbed(table: Any) -> Any:
    import numpy as np
    import polars as pl

    noise = np.exp(np.random.default_rng(0).normal(0.0, 0.01, table.height))
    return table.with_columns(pl.Series("qid", table["qid"].to_numpy() * noise), loss=None)


def _runner(contender: str) -> Any:
    if contender == "bootstrap":
        import numpy as np

        from qidbayes.infer.least_squares import least_squares

        def bootstrap(table: Any, seed: int) -> float:
            rng = np.random.default_rng(seed)
            for _ in range(1000):
                least_squares(table[rng.integers(0, table.height, table.height)], "unified")
            return 1000.0

        return bootstrap
    # Every import a contender needs, so that what is timed after is its own work.
    import arviz_stats.base
    import jax  # noqa: F401
    import pymc as pm

    from qidbayes.law import load_law

    law = load_law("unified")
    if contender != "default":
        law = law.with_noise(discrepancy="none")
    if contender in ("qidbayes", "default"):
        import numpyro.infer  # noqa: F401

        from qidbayes.infer.fit import fit

        def ours(table: Any, seed: int) -> float:
            found = fit(table, law, random_seed=seed)
            assert not found.diagnostics.problems()
            return min(c.ess_bulk for c in found.diagnostics.convergence.values())

        return ours
    if contender == "numpyro":
        import pymc.sampling.jax
    if contender == "nutpie":
        import nutpie  # noqa: F401
    from qidbayes.infer.inputs import inputs
    from qidbayes.infer.model import model_of_inputs

    def through_pymc(table: Any, seed: int) -> float:
        with model_of_inputs(inputs(table, law)):
            settings = {"draws": 1000, "tune": 1000, "chains": 4, "target_accept": 0.9}
            tree = pm.sample(**settings, random_seed=seed, nuts_sampler=contender, progressbar=False)
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
            environment = {
                **os.environ,
                "XDG_CACHE_HOME": cache,
                "PYTENSOR_FLAGS": f"base_compiledir={cache}/pytensor",
                "NUMBA_CACHE_DIR": f"{cache}/numba",
                "PYTHONWARNINGS": "ignore",
            }
            cold, warm = (_measure(contender, environment) for _ in range(2))
        rows.append(
            {
                "contender": what,
                "imports_s": warm["imports"],
                "cold_no_cache_s": cold["first"],
                "cold_with_cache_s": warm["first"],
                "warm_s": warm["second"],
                "smallest_ess": warm["ess"],
                "ess_per_warm_s": warm["ess"] / warm["second"],
            }
        )
        print(f"{what}: done", file=sys.stderr)
    import polars as pl

    frame = pl.DataFrame(rows)
    frame = frame.with_columns(
        ours_times_faster=pl.col("warm_s") / frame["warm_s"][0],
        ours_times_ess_per_s=frame["ess_per_warm_s"][0] / pl.col("ess_per_warm_s"),
    )
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=220, fmt_str_lengths=60, float_precision=2):
        print(frame)
    frame.with_columns(pl.selectors.float().round(3)).write_csv(RESULTS)
    names = ("pymc", "numpyro", "nutpie", "jax")
    print(f"{platform.machine()}, {os.cpu_count()} cores; " + ", ".join(f"{n} {version(n)}" for n in names))


def _measure(contender: str, environment: dict[str, str]) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", contender]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
