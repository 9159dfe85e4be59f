"""A fit given a few further rows against a fit of all rows: `python benchmarks/atlas_condition.py`.

Of the atlas five families are left out in turn. The law is fitted to the others, and then given 3 and 6 rows of the
family: by `Fit.condition`, and by a fit of all rows. Both are asked for its other rows: how far their means lie
apart, in standard deviations of the second, and how their standard deviations compare.
"""

import os
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import polars as pl

import qidbayes as qb
from qidbayes.errors import InputError

FAMILIES = ("llama-1", "bloom", "qwen", "spectra", "llama")
OWN = (3, 6)
SETTINGS = {"draws": 250, "tune": 150, "chains": 2}
NAMED = ("suite", "model", "n_params", "tokens", "bits", "method", "group_size", "dataset")


def moments(fit: qb.Fit, rows: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of the predictive of each row's log QiD."""
    found = fit.predictive(rows.select(NAMED))
    mean = found.mean.mean(axis=0)
    return mean, np.sqrt((found.sd**2 + found.mean**2).mean(axis=0) - mean**2)


def family(suite: str) -> list[dict[str, object]]:
    """Return how far the two lie apart, for each number of own rows."""
    warnings.simplefilter("ignore")
    table = qb.load_table("atlas")
    others, rows = table.filter(pl.col("suite") != suite), table.filter(pl.col("suite") == suite, method="gptq")
    base, found = qb.fit(others, "atlas", random_seed=0, progress=False, **SETTINGS), []
    order = np.random.default_rng(0).permutation(rows.height)
    for count in OWN:
        own, rest = rows[order[:count]], rows[order[count:]]
        anew = qb.fit(pl.concat([others, own]), "atlas", random_seed=1, progress=False, **SETTINGS)
        mean, sd = moments(anew, rest)
        case: dict[str, object] = {"suite": suite, "own_rows": count, "asked": rest.height}
        try:
            given = base.condition(own)
        except InputError as error:
            found.append({**case, "refused": str(error)})
            continue
        quick, width = moments(given, rest)
        apart, ratio = np.abs(quick - mean) / sd, width / sd
        told = given.attributes["conditioned_on"][-1]
        found.append(case | {
            "pareto_k": told["pareto_k"], "ess": told["ess"], "mean_apart": float(apart.mean()),
            "most_apart": float(apart.max()), "sd_ratio": float(ratio.mean()), "least_ratio": float(ratio.min()),
            "greatest_ratio": float(ratio.max()),
        })  # fmt: skip
    return found


if __name__ == "__main__":
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        found = [case for cases in pool.map(family, FAMILIES) for case in cases]
    frame = pl.DataFrame(found, infer_schema_length=None).with_columns(pl.selectors.float().round(3))
    frame.write_csv(Path("benchmarks/atlas-condition.csv"))
    with pl.Config(tbl_cols=20, tbl_rows=20, tbl_width_chars=150):
        print(frame)
