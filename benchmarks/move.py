"""Hold five posteriors to those of before the noise got a room of its own: `make move`, minutes of one core.

The commit before that move is checked out beside this one. Each tree makes the PyMC models of five fits and works out
their log densities at the same points (move.csv); a constant difference does not change a posterior. Then each tree
fits them (move-moments.csv). Since then the default sampler integrates the linear constants out, so that its draws are
others on purpose: their means and standard deviations are compared, in Monte Carlo standard errors of the difference.
Fits are kept in a folder, so that a run that was stopped goes on.
"""

import importlib
import inspect
import os
import resource
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import arviz_stats.base
import numpy as np
import polars as pl

KEPT = Path(__file__).with_suffix("")
SETTINGS = {"tune": 500, "draws": 500, "chains": 4, "random_seed": 0}
ROOT = Path(__file__).resolve().parents[1]
BEFORE = "5bb5e1c"
"""The last commit before `qidbayes/noise`."""
POINTS, SPREAD = 20, 0.3
OF_ROWS = ("true_log_qid", "model_effect")
"""Draws that are no numbers of the model: worked out afterwards, of each row and each model."""


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


def fits(folder: Path) -> None:
    """Fit the cases with one tree, and keep the draws of each: an array a number, shape ``(chains, draws)``."""
    import qidbayes as qb

    warnings.simplefilter("ignore")
    folder.mkdir(parents=True, exist_ok=True)
    for number, (table, law) in enumerate(cases().values()):
        file = folder / f"{number}.npz"
        if file.exists():
            continue
        started = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
        fit = qb.fit(table, law, **SETTINGS)
        seconds = sum(resource.getrusage(resource.RUSAGE_SELF)[:2]) - started
        parts = [("", fit), *([("16-bit ", fit.loss_16bit)] if fit.loss_16bit else [])]
        found = {"cpu_seconds": np.array(seconds)}
        for before, part in parts:
            for name, values in part.draws.items():
                if name not in OF_ROWS:
                    flat = np.asarray(values).reshape(*np.shape(values)[:2], -1)
                    found |= {f"{before}{name}|{i}": flat[..., i] for i in range(flat.shape[-1])}
        np.savez(file, **found)
        print(folder.name, number, round(seconds), "s", flush=True)


def moments() -> pl.DataFrame:
    """Return means and standard deviations of every number that both trees have, and how far apart they are."""
    mcse = arviz_stats.base.array_stats.mcse
    rows = []
    for number, name in enumerate(cases()):
        files = [KEPT / tree / f"{number}.npz" for tree in ("before", "now")]
        if not all(file.exists() for file in files):
            print(f"{name}: not fitted by both trees, and so not in the table")
            continue
        before, now = (dict(np.load(file)) for file in files)
        seconds = [float(one.pop("cpu_seconds")) for one in (before, now)]
        assert before.keys() == now.keys(), f"{name}: {before.keys() ^ now.keys()}"
        for quantity in before:
            both = [before[quantity], now[quantity]]
            logs = all((values > 0).all() for values in both)  # of what is positive, the logarithm
            both = [np.log(values) for values in both] if logs else both
            for what in ("mean", "sd"):
                numbers = [float(v.mean() if what == "mean" else v.std(ddof=1)) for v in both]
                errors = [float(mcse(v, chain_axis=0, draw_axis=1, method=what)) for v in both]
                rows.append({
                    "fit": name, "quantity": f"log {quantity}" if logs else quantity, "what": what,
                    "before": numbers[0], "now": numbers[1],
                    "difference": (numbers[1] - numbers[0]) / float(np.hypot(*errors)),
                    "sd": float(both[1].std(ddof=1)), "cpu_seconds_before": seconds[0], "cpu_seconds_now": seconds[1],
                })  # fmt: skip
    return pl.DataFrame(rows).with_columns(pl.selectors.float().round_sig_figs(4))


def main() -> None:
    """Work out both trees' densities and fits, and write benchmarks/move.csv and benchmarks/move-moments.csv."""
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch) / "before"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", tree, BEFORE], cwd=ROOT, check=True)
        try:
            trees = {tree: Path(scratch) / "before.npz", ROOT: Path(scratch) / "now.npz"}
            for where, file in trees.items():
                environment = os.environ | {"PYTHONPATH": str(where)}
                for given in (["densities", str(file)], ["fits", str(KEPT / file.stem)]):
                    subprocess.run([sys.executable, __file__, *given], env=environment, cwd=scratch, check=True)
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
    both = moments()
    both.write_csv(ROOT / "benchmarks" / "move-moments.csv")
    z = pl.col("difference")
    of_fit = both.group_by("fit", "what", maintain_order=True).agg(
        pl.len(), z.abs().max().alias("most"), z.pow(2).mean().sqrt().alias("root mean square")
    )
    with pl.Config(tbl_cols=-1, tbl_rows=-1, tbl_width_chars=150, fmt_str_lengths=50):
        print(frame, of_fit)


if __name__ == "__main__":
    {"densities": densities, "fits": fits}[sys.argv[1]](Path(sys.argv[2])) if sys.argv[1:] else main()
