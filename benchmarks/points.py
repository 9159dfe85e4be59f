"""How many points does a fit need? Tables of several designs are simulated and fitted: `make points`.

The truth of each simulation is a draw of the posterior of the paper's 360 points: its constants, its errors and what
its equation misses. The runs of a design are new ones, of a suite of its own. With the rows of the design a few
measurements of further runs are simulated. The fit does not see these; its bands are held against them.
"""

import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

import qidbayes as qb
from qidbayes.infer.inputs import inputs
from qidbayes.score.parallel import each
from qidbayes.score.sbc import _log_mean
from qidbayes.seeds import Stream, generator

RESULTS = Path(__file__).with_name("points.csv")
SIMULATIONS = 4
SPACED = 6
"""Of so many draws of the posterior, evenly spaced, the first ones are the truths of the simulations."""
SIZES = {1: [8e8], 2: [2e8, 2.5e9], 3: [1e8, 5e8, 2.5e9], 6: [1e8, 2e8, 4e8, 8e8, 1.6e9, 2.5e9]}
WIDTHS = {1: [4.0], 2: [3.0, 4.0], 3: [2.0, 3.0, 4.0]}
DESIGNS = ((1, 2, 2), (1, 6, 3), (3, 2, 3), (3, 6, 3), (6, 3, 3), (6, 10, 3))
"""Runs, checkpoints of each, widths of each."""
TARGETS = {"inside": (1e9, 5e10, 4.0), "at 1T tokens": (1e9, 1e12, 4.0), "7B at 1T tokens": (7e9, 1e12, 4.0)}
"""New runs: non-embedding parameters, tokens, bits."""


def design(runs: int, checkpoints: int, widths: int) -> pl.DataFrame:
    """A table's rows without their QiD, and then the targets'."""
    tokens = np.geomspace(5e9, 2e11, checkpoints) if checkpoints > 2 else np.array([2e10, 2e11])
    rows = [
        {"model": f"run {size:.2g}", "n_params": int(size), "tokens": int(seen), "bits": bits}
        for size in SIZES[runs] for seen in tokens for bits in WIDTHS[widths]
    ]  # fmt: skip
    rows += [
        {"model": name, "n_params": int(size), "tokens": int(seen), "bits": bits}
        for name, (size, seen, bits) in TARGETS.items()
    ]
    return pl.DataFrame(rows).with_columns(
        suite=pl.lit("simulated"),
        revision=pl.format("{}", "tokens"),
        method=pl.lit("gptq"),
        qid=0.1 + 0.001 * pl.int_range(pl.len()),
    )


def simulated(table: pl.DataFrame, fit: qb.Fit, number: int) -> pl.DataFrame:
    """The table with a QiD that one draw of a posterior, and new effects of runs and checkpoints, give each row."""
    rows = inputs(table, fit.law)
    draw = int(np.linspace(0, fit.stats["lp"].size - 1, SPACED).round()[number])
    truth = {name: fit.flat(name)[draw] for name in fit.draws if name not in fit.dims}
    rng = generator(number, Stream.SIMULATION)
    shared, _ = rows.noise.simulate(truth, rows.coordinates, rng)
    steps = rng.standard_normal(rows.frame.height)
    qid = np.exp(_log_mean(rows, truth) + shared + truth["sigma"] * steps)
    return rows.frame.with_columns(qid=qid, loss=None, loss_16bit=None)


def one(task: tuple[tuple[int, int, int], int, str]) -> dict[str, object]:
    """Simulate and fit once."""
    (runs, checkpoints, widths), number, path = task
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = simulated(design(runs, checkpoints, widths), qb.load_fit(path), number)
        new = pl.col("model").is_in(list(TARGETS))
        fit = qb.fit(table.filter(~new), "unified", random_seed=number, draws=500, tune=500, progress=False)
        found: dict[str, object] = {
            "runs": runs, "checkpoints": checkpoints, "widths": widths, "rows": table.height - len(TARGETS),
            "simulation": number, "failed_checks": len(fit.diagnostics.problems()),
        }  # fmt: skip
        for name in ("alpha", "beta", "gamma"):
            found[f"{name}_identified"] = fit.is_identified(name)
            lower, upper = np.quantile(fit.flat(name), [0.05, 0.95])
            found[f"{name}_width"] = float(upper - lower)
        for name, (size, seen, bits) in TARGETS.items():
            band = fit.predict(n_params=size, tokens=seen, bits=bits).row(0, named=True)
            measured = table.filter(model=name)["qid"].item()
            found[f"{name}: factor"] = band["upper"] / band["lower"]
            found[f"{name}: held"] = band["lower"] <= measured <= band["upper"]
    return found


def summarized(results: pl.DataFrame) -> pl.DataFrame:
    """A row for each design: the median width of each band as a factor, and how many of the simulations it held."""
    by = ["runs", "checkpoints", "widths", "rows"]
    parts = [pl.len().alias("simulations"), (pl.col("failed_checks") > 0).sum().alias("failed")]
    parts += [pl.col(f"{name}_width").median() for name in ("alpha", "beta", "gamma")]
    parts += [pl.col(f"{name}_identified").sum() for name in ("alpha", "beta", "gamma")]
    for name in TARGETS:
        parts += [pl.col(f"{name}: factor").median(), pl.col(f"{name}: held").sum()]
    return results.group_by(by, maintain_order=True).agg(parts)


def tasks(path: str) -> Iterator[tuple[tuple[int, int, int], int, str]]:
    """Every design and simulation."""
    yield from ((size, number, path) for number in range(SIMULATIONS) for size in DESIGNS)


def main() -> None:
    """Simulate, fit and write what was found."""
    path = sys.argv[1] if len(sys.argv) > 1 else "points.nc"
    if not Path(path).exists():
        qb.fit(qb.load_table("pythia"), "unified", random_seed=0).save(path)
    jobs = int(os.environ.get("QIDBAYES_JOBS", str(os.cpu_count() or 1)))
    results: list[dict[str, object]] = []
    for result in each(one, list(tasks(path)), jobs):
        results.append(result)
        print(f"{len(results)} of {len(DESIGNS) * SIMULATIONS}", flush=True)
        found = summarized(pl.DataFrame(results))
        found.with_columns(pl.selectors.float().round_sig_figs(4)).write_csv(RESULTS)
    with pl.Config(tbl_cols=-1, tbl_rows=-1, tbl_width_chars=200):
        print(found)


if __name__ == "__main__":
    main()
