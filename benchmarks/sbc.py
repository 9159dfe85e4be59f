"""Simulation-based calibration of every law: `make sbc`.

Each law is simulated from its own priors 1,000 times on designs of real tables and refitted, and the truth's rank must
be uniform for every number of the fit, for tokens-to-threshold and for the log likelihood (see
`qidbayes.score.sbc`). Ranks are kept in a folder, so that a run that was stopped goes on; the verdicts are in
sbc.csv.
"""

import argparse
import dataclasses
import os
import time
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from recovery import grid

import qidbayes as qb
from qidbayes.score.parallel import pool

HERE = Path(__file__).parent
FIGURE = HERE.parent / "docs" / "images" / "sbc.png"
OUTSIDE = "#C0392B"
CHUNK = 10
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
    table: str = "pythia"
    discrepancy: str = "none"
    sizes: int = 1
    """Every how manieth model, by size, is kept."""
    every: int = 1
    """And of its checkpoints."""
    forgets: bool = False
    """Whether the fit, unlike the simulation, takes all rows to be of one suite: a wrong model, to be found out."""
    noisy: bool = False
    """Whether half of the rows have standard errors near the QiD expected of them, and the law narrow priors."""
    axes: dict[str, list[float]] | None = None
    """Of a law whose columns no shipped table has: their values, and every combination of them is a row."""

    def rows(self) -> pl.DataFrame:
        """Return the rows that are simulated."""
        if self.axes:
            return grid(self.declared(), self.axes)
        table = mixed() if self.table == MIXED else qb.load_table(self.table)
        for column, groups, keep in (("n_params", None, self.sizes), ("tokens", "model", self.every)):
            place = pl.col(column).rank("dense") - 1
            table = table.filter((place.over(groups) if groups else place) % keep == 0)
        if not self.noisy:
            return table
        n, d, p = pl.col("n_params"), pl.col("tokens"), pl.col("bits")
        expected = 0.05 * (d / 1e11) ** 0.5 / ((n / 1e9) ** 0.3 * (p / 4) ** 5.0)
        even, size = pl.int_range(pl.len()) % 2 == 0, 0.3 + 0.1 * (pl.int_range(pl.len()) % 7)
        return table.with_columns(qid=expected, loss=None, loss_16bit=None, qid_se=pl.when(even).then(size * expected))

    def declared(self) -> qb.Law:
        """Return the law."""
        law = qb.load_law(self.law).with_noise(discrepancy=self.discrepancy)
        narrow = self.noisy or self.table == MIXED
        return dataclasses.replace(law.with_noise(scale=0.2), priors=NARROW) if narrow else law

    def thresholds(self) -> pl.DataFrame | None:
        """Return the questions asked of a law that says how QiD grows with tokens: of its first group."""
        from qidbayes.infer.design import design
        from qidbayes.posterior.query import needs

        law = self.declared()
        if law.response != "qid" or "D" not in law.covariates:
            return None
        first = design(self.rows(), law).frame.head(1).select(needs(law, "tokens"))
        return first.join(pl.DataFrame({"qid": THRESHOLDS}), how="cross")


MIXED = "pythia + pythia/awq-bnb + spectra"


def mixed() -> pl.DataFrame:
    """Return rows of two suites and three methods, one suite on a grid with holes and one at irregular places.

    Each has a standard error, 0.5% of what the narrow priors expect.
    """
    place = [(pl.col("n_params").rank("dense") - 1) % 2 == 0, (pl.col("tokens").rank("dense") - 1) % 5 == 0]
    grid = qb.load_table("pythia").filter(place)
    grid = grid.filter(pl.int_range(pl.len()) % 7 != 3)
    others = qb.load_table("pythia/awq-bnb").filter(pl.col("n_params").is_in(grid["n_params"].unique().implode()))
    others = others.filter(pl.int_range(pl.len()) % 9 == 0)
    table = qb.join_tables(grid, others, qb.load_table("spectra").gather_every(2))
    n, d, p = pl.col("n_params"), pl.col("tokens"), pl.col("bits")
    expected = 0.05 * (d / 1e11) ** 0.5 / ((n / 1e9) ** 0.3 * (p / 4) ** 5.0)
    return table.with_columns(qid=expected, loss=None, loss_16bit=None, qid_se=0.005 * expected)


SIZES, TOKENS = [4e7, 1.6e8, 6.4e8], [1e10, 4e10, 1.6e11]
OF_LOSS: dict[str, tuple[str, dict[str, list[float]]]] = {
    "shannon": ("5 sizes × 5 lengths at 4 and 16 bits", {
        "n_params": [1e7 * 8**i for i in range(5)], "tokens": [1e9 * 8**i for i in range(5)], "bits": [4]}),
    "capacity": ("3 sizes × 3 lengths × 4 formats", {
        "n_params": SIZES, "tokens": TOKENS, "bits": [4], "gaussian_mse": [0.0, 0.0115, 0.1188, 0.3634]}),
    "float-training": ("3 sizes × 3 lengths × 8 formats", {
        "n_params": SIZES, "tokens": TOKENS, "bits": [8], "exponent_bits": [1, 4], "mantissa_bits": [1, 3],
        "group_size": [32, 256]}),
    "precision-training": ("3 sizes × 3 lengths × 8 precisions", {
        "n_params": SIZES, "tokens": TOKENS, "bits": [3, 16], "bits_activation": [3, 16], "bits_kv": [3, 16]}),
    "task-stratified": ("3 sizes × 3 widths × 4 calibrations", {
        "n_params": SIZES, "tokens": [1e11], "bits": [3, 4, 8], "calibration_samples": [8, 128],
        "group_size": [32, 128]}),
}  # fmt: skip
"""Of the laws of the loss."""
FEW = "3 runs × 4 checkpoints × 3 widths"
GRID = "6 runs × 20 checkpoints × 3 widths"


