"""How answers about a family that was never fitted hold: `python benchmarks/atlas.py`, which `make atlas` runs.

Of the table `atlas` each family is left out in turn, with those that share models with it. The law `atlas` is fitted to
the others, and asked for the family's measurements: named (its method and data set told) and unnamed, and given 3, 6
and 18 of its rows, four times each. Beside it stand today's default, law `unified` fitted to Pythia, and a bare offset
from that fit's median, with the interval of Student's t.
"""

import argparse
import os
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from multiprocessing.queues import Queue
from pathlib import Path

import numpy as np
import polars as pl
from scipy import stats

import qidbayes as qb
from qidbayes.errors import InputError
from qidbayes.posterior.predictive import Predictive, crps

OWN = (3, 6, 18)
REPEATS = 4
LEAST, MOST = 8, 90
TOGETHER = ({"llama", "llama-2", "llama-3"}, {"qwen", "qwen2", "qwen2.5"})
"""Suites with the same models, as others measured them: they are left out together."""
LATER = ("ptq-papers", "gguf-2024")
"""Tables that were found on 30 November 2026, when the law stood as it is."""
LEVELS = (0.5, 0.8, 0.9, 0.95)
NAMED = ("suite", "model", "n_params", "tokens", "bits", "method", "group_size", "dataset", "settings")
_DEFAULT = Path("benchmarks/atlas/pythia.nc")
UNNAMED = ("n_params", "tokens", "bits")


def scored(found: Predictive, log_qid: np.ndarray) -> dict[str, float]:
    """Return coverage, half-width, log density and CRPS of a predictive in log QiD, the means over rows."""
    drawn = np.concatenate([found.draws(seed) for seed in range(5)])
    return _scores(found.pit(log_qid), drawn, found.log_density(log_qid), log_qid)


def _scores(pit: np.ndarray, drawn: np.ndarray, log_density: np.ndarray, log_qid: np.ndarray) -> dict[str, float]:
    low, high = np.quantile(drawn, [0.05, 0.95], axis=0)
    held = {f"held_{100 * p:g}": float((np.abs(2 * pit - 1) < p).mean()) for p in LEVELS}
    score = {"half_width": float(((high - low) / 2).mean()), "log_density": float(log_density.mean())}
    return held | score | {"crps": float(crps(drawn, log_qid).mean())}


def offset(base: np.ndarray, own: np.ndarray, rest: np.ndarray, log_qid: np.ndarray) -> dict[str, float]:
    """Score the interval of Student's t around a fit's median, shifted by the mean residual of a few rows."""
    apart = log_qid[own] - base[own]
    scale = apart.std(ddof=1) * np.sqrt(1 + 1 / len(own))
    found = stats.t(len(own) - 1, loc=base[rest] + apart.mean(), scale=max(scale, 1e-3))
    drawn = found.ppf(((np.arange(2000) + 0.5) / 2000)[:, None])
    return _scores(found.cdf(log_qid[rest]), drawn, found.logpdf(log_qid[rest]), log_qid[rest])


def left_out(table: pl.DataFrame) -> list[set[str]]:
    """Return the suites that are left out together, those of the most rows first."""
    # `nano` is far from any model that somebody asks about: it is fitted, and not left out.
    rows = dict(table.filter(pl.col("suite") != "nano")["suite"].value_counts().iter_rows())
    found = [*TOGETHER, *({suite} for suite in rows if not any(suite in one for one in TOGETHER))]
    return sorted(found, key=lambda suites: -sum(rows[suite] for suite in suites))


def family(suites: set[str], settings: dict[str, int]) -> list[dict[str, object]]:
    """Return the scores of families that were left out together."""
    warnings.simplefilter("ignore")
    table = qb.load_table("atlas")
    rest, asked = (table.filter(pl.col("suite").is_in(suites) == out) for out in (False, True))
    return scores(qb.fit(rest, "atlas", random_seed=0, **settings), asked)


