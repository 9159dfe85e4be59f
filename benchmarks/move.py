"""Hold five posteriors to those of before the noise got a room of its own: `make move`, a minute of one core.

The commit before that move is checked out beside this one. Each tree makes the PyMC models of five fits and works out
their log densities at the same points; a constant difference does not change a posterior. Draws are not compared:
since then the default sampler integrates the linear constants out, so that its draws are others on purpose
(tests/infer/test_collapsed.py and `make exact` hold them to the same densities).
"""

import importlib
import inspect
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

ROOT = Path(__file__).resolve().parents[1]
BEFORE = "5bb5e1c"
"""The last commit before `qidbayes/noise`."""
POINTS, SPREAD = 20, 0.3


def cases() -> dict[str, tuple[pl.DataFrame, str]]:
    """Return the five tables, with the law that each is fitted by."""
    import qidbayes as qb

    pythia, nano = qb.load_table("pythia"), qb.load_table("nano").filter(pl.col("group_size") == 64, method="gptq")
    small = nano.filter(pl.col("model").is_in(["nano-64x2-stable-0", "nano-128x3-stable-0"]))
    few = small.filter(pl.col("tokens").rank("dense").over("model") % 3 == 0)
    return {
        "unified, Pythia": (pythia, "unified"),
        "per-bit, Pythia": (pythia, "per-bit"),
        "joint, nano's smallest runs": (small.filter(pl.col("bits") < 4), "joint"),
        "chinchilla-16bit, Chinchilla": (qb.load_table("chinchilla"), "chinchilla-16bit"),
        "pooled-bit, nano with measurement error": (few, "pooled-bit"),
    }


def model_of(table: pl.DataFrame, law: str) -> Any:
    """Return the PyMC model of either tree: before, it was made of a design."""
    import qidbayes as qb

    build = importlib.import_module("qidbayes.infer.model").build_model
    if len(inspect.signature(build).parameters) == 1:
        return build(importlib.import_module("qidbayes.infer.design").design(table, qb.load_law(law)))
    return build(table, law)


def densities(out: Path) -> None:
    """Write one tree's log densities to a file: an array a case, and the names of its variables."""
    from pytensor.compile.mode import Mode

    found = {}
    for name, (table, law) in cases().items():
        model = model_of(table, law)
        rng, start = np.random.default_rng(0), model.initial_point(random_seed=0)
        density = model.compile_logp(mode=Mode(linker="py", optimizer=None))  # as written, nothing rewritten
        steps = [
            {k: SPREAD * rng.standard_normal(np.shape(v)) for k, v in sorted(start.items())} for _ in range(POINTS)
        ]
        found[name] = np.array([density({k: start[k] + step[k] for k in start}) for step in steps])
        found[f"{name}|variables"] = np.array([f"{k} {np.shape(v)}" for k, v in sorted(start.items())])
    np.savez(out, **found)


def main() -> None:
    """Work out both trees' densities and write benchmarks/move.csv."""
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch) / "before"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", tree, BEFORE], cwd=ROOT, check=True)
        try:
            trees = {tree: Path(scratch) / "before.npz", ROOT: Path(scratch) / "now.npz"}
            for where, file in trees.items():
                environment = os.environ | {"PYTHONPATH": str(where)}
                subprocess.run([sys.executable, __file__, str(file)], env=environment, cwd=scratch, check=True)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=True)
        before, now = (dict(np.load(file)) for file in trees.values())
    rows = []
    for name in cases():
        same, apart = np.array_equal(before[f"{name}|variables"], now[f"{name}|variables"]), now[name] - before[name]
        rows.append({
            "fit": name, "points": POINTS, "same_variables": same, "log_density_sd": float(now[name].std()),
            "constant": float(np.median(apart)), "apart": float(np.max(np.abs(apart - np.median(apart)))),
        })  # fmt: skip
    frame = pl.DataFrame(rows).with_columns(pl.selectors.float().round_sig_figs(3))
    frame.write_csv(ROOT / "benchmarks" / "move.csv")
    with pl.Config(tbl_cols=-1, tbl_width_chars=150, fmt_str_lengths=50):
        print(frame)


if __name__ == "__main__":
    densities(Path(sys.argv[1])) if sys.argv[1:] else main()
