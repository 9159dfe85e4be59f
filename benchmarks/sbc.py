"""Simulation-based calibration of every law: `make sbc`.

Each law is simulated from its own priors 1,000 times on designs of real tables and refitted, and the truth's rank must
be uniform for every number of the fit, for tokens-to-threshold and for the log likelihood (see
`qidbayes.infer.calibration`). Ranks are kept in a folder, so that a run that was stopped goes on; the verdicts are in
sbc.csv.
"""

import argparse
import dataclasses
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

import qidbayes as qb

HERE = Path(__file__).parent
FIGURE = HERE.parent / "docs" / "images" / "sbc.png"
OUTSIDE = "#C0392B"
CHUNK = 25
"""Simulations a process does at a time."""
THRESHOLDS = (0.05, 0.5)
"""QiDs, nats per token, near the middle of what the priors expect and above it."""


NARROW = {
    "k": qb.Prior("LogNormal", mu=-3.0, sigma=0.3),
    "beta": qb.Prior("Normal", mu=0.5, sigma=0.1),
    "alpha": qb.Prior("Normal", mu=0.3, sigma=0.1),
    "gamma": qb.Prior("Normal", mu=5.0, sigma=0.5),
}
"""Of the unified law: under its own, no standard error is of the size of most QiDs."""


@dataclass(frozen=True)
class Design:
    """A law, what is measured, and what both are called."""

    law: str
    name: str
    table: str
    every: int = 1
    """Which checkpoints of each run are kept."""
    noisy: bool = False
    """Whether half of the rows have standard errors near the QiD expected of them, and the law narrow priors."""

    def rows(self) -> pl.DataFrame:
        """Return the rows that are simulated."""
        table = qb.load_table(self.table)
        table = table.filter((pl.col("tokens").rank("dense") - 1).over("model") % self.every == 0)
        if not self.noisy:
            return table
        n, d, p = pl.col("n_params"), pl.col("tokens"), pl.col("bits")
        expected = 0.05 * (d / 1e11) ** 0.5 / ((n / 1e9) ** 0.3 * (p / 4) ** 5.0)
        even, size = pl.int_range(pl.len()) % 2 == 0, 0.3 + 0.1 * (pl.int_range(pl.len()) % 7)
        return table.with_columns(qid=expected, loss=None, loss_16bit=None, qid_se=pl.when(even).then(size * expected))

    def declared(self) -> qb.Law:
        """Return the law."""
        law = qb.load_law(self.law)
        return dataclasses.replace(law, priors=NARROW, noise=qb.Noise(scale=0.2)) if self.noisy else law

    def thresholds(self) -> pl.DataFrame | None:
        """Return the questions asked of a law that says how QiD grows with tokens: of its first group."""
        from qidbayes.infer.design import design
        from qidbayes.posterior.query import needs

        law = self.declared()
        if law.response != "qid" or "D" not in law.covariates:
            return None
        first = design(self.rows(), law).frame.head(1).select(needs(law, "tokens"))
        return first.join(pl.DataFrame({"qid": THRESHOLDS}), how="cross")


# Log-linear laws on full grids are sampled through sufficient statistics, the others row by row.
DESIGNS = [
    Design("unified", "6 runs × 20 checkpoints × 3 widths", "pythia"),
    Design("unified", "irregular, 38 rows", "llama-qwen"),
    Design("unified", "half of 36 rows noisy", "pythia", every=10, noisy=True),
    Design("unified", "one run", "pythia/1.4b"),
    Design("per-bit", "6 runs × 20 checkpoints × 3 widths", "pythia"),
    Design("tokens", "6 runs × 20 checkpoints × 3 widths", "pythia"),
    Design("size", "6 runs × 5 checkpoints × 3 widths", "pythia", every=4),
    Design("bits", "6 runs × 4 checkpoints × 3 widths", "pythia", every=5),
    Design("kaplan-16bit", "6 runs × 20 checkpoints", "pythia"),
]


def chunk(index: int, seeds: range) -> pl.DataFrame:
    """Simulate and refit in this process."""
    from qidbayes.infer.calibration import calibrate

    design = DESIGNS[index]
    return calibrate(design.rows(), design.declared(), seeds, thresholds=design.thresholds())


def judge(folder: Path) -> pl.DataFrame:
    """Return a verdict on every quantity of every design that has been simulated."""
    from qidbayes.infer.envelope import Envelope

    rows = []
    for index, design in enumerate(DESIGNS):
        ranks = read(folder, index)
        if ranks is None:
            continue
        envelope = Envelope(ranks.height)
        for quantity in ranks.columns[3:]:
            places = ranks[quantity].to_numpy()
            rows.append(
                {
                    "law": design.law,
                    "design": design.name,
                    "table": design.table,
                    "quantity": quantity,
                    "simulations": ranks.height,
                    "diverged": ranks.filter(pl.col("divergences") > 0).height,
                    "margin": round(envelope.margin(places), 4),
                    "p": round(envelope.p_value(places), 4),
                    "inside": envelope.margin(places) >= 0,
                }
            )
    return pl.DataFrame(rows)


def draw(folder: Path) -> None:
    """Draw each quantity's empirical distribution function, less the uniform one, in a panel for each design."""
    from matplotlib.figure import Figure

    from qidbayes.infer.envelope import Envelope
    from qidbayes.plots import style
    from qidbayes.plots.save import save

    with style.context():
        figure = Figure(figsize=(style.WIDTH, 0.75 * style.WIDTH), layout="constrained")
        panels = figure.subplots(-(-len(DESIGNS) // style.ACROSS), style.ACROSS, sharex=True, sharey=True)
        for axes in panels.flat[len(DESIGNS) :]:
            axes.set_visible(False)
        for index, (axes, design) in enumerate(zip(panels.flat, DESIGNS, strict=False)):
            ranks = read(folder, index)
            if ranks is None:
                continue
            envelope = Envelope(ranks.height)
            lower, upper = envelope.band
            at = envelope.points
            axes.fill_between(at, lower - at, upper - at, color=style.GUESSING, lw=0)
            for quantity in ranks.columns[3:]:
                places = ranks[quantity].to_numpy()
                color = style.INK if envelope.margin(places) >= 0 else OUTSIDE
                axes.plot(at[::5], (envelope.ecdf(places) - at)[::5], color=color, lw=0.5, alpha=0.5)
            axes.set_title(f"{design.law}\n{design.name}")
        figure.supxlabel("Rank of the truth among the draws, as a share", fontsize="medium")
        figure.supylabel("Its empirical distribution − uniform", fontsize="medium")
    save(figure, FIGURE)


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
    draw(asked.ranks)
    outside = verdicts.filter(~pl.col("inside"))
    print(f"{outside.height} of {verdicts.height} quantities leave the 99% envelope:", outside)


if __name__ == "__main__":
    main()
