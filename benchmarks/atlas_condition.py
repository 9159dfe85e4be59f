"""A fit given further rows, without a fit anew: `python benchmarks/atlas_condition.py`, `make atlas-condition`.

Of the table `atlas` five families are left out in turn, and the law is fitted to the others. Two tables are made:

- `atlas-condition.csv`: the fit is given 6 and 15 rows of the family, by `Fit.condition` and by a fit of all rows. Both
  are asked for the family's other rows: how far their means lie apart, in standard deviations of the second, and how
  their standard deviations compare.
- `atlas-refused.csv`: how many sets of 3 to 40 rows are refused, with Pareto k, effective draws and CPU seconds: rows
  of the families left out, and made-up rows of a new family, drawn from the shipped atlas's own predictive.

The fits to the others are kept in `benchmarks/atlas/`. So that a fit takes half a minute, all but the shipped one are
without `qwen3.5` and `nano`, and have 60 rows of `pythia`: they know less than the shipped one, which makes
conditioning harder.
"""

import argparse
import os
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import polars as pl

import qidbayes as qb
from qidbayes.posterior import conditioning
from qidbayes.table.given import as_table

FAMILIES = ("llama-1", "bloom", "spectra", "qwen3", "pythia")
OWN = (6, 15)
SIZES = (3, 6, 18, 40)
REPEATS = 4
BASE = {"draws": 500, "tune": 200, "chains": 2}
ANEW = {"draws": 150, "tune": 100, "chains": 2}
_KEPT = Path("benchmarks/atlas")
NAMED = ("suite", "model", "n_params", "tokens", "bits", "method", "group_size", "dataset")
MADE_UP = (  # a method, a data set, and whether tokens are told and widths from 2 to 8 with groups are asked for.
    # No table has the method spqr or the data set pile.
    ("gptq", "wikitext2", True, False),
    ("gptq", "wikitext2", True, True),
    ("awq", "pile", True, True),
    ("spqr", "wikitext2", True, False),
    ("spqr", "pile", False, True),
)


def small() -> pl.DataFrame:
    """Return the rows of the atlas that are fitted here."""
    table = qb.load_table("atlas").filter(~pl.col("suite").is_in(["qwen3.5", "nano"]))
    pythia = table.filter(suite="pythia").sample(60, seed=0)
    return pl.concat([table.filter(pl.col("suite") != "pythia"), pythia])


