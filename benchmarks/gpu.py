"""The default fit of the paper's 360 points on a GPU and on CPUs, from one seed: `python benchmarks/gpu.py`.

Chains run as threads on CPUs and as one program on a GPU. Rounding differs, so that the draws part ways; the posterior
is the same if means and standard deviations differ by what Monte Carlo error explains. Writes `gpu.csv`: for each
number both means, both standard deviations, and their differences in Monte Carlo standard errors of the difference.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from qidbayes.infer.settings import Settings

SETTINGS = Settings(draws=500, most=500, tune=400, chains=8, target_accept=0.9, random_seed=1)
PLATFORMS = {"cpu": "cpu", "gpu": "cuda"}
RESULTS = Path(__file__).parent / "gpu.csv"


def one(path: Path) -> None:
    """Sample with whatever JAX_PLATFORMS says, twice, and keep draws and seconds."""
    import jax

    from qidbayes.infer.inputs import inputs
    from qidbayes.infer.nuts import sample
    from qidbayes.law import load_law
    from qidbayes.table import load_table

    rows = inputs(load_table("pythia"), load_law("unified"))
    started = time.perf_counter()
    sample(rows, replace(SETTINGS, draws=4, most=4))  # compiles; 400 + 4 transitions are 500 run
    compiled = time.perf_counter()
    found = sample(rows, SETTINGS)
    seconds = {"device": str(jax.devices()[0].device_kind), "first": compiled - started}
    seconds |= {"second": time.perf_counter() - compiled, "n_steps": float(found.stats["n_steps"].mean())}
    seconds |= {"diverging": int(found.stats["diverging"].sum()), "target_accept": found.target_accept}
    path.with_suffix(".json").write_text(json.dumps(seconds))
    drawn: dict[str, Any] = dict(found.unconstrained)
    np.savez(path, **drawn)
    print(path.stem, seconds, flush=True)


def compare(folder: Path) -> list[dict[str, float | str]]:
    """Return a row for each number drawn, on the real line."""
    from arviz_stats.base import array_stats

    draws = {name: np.load(folder / f"{name}.npz") for name in PLATFORMS}
    rows: list[dict[str, float | str]] = []
    for name in draws["cpu"].files:
        row: dict[str, float | str] = {"parameter": name}
        for method, statistic in (("mean", np.mean), ("sd", np.std)):
            both = {p: found[name] for p, found in draws.items()}
            errors = [array_stats.mcse(v, chain_axis=0, draw_axis=1, method=method) for v in both.values()]
            row |= {f"{method}_{p}": float(statistic(v)) for p, v in both.items()}
            apart = float(statistic(both["gpu"]) - statistic(both["cpu"]))
            row[f"{method}_mcse_of_difference"] = float(np.hypot(*errors))
            row[f"{method}_apart_in_mcse"] = apart / float(np.hypot(*errors))
        row["first_draw_apart"] = float(np.abs(draws["gpu"][name][:, 0] - draws["cpu"][name][:, 0]).max())
        rows.append(row)
    return rows


def main() -> None:
    """Sample on both in processes of their own, and compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--one", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("gpu-draws"))
    given = parser.parse_args()
    if given.one:
        one(given.one)
        return
    given.folder.mkdir(parents=True, exist_ok=True)
    for name, platform in PLATFORMS.items():
        command = [sys.executable, *sys.argv[:1], "--one", str(given.folder / f"{name}.npz")]
        subprocess.run(command, env={**os.environ, "JAX_PLATFORMS": platform}, check=True)
    rows = compare(given.folder)
    cells = [[f"{v:.5g}" if isinstance(v, float) else v for v in row.values()] for row in rows]
    RESULTS.write_text("\n".join([",".join(rows[0]), *(",".join(row) for row in cells)]) + "\n")
    print(RESULTS.read_text())


if __name__ == "__main__":
    main()