def scores(fit: qb.Fit, table: pl.DataFrame) -> list[dict[str, object]]:
    """Return the scores of a fit, and of what stands beside it, on rows of suites that it does not have."""
    worst = max(one.r_hat for one in fit.diagnostics.convergence.values())
    default = qb.load_fit(_DEFAULT)
    every: list[dict[str, object]] = []
    for (suite, method), rows in table.group_by("suite", "method", maintain_order=True):
        if rows.height < LEAST:
            continue
        rows = rows.filter(pl.col("qid") > 0)
        rows = rows.sample(MOST, seed=5) if rows.height > MOST else rows
        log_qid = np.log(rows["qid"].to_numpy())
        told = rows.with_columns(pl.col("tokens").fill_null(3_162_000_000_000))
        base = np.log(default.predict(told.select(UNNAMED), kind="response_params")["median"].to_numpy())

        about = {"suite": suite, "method": method, "rows": rows.height}

        def note(forecaster: str, asked: str, of: dict[str, float], about: dict[str, object] = about) -> None:
            every.append({**about, "forecaster": forecaster, "asked": asked, "r_hat": worst, **of})

        note("atlas", "named", scored(fit.predictive(rows.select(*NAMED, "qid_se")), log_qid))
        note("atlas", "unnamed", scored(fit.predictive(rows.select(*UNNAMED, "qid_se")), log_qid))
        asked = told.select(NAMED)
        pythia = asked.with_columns(suite=pl.lit("pythia"), method=pl.lit("gptq"), dataset=pl.lit("refinedweb"))
        note("default", "named", scored(default.predictive(asked), log_qid))
        note("default", "as Pythia", scored(default.predictive(pythia.drop("model", "group_size")), log_qid))
        for count in OWN:
            if rows.height < count + 6:
                continue
            found: dict[str, list[dict[str, float]]] = {"atlas": [], "offset": []}
            refused = 0
            for repeat in range(REPEATS):
                order = np.random.default_rng(repeat).permutation(rows.height)
                own, rest = order[:count], order[count:]
                found["offset"].append(offset(base, own, rest, log_qid))
                try:
                    given = fit.condition(rows[own].with_columns(pl.lit(None, pl.Float64).alias("qid_se")))
                except InputError as error:
                    refused += 1
                    print(suite, method, count, error, flush=True)
                    continue
                found["atlas"].append(scored(given.predictive(rows[rest].select(*NAMED, "qid_se")), log_qid[rest]))
            for name, of in found.items():
                if of:
                    mean = {key: float(np.mean([one[key] for one in of])) for key in of[0]}
                    note(name, f"{count} rows", mean | {"refused": refused if name == "atlas" else 0})
    return every


def later(settings: dict[str, int]) -> list[dict[str, object]]:
    """Return the scores, on the tables that were found after the law was made, of its fit to those before."""
    warnings.simplefilter("ignore")
    table = qb.load_table("atlas")
    key = ["suite", "model", "tokens", "method", "bits", "group_size", "settings", "dataset"]
    new = table.join(qb.load_table(*LATER).select(key), on=key, how="semi", nulls_equal=True)
    before = table.join(new.select(key), on=key, how="anti", nulls_equal=True)
    # As models of new families, also where the fit has the family as somebody else measured it.
    new = new.with_columns(pl.col("suite", "model") + ", later")
    return scores(qb.fit(before, "atlas", random_seed=0, **settings), new)


def _on_one_core(cores: "Queue[int]") -> None:
    """Keep a worker to a core of its own, before its array library starts as many threads as it sees cores."""
    os.sched_setaffinity(0, {cores.get()})


def main() -> None:
    """Write benchmarks/atlas.csv and print the means over families and methods."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--tune", type=int, default=100)
    parser.add_argument("--chains", type=int, default=2)
    parser.add_argument("--later", action="store_true", help="ask the fit of November for what was found since")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    output = given.output or Path("benchmarks/atlas-later.csv" if given.later else "benchmarks/atlas.csv")
    settings = {"draws": given.draws, "tune": given.tune, "chains": given.chains}
    if not _DEFAULT.exists():
        qb.fit(qb.load_table("pythia"), "unified", random_seed=0).save(_DEFAULT)
    cores = get_context("spawn").Queue()
    for core in sorted(os.sched_getaffinity(0)):
        cores.put(core)
    with ProcessPoolExecutor(given.jobs, get_context("spawn"), _on_one_core, (cores,)) as pool:
        if given.later:
            tasks = [pool.submit(later, settings)]
        else:
            tasks = [pool.submit(family, suites, settings) for suites in left_out(qb.load_table("atlas"))]
        found = []
        for task in as_completed(tasks):
            found += task.result()
            pl.DataFrame(found, infer_schema_length=None).sort("suite", "method", "forecaster", "asked").with_columns(
                pl.selectors.float().round(3)
            ).write_csv(output)
    print(means(pl.read_csv(output)))


def means(scores: pl.DataFrame) -> pl.DataFrame:
    """Return the means over families and methods, and the worst coverage of nominal 90%."""
    columns = [f"held_{100 * p:g}" for p in LEVELS]
    return (
        scores.group_by("forecaster", "asked")
        .agg(
            pl.len().alias("sets"),
            *(pl.col(c).mean() for c in columns),
            pl.col("held_90").min().alias("worst"),
            pl.col("half_width", "log_density", "crps").mean(),
        )
        .sort("forecaster", "asked")
    )


if __name__ == "__main__":
    pl.Config.set_tbl_cols(20).set_tbl_rows(40).set_tbl_width_chars(160)
    main()