def moments(fit: qb.Fit, rows: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of the predictive of each row's log QiD."""
    found = fit.predictive(rows.select(NAMED))
    mean = found.mean.mean(axis=0)
    return mean, np.sqrt((found.sd**2 + found.mean**2).mean(axis=0) - mean**2)


def made_up(fit: qb.Fit, kind: tuple[str, str, bool, bool], count: int, seed: int) -> pl.DataFrame:
    """Return rows of a new family, their QiD drawn from what the fit expects of them together."""
    method, dataset, told, wide = kind
    sizes = (0.5e9, 1.5e9, 4e9, 8e9, 14e9, 32e9, 70e9)
    cells = [(n, b, g) for n in sizes for b in ((2, 3, 4, 5, 6, 8) if wide else (2, 3, 4))
             for g in ((None, 128) if wide else (None,))]  # fmt: skip
    rng = np.random.default_rng([seed, 7])
    chosen = [cells[place] for place in rng.permutation(len(cells))[:count]]
    rows = pl.DataFrame(
        {
            "suite": ["mine"] * count, "model": [f"mine-{n / 1e9:g}b" for n, _, _ in chosen],
            "n_params": [round(n) for n, _, _ in chosen], "tokens": [8 * 10**12 if told else None] * count,
            "method": [method] * count, "bits": [float(b) for _, b, _ in chosen],
            "group_size": [g for _, _, g in chosen], "dataset": [dataset] * count,
        },
        schema_overrides={"group_size": pl.Int64, "tokens": pl.Int64},
    )  # fmt: skip
    drawn = fit.thinned(200).joint(rows).draws(seed)
    return rows.with_columns(qid=pl.Series(np.exp(drawn[rng.integers(len(drawn))])))


def judged(fit: qb.Fit, rows: pl.DataFrame) -> dict[str, object]:
    """Return whether rows are refused, with Pareto k, effective draws and CPU seconds."""
    suite, start = str(rows["suite"][0]), time.process_time()
    found = conditioning.weighted(fit, conditioning.usable(fit, as_table(rows, "rows"), suite)[0], suite)
    seconds = time.process_time() - start
    trusted = found.is_trusted(conditioning.LEAST_ESS)
    return {"refused": not trusted, "pareto_k": found.k, "ess": found.ess, "seconds": seconds}


def refused(
    fit: qb.Fit, about: dict[str, object], sets: Callable[[int, int], pl.DataFrame | None]
) -> list[dict[str, object]]:
    """Return for each number of rows how many sets are refused, and the middle and worst of k, draws and seconds."""
    found = []
    for count in SIZES:
        rows = [sets(count, repeat) for repeat in range(REPEATS)]
        each = pl.DataFrame([judged(fit, one) for one in rows if one is not None])
        if each.height:
            worst = {"greatest_k": each["pareto_k"].max(), "least_ess": each["ess"].min()}
            found.append({**about, "rows": count, "sets": each.height, **each.mean().row(0, named=True), **worst})
    return found


def family(suite: str) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Return for one family how far the two lie apart, and which of its sets are refused."""
    warnings.simplefilter("ignore")
    table = small()
    rows = table.filter(pl.col("suite") == suite, pl.col("qid") > 0).with_columns(qid_se=pl.lit(None, pl.Float64))
    others = table.filter(pl.col("suite") != suite)
    kept, apart = _KEPT / f"without-{suite}.nc", []
    if not kept.exists():
        _KEPT.mkdir(exist_ok=True)
        qb.fit(others, "atlas", random_seed=0, progress=False, **BASE).save(kept)
    base = qb.load_fit(kept)
    order = np.random.default_rng(0).permutation(rows.height)
    for count in OWN:
        own, rest = rows[order[:count]], rows[order[count:]]
        case: dict[str, object] = {"suite": suite, "own_rows": count, "asked": rest.height} | judged(base, own)
        if not case["refused"]:
            quick, width = moments(base.condition(own), rest)
            both = pl.concat([others, own])
            mean, sd = moments(qb.fit(both, "atlas", random_seed=1, progress=False, **ANEW), rest)
            far, ratio = np.abs(quick - mean) / sd, width / sd
            case |= {
                "mean_apart": far.mean(), "most_apart": far.max(), "sd_ratio": ratio.mean(),
                "least_ratio": ratio.min(), "greatest_ratio": ratio.max(),
            }  # fmt: skip
        apart.append(case)
    found = []
    for (method,), part in rows.group_by("method", maintain_order=True):

        def sampled(count: int, repeat: int, part: pl.DataFrame = part) -> pl.DataFrame | None:
            return part.sample(count, seed=repeat) if count <= part.height else None

        found += refused(base, {"rows_of": suite, "method": method, "dataset": part["dataset"][0]}, sampled)
    return apart, found


def of_made_up(kind: tuple[str, str, bool, bool]) -> list[dict[str, object]]:
    """Return which made-up sets of one kind the shipped atlas refuses."""
    warnings.simplefilter("ignore")
    atlas, (method, dataset, told, wide) = qb.load_fit("atlas"), kind
    about = {"rows_of": f"made up{'' if told else ', tokens untold'}{', 2 to 8 bits' if wide else ''}"}

    def drawn(count: int, repeat: int) -> pl.DataFrame | None:
        return made_up(atlas, kind, count, repeat) if count <= 21 or wide else None

    return refused(atlas, {**about, "method": method, "dataset": dataset}, drawn)


def main() -> None:
    """Write both tables and print them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--output", type=Path, default=Path("benchmarks"))
    given = parser.parse_args()
    apart: list[dict[str, object]] = []
    sets: list[dict[str, object]] = []
    with ProcessPoolExecutor(given.jobs, get_context("spawn")) as pool:
        made = [pool.submit(of_made_up, kind) for kind in MADE_UP]
        for cases, found in pool.map(family, FAMILIES):
            apart, sets = [*apart, *cases], [*sets, *found]
            written(apart, given.output / "atlas-condition.csv")
        sets = [*(row for task in made for row in task.result()), *sets]
    for frame in (
        written(apart, given.output / "atlas-condition.csv"),
        written(sets, given.output / "atlas-refused.csv"),
    ):
        with pl.Config(tbl_cols=20, tbl_rows=60, tbl_width_chars=170):
            print(frame)


def written(rows: list[dict[str, object]], path: Path) -> pl.DataFrame:
    """Write a table, numbers to three places, and return it."""
    frame = pl.DataFrame(rows, infer_schema_length=None).with_columns(pl.selectors.float().round(3))
    frame.write_csv(path)
    return frame


if __name__ == "__main__":
    main()
