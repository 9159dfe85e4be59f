"""Forms of what an equation misses, on points they were not fitted to: `make forms`.

The default is a process with Matérn's kernel of smoothness 5/2 over log N and log D. Beside it stand smoothness 3/2 and
1/2 (the exponential), and slopes that wander (`discrepancy = "walk"`). The eight splits of the paper's 360 points chose
the default's form; `nano`, `spectra`, `bitnet` and `chinchilla` had no part in it.
"""

import argparse
import importlib
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import qidbayes as qb
from qidbayes.noise import dense, kernels, kronecker
from qidbayes.score.parallel import pool

RESULTS = Path(__file__).parent / "forms.csv"
PYTHIA = [
    *("tokens > 100B", "tokens > 50B", "n_params > 5B", "n_params > 2B and tokens > 50B", "tokens < 16B"),
    *("leave bits", "leave n_params", "rolling tokens"),
]
# The table, the law, and the splits, quickest first.
TASKS = {
    "spectra": ("unified", ["leave n_params", "n_params > 1B"]),
    "pythia": ("unified", PYTHIA),
    "nano": ("unified", ["tokens > 200M", "n_params > 3M", "n_params > 3M and tokens > 200M"]),
    "chinchilla": ("kaplan-16bit", ["n_params > 3B"]),
    "bitnet": ("unified", ["tokens > 30B"]),
}
DRAWS = 250
"""Of each of four chains, where a density is dear: answers take 200 in all."""
FORMS = ("matern-5/2", "matern-3/2", "exponential", "walk")


def matern_3_2(distance: Any, xp: Any) -> Any:
    """Return Matérn's kernel of smoothness 3/2 (Rasmussen and Williams 2006, Eq. 4.17)."""
    r = np.sqrt(3.0) * xp.abs(distance)
    return (1.0 + r) * xp.exp(-r)


def exponential(distance: Any, xp: Any) -> Any:
    """Return the exponential kernel, which is Matérn's of smoothness 1/2."""
    return xp.exp(-xp.abs(distance))


def use(form: str) -> None:
    """Put another kernel over N and D in the place of the default's, in this process; bit widths keep theirs."""
    if form not in ("matern-3/2", "exponential"):
        return
    of_bits = types.FunctionType(kernels.quantization_kernel.__code__, {**vars(kernels)})
    for module in (kernels, kronecker, dense):
        vars(module)["matern"] = matern_3_2 if form == "matern-3/2" else exponential
        vars(module)["quantization_kernel"] = of_bits


def rows(name: str) -> pl.DataFrame:
    """Return a table; of nano the GPTQ rows of cosine runs, and of any table those whose QiD is no noise."""
    table = qb.load_table(name)
    if name == "nano":
        of_gptq = (pl.col("method") == "gptq") & (pl.col("group_size") == 64) & (pl.col("bits") <= 4)
        clear = (pl.col("qid") > 0) & (pl.col("qid_se") <= 0.05 * pl.col("qid")) & (pl.col("tokens") > 30e6)
        table = table.filter(of_gptq, clear, pl.col("model").str.contains("-cosine-"))
    return table.filter(pl.col("qid") > 0) if name == "bitnet" else table


def run(form: str, name: str) -> pl.DataFrame:
    """Return the scores of one form on one table."""
    warnings.simplefilter("ignore")
    use(form)
    if form == "walk" or name == "nano":  # ten times as dear a density
        sampler = importlib.import_module("qidbayes.infer.fit")
        vars(sampler).update(FIRST=DRAWS, MOST=DRAWS)
    law, splits = TASKS[name]
    declared = qb.load_law(law).with_noise(discrepancy="walk" if form == "walk" else "smooth")
    found = qb.backtest(rows(name), declared, splits, random_seed=0)
    folds = found.by("split", "fold").with_columns(split=pl.col("split") + ": " + pl.col("fold"))
    folds = folds.filter(pl.col("split").str.starts_with("rolling")).drop("fold")
    scores = pl.concat([found.by("split"), folds])
    return scores.select(pl.lit(name).alias("table"), pl.lit(form).alias("form"), pl.all())


def main() -> None:
    """Score every form on every table, each in a process of its own, and write the table after each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("tables", nargs="*", default=list(TASKS))
    parser.add_argument("--forms", nargs="*", default=FORMS)
    given = parser.parse_args()
    anew = pl.col("table").is_in(given.tables) & pl.col("form").is_in(given.forms)
    found = [pl.read_csv(RESULTS).filter(~anew)] if RESULTS.exists() else []
    for name in given.tables:
        for form in given.forms:
            with pool(1) as process:
                found.append(process.submit(run, form, name).result().with_columns(pl.selectors.float().round(3)))
            print(name, form, flush=True)
            pl.concat(found, how="diagonal_relaxed").write_csv(RESULTS)


if __name__ == "__main__":
    pl.Config.set_tbl_rows(-1)
    main()
    print(pl.read_csv(RESULTS).select("table", "form", "split", "coverage_90", "log_width_90", "log_density"))