def _default(law: str, name: str = FEW, table: str = "pythia", sizes: int = 2, every: int = 5) -> Design:
    return Design(law, name, table, "smooth", sizes, every)


# Every law as it is shipped; `joint` is `unified` and `kaplan-16bit`. Then plain ones, without
# a discrepancy: log-linear ones on full grids are sampled through sufficient statistics, the others row by row.
DESIGNS = [
    _default("unified"),
    _default("per-bit"),
    _default("pooled-bit"),
    _default("vanishing"),
    _default("precision-ptq"),
    _default("ceiling"),
    _default("kaplan-16bit", "3 runs × 4 checkpoints"),
    Design("chinchilla-16bit", "6 runs × 4 checkpoints", every=5),
    Design("tokens", GRID),
    Design("size", "6 runs × 5 checkpoints × 3 widths", every=4),
    Design("bits", "6 runs × 4 checkpoints × 3 widths", every=5),
    _default("unified", "irregular, 38 rows", "llama-qwen", 1, 1),
    Design("unified", f"{GRID}, plain"),
    Design("unified", "irregular, 38 rows, plain", "llama-qwen"),
    Design("unified", "half of 36 rows noisy, plain", every=10, noisy=True),
    Design("unified", "one run, plain", "pythia/1.4b"),
    Design("per-bit", f"{GRID}, plain"),
    Design("unified", "2 suites, 3 methods, holes, irregular, errors", MIXED, "smooth"),
    Design("unified", "2 suites, 3 methods, holes, irregular, errors, walk", MIXED, "walk"),
    Design(
        "unified",
        "2 suites, 3 methods, holes, irregular, errors; the fit forgets suites",
        MIXED,
        "smooth",
        forgets=True,
    ),
    *(Design(law, f"{name}, as shipped", "simulated", axes=axes) for law, (name, axes) in OF_LOSS.items()),
]


def chunk(path: Path, index: int, seeds: range) -> str:
    """Simulate and refit in this process, keep the ranks, and return what was done."""
    from qidbayes.score import sbc

    if path.exists():  # by a run that was stopped, or by one beside this
        return path.stem
    design, as_it_is = DESIGNS[index], sbc._posterior
    if design.forgets:
        sbc._posterior = lambda table, law, seed: as_it_is(table.with_columns(suite=pl.lit("one")), law, seed)
    try:
        found = sbc.calibrate(design.rows(), design.declared(), seeds, thresholds=design.thresholds())
    finally:
        sbc._posterior = as_it_is
    beside = path.with_suffix(".part")
    found.write_parquet(beside)
    beside.rename(path)
    return path.stem


def judge(folder: Path) -> pl.DataFrame:
    """Return a verdict on every quantity of every design that has been simulated."""
    from qidbayes.score.ecdf_envelope import Envelope

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

    from qidbayes.plots import style
    from qidbayes.plots.save import save
    from qidbayes.score.ecdf_envelope import Envelope

    with style.context():
        figure = Figure(figsize=(style.WIDTH, 0.75 * style.WIDTH), layout="constrained")
        simulated = [(design, read(folder, index)) for index, design in enumerate(DESIGNS)]
        known = [(design, ranks) for design, ranks in simulated if ranks is not None]
        panels = figure.subplots(-(-len(known) // style.ACROSS), style.ACROSS, sharex=True, sharey=True)
        for axes in panels.flat[len(known) :]:
            axes.set_visible(False)
        for axes, (design, ranks) in zip(panels.flat, known, strict=False):
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
    parts = sorted(folder.glob(f"{index:02}-*.parquet"))
    return pl.concat([pl.read_parquet(part) for part in parts]) if parts else None


def main() -> None:
    """Simulate what is missing, judge, draw."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--simulations", type=int, default=1000, help="of each law and design")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start nothing more after so long")
    parser.add_argument("--designs", type=int, nargs="*", help="their numbers  [default: all]")
    parser.add_argument("--ranks", type=Path, default=HERE / "ranks", help="the folder the ranks are kept in")
    asked = parser.parse_args()
    asked.ranks.mkdir(exist_ok=True)
    # One core a process: the matrices are too small for two.
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"), "1")
    print(f"{asked.simulations} simulations each, {asked.processes} processes")
    started = time.perf_counter()
    with pool(asked.processes) as processes:
        waiting = []
        for index in asked.designs or range(len(DESIGNS)):
            for first in range(0, asked.simulations, CHUNK):
                path = asked.ranks / f"{index:02}-{first:05}.parquet"
                # Designs have seeds of their own, or their verdicts would depend on each other.
                seeds = range(index * 10**6 + first, index * 10**6 + min(first + CHUNK, asked.simulations))
                waiting.append(processes.submit(chunk, path, index, seeds))
        for future in as_completed(waiting):
            print(f"{time.perf_counter() - started:.0f} s: {future.result()}", flush=True)
            if time.perf_counter() - started > asked.seconds:
                processes.shutdown(wait=False, cancel_futures=True)
                break
    verdicts = judge(asked.ranks)
    if asked.designs:  # what was simulated before stays
        before = pl.read_csv(HERE / "sbc.csv", schema_overrides=verdicts.schema)
        anew = verdicts.select("law", "design", "table").unique()
        verdicts = pl.concat([before.join(anew, on=anew.columns, how="anti", maintain_order="left"), verdicts])
    else:
        draw(asked.ranks)
    verdicts.write_csv(HERE / "sbc.csv")
    outside = verdicts.filter(~pl.col("inside"))
    print(f"{outside.height} of {verdicts.height} quantities leave the 99% envelope:", outside)


if __name__ == "__main__":
    main()
