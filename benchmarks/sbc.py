"""Simulation-based calibration of every law: `make sbc`.

Each law is simulated from its own priors 1,000 times on designs of real tables and refitted, and the truth's rank must be
uniform for every number of the fit, for tokens-to-threshold and for the log likelihood (`qidbayes.infer.calibration`).
Ranks are kept in a folder, so that a run that was stopped goes on; the verdicts are in sbc.csv, the figure beside it.
"""

import argparse
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl

import qidbayes as qb

HERE = Path(__file__).parent
CHUNK = 25
"""Simulations a process does at a time."""
THRESHOLDS = (0.05, 0.5)
"""QiDs, nats per token, near the middle of what the priors expect and above it."""


def every(step: int) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """Keep every so many checkpoints of each run."""
    return lambda table: table.filter((pl.col("tokens").rank("dense") - 1).over("model") % step == 0)


def with_errors(table: pl.DataFrame) -> pl.DataFrame:
    """Give half of the rows a standard error, from 5% to 50% of their QiD."""
    error = pl.col("qid") * 0.05 * 10 ** (pl.int_range(pl.len()) % 10 / 9)
    return table.with_columns(qid_se=pl.when(pl.int_range(pl.len()) % 2 == 0).then(error))


# Law, what its design is called, the table, and what becomes of it. The first of a law has sufficient statistics where
# the law is log-linear; irregular designs and rows with errors of their own are sampled row by row.
DESIGNS: list[tuple[str, str, str, Callable[[pl.DataFrame], pl.DataFrame]]] = [
    ("unified", "6 runs × 20 checkpoints × 3 widths", "pythia", every(1)),
    ("unified", "irregular, 38 rows", "llama-qwen", every(1)),
    ("unified", "rows with errors of their own", "pythia", lambda table: with_errors(every(4)(table))),
    ("unified", "one run", "pythia/1.4b", every(1)),
    ("per-bit", "6 runs × 20 checkpoints × 3 widths", "pythia", every(1)),
    ("tokens", "6 runs × 20 checkpoints × 3 widths", "pythia", every(1)),
    ("size", "6 runs × 5 checkpoints × 3 widths", "pythia", every(4)),
    ("bits", "6 runs × 4 checkpoints × 3 widths", "pythia", every(5)),
    ("kaplan-16bit", "6 runs × 20 checkpoints", "pythia", every(1)),
]


def table_of(index: int) -> pl.DataFrame:
    """Return the rows of a design."""
    _, _, table, reduce = DESIGNS[index]
    return reduce(qb.load_table(table))


def thresholds(index: int) -> pl.DataFrame | None:
    """Return the questions asked of a law that says how QiD grows with tokens: of its first group, at a size between."""
    from qidbayes.infer.design import design
    from qidbayes.posterior.query import needs

    law = qb.load_law(DESIGNS[index][0])
    if law.response != "qid" or "D" not in law.covariates:
        return None
    first = design(table_of(index), law).frame.head(1).select(needs(law, "tokens"))
    return first.join(pl.DataFrame({"qid": THRESHOLDS}), how="cross")


def chunk(index: int, seeds: range) -> pl.DataFrame:
    """Simulate and refit in this process."""
    from qidbayes.infer.calibration import calibrate

    return calibrate(table_of(index), qb.load_law(DESIGNS[index][0]), seeds, thresholds=thresholds(index))


def judge(folder: Path) -> pl.DataFrame:
    """Return a verdict on every quantity of every design that has been simulated."""
    from qidbayes.infer.envelope import Envelope

    rows = []
    for index, (law, name, table, _) in enumerate(DESIGNS):
        ranks = read(folder, index)
        if ranks is None:
            continue
        envelope = Envelope(ranks.height)
        for quantity in ranks.columns[3:]:
            places = ranks[quantity].to_numpy()
            rows.append(
                {
                    "law": law,
                    "design": name,
                    "table": table,
                    "quantity": quantity,
                    "simulations": ranks.height,
                    "diverged": ranks.filter(pl.col("divergences") > 0).height,
                    "margin": round(envelope.margin(places), 4),
                    "p": round(envelope.p_value(places), 4),
                    "inside": envelope.margin(places) >= 0,
                }
            )
    return pl.DataFrame(rows)


def read(folder: Path, index: int) -> pl.DataFrame | None:
    """Return the ranks of a design, if there are any."""
    parts = sorted(folder.glob(f"{index}-*.parquet"))
    return pl.concat([pl.read_parquet(part) for part in parts]) if parts else None


def stay_on_one_core(started: Any) -> None:
    """Give each process a core of its own where the system can: XLA's threads get in each other's way, three to one."""
    if hasattr(os, "sched_setaffinity"):
        with started.get_lock():
            number, started.value = started.value, started.value + 1
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[number % len(cores)]})


def main() -> None:
    """Simulate what is missing, judge, draw."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--simulations", type=int, default=1000, help="of each law and design")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start nothing more after so long")
    parser.add_argument("--ranks", type=Path, default=HERE / "ranks", help="the folder the ranks are kept in")
    asked = parser.parse_args()
    asked.ranks.mkdir(exist_ok=True)
    # One core a process: the matrices are too small for two.
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"), "1")
    print(f"{asked.simulations} simulations each, {asked.processes} processes")
    spawn = multiprocessing.get_context("spawn")  # JAX cannot be forked
    started = time.perf_counter()
    with ProcessPoolExecutor(
        asked.processes, mp_context=spawn, initializer=stay_on_one_core, initargs=(spawn.Value("i", 0),)
    ) as pool:
        waiting = []
        for index in range(len(DESIGNS)):
            for first in range(0, asked.simulations, CHUNK):
                path = asked.ranks / f"{index}-{first:05}.parquet"
                # Designs have seeds of their own, or their verdicts would depend on each other.
                seeds = range(index * 10**6 + first, index * 10**6 + min(first + CHUNK, asked.simulations))
                if not path.exists():
                    waiting.append((path, pool.submit(chunk, index, seeds)))
        for path, future in waiting:
            if time.perf_counter() - started > asked.seconds:
                pool.shutdown(wait=False, cancel_futures=True)
                break
            future.result().write_parquet(path)
            print(f"{time.perf_counter() - started:.0f} s: {path.stem}")
    verdicts = judge(asked.ranks)
    verdicts.write_csv(HERE / "sbc.csv")
    outside = verdicts.filter(~pl.col("inside"))
    print(f"{outside.height} of {verdicts.height} quantities leave the 99% envelope:", outside)


if __name__ == "__main__":
    main()
