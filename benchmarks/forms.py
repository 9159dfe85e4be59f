"""Forms of what an equation misses, on points they were not fitted to: `make forms`.

The default is a process with Matérn's kernel of smoothness 5/2 over log N and log D. Beside it stand smoothness 3/2 and
1/2 (the exponential), and slopes that wander (`discrepancy = "walk"`). Two more are mixtures of what the default and
the walk forecast: half of each, and by how likely each makes the fitted rows. The eight splits of the paper's 360
points chose the default's form; `nano`, `spectra`, `bitnet` and `chinchilla` had no part in it.
"""

import argparse
import importlib
import types
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.special import expit, gammaln, logsumexp

import qidbayes as qb
from qidbayes.infer import independent
from qidbayes.infer.design import used_rows
from qidbayes.infer.proposal import _FREEDOM, Proposal, proposal
from qidbayes.law import Law
from qidbayes.noise import dense, kernels, kronecker
from qidbayes.posterior import Fit
from qidbayes.posterior.stack import Stack
from qidbayes.score.parallel import pool
from qidbayes.score.points import aggregate, score_points
from qidbayes.score.rules import Fold, every_fold

RESULTS = Path(__file__).parent / "forms.csv"
PYTHIA = [
    *("tokens > 100B", "tokens > 50B", "n_params > 5B", "n_params > 2B and tokens > 50B", "tokens < 16B"),
    *("leave bits", "leave n_params", "rolling tokens"),
]
LARGE_OR_LATE = "n_params > 3M or tokens > 200M"
"""What docs/nano.md holds out; a rule knows no "or"."""
# The table, the law, and the splits, quickest first.
TASKS = {
    "spectra": ("unified", ["leave n_params", "n_params > 1B"]),
    "pythia": ("unified", PYTHIA),
    "nano": ("unified", [LARGE_OR_LATE]),
    "chinchilla": ("kaplan-16bit", ["n_params > 3B"]),
    "bitnet": ("unified", ["tokens > 30B"]),
}
DRAWS = 250
"""Of each of four chains, where a density is dear."""
SCORED = 1_000
"""Draws of a fit that are scored. Of the 200 that answer, some scores differ by 0.04 from seed to seed."""
KERNELS = ("matern-3/2", "exponential")
"""Each in a process of its own, where it takes the default's place."""
FITS = {
    **dict.fromkeys(("matern-5/2", *KERNELS), ("smooth",)),
    "walk": ("walk",),
    **dict.fromkeys(("half and half", "by evidence"), ("smooth", "walk")),
}
"""The fits that each form is made of."""
NEAREST, SEEDS = "tokens > 50B", range(4)
"""The split on which a mixture comes nearest to what a default may lose, and the seeds that it is fitted with."""


def matern_3_2(distance: Any, xp: Any) -> Any:
    """Return Matérn's kernel of smoothness 3/2 (Rasmussen and Williams 2006, Eq. 4.17)."""
    r = np.sqrt(3.0) * xp.abs(distance)
    return (1.0 + r) * xp.exp(-r)


def exponential(distance: Any, xp: Any) -> Any:
    """Return the exponential kernel, which is Matérn's of smoothness 1/2."""
    return xp.exp(-xp.abs(distance))


def use(form: str) -> None:
    """Put another kernel over N and D in the place of the default's, in this process; bit widths keep theirs."""
    if form not in KERNELS:
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


def folds(name: str) -> list[Fold]:
    """Return what is held out of a table."""
    table, splits = rows(name), TASKS[name][1]
    if splits != [LARGE_OR_LATE]:
        return every_fold(table, splits)
    held_out = table.select((pl.col("n_params") > 3e6) | (pl.col("tokens") > 200e6)).to_series()
    return [Fold(LARGE_OR_LATE, LARGE_OR_LATE, ~held_out, held_out)]


def fitted(train: pl.DataFrame, law: Law, *, dear: bool, seed: int) -> tuple[Fit, float]:
    """Return a fit, and the log of how likely its form makes the rows."""
    made: list[Proposal] = []
    vars(independent)["proposal"] = lambda *given: made.append(proposal(*given)) or made[-1]
    found = qb.fit(train, law, draws=DRAWS if dear else None, random_seed=seed, progress=False)
    return found, log_evidence(made[-1]) if made else np.nan


def log_evidence(found: Proposal) -> float:
    """Return the log of a density's integral by importance sampling, from the draws of the last round."""
    mixture, count = found.rounds[-1]
    points, size = found.points[-count:], found.points.shape[1]
    of_t = gammaln(0.5 * (_FREEDOM + size)) - gammaln(0.5 * _FREEDOM) - 0.5 * size * np.log(_FREEDOM * np.pi)
    return float(logsumexp(found.values[-count:] - mixture.log_density(points) - of_t) - np.log(count))


def run(forms: Sequence[str], name: str) -> pl.DataFrame:
    """Return the scores of forms on one table: of one with a kernel of its own, or of several that share their fits."""
    warnings.simplefilter("ignore")
    use(forms[0])
    vars(importlib.import_module("qidbayes.posterior.fit")).update(SMOOTH_DRAWS=SCORED)
    table, law = rows(name), qb.load_law(TASKS[name][0])
    points = []
    several = "half and half" in forms
    for fold, seed in [(f, seed) for f in folds(name) for seed in (SEEDS if several and f.split == NEAREST else (0,))]:
        train, asked = table.filter(fold.train), used_rows(table.filter(fold.held_out), law)[0]
        asked = asked.filter(pl.col(law.response) > 0)
        fits, evidence = {}, {}
        for discrepancy in dict.fromkeys(one for form in forms for one in FITS[form]):
            dear = discrepancy == "walk" or name == "nano"  # ten times as dear a density
            noise = law.with_noise(discrepancy=discrepancy)
            fits[discrepancy], evidence[discrepancy] = fitted(train, noise, dear=dear, seed=seed)
        split = fold.split + (f", seed {seed}" if seed else "")
        for form in forms:
            told, share = fits[FITS[form][0]], float(form == "walk")
            if len(FITS[form]) > 1:
                share = 0.5 if form == "half and half" else float(expit(evidence["walk"] - evidence["smooth"]))
                told = Stack([fits["smooth"], fits["walk"]], [1.0 - share, share])
            scored = score_points(told, train, asked, law.response, seed)
            which = pl.DataFrame({"table": name, "form": form, "split": split, "fold": fold.name, "share": share})
            points.append(which.join(scored, how="cross"))
    every = pl.concat(points)
    rolling = every.filter(pl.col("split").str.starts_with("rolling"))
    rolling = rolling.with_columns(pl.format("{}: {}", "split", "fold").alias("split"))
    keys, shares = ("table", "form", "split"), []
    for part in (every, rolling):
        of_walk = part.group_by(keys, maintain_order=True).agg(pl.col("share").mean().alias("of_walk"))
        shares.append(aggregate(part, keys).join(of_walk, on=keys, maintain_order="left"))
    return pl.concat(shares)


def main() -> None:
    """Score every form on every table and write the table after each; another kernel has a process of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("tables", nargs="*", default=list(TASKS))
    parser.add_argument("--forms", nargs="*", default=list(FITS))
    given = parser.parse_args()
    alone = [[form] for form in given.forms if form in KERNELS]
    together = [form for form in given.forms if form not in KERNELS]
    for name in given.tables:
        for forms in ([together] if together else []) + alone:
            with pool(1) as process:
                write(name, process.submit(run, forms, name).result())
            print(name, *forms, flush=True)


def write(name: str, scores: pl.DataFrame) -> None:
    """Put the scores of some forms on a table in the place of what the results have of them."""
    scores = scores.with_columns(pl.selectors.float().round(3))
    if RESULTS.exists():
        anew = (pl.col("table") == name) & pl.col("form").is_in(scores["form"].unique().to_list())
        scores = pl.concat([pl.read_csv(RESULTS).filter(~anew), scores], how="diagonal_relaxed")
    order = pl.col("table").replace_strict({n: i for i, n in enumerate(TASKS)})
    of_form = pl.col("form").replace_strict({n: i for i, n in enumerate(FITS)})
    scores.sort(order, of_form, maintain_order=True).write_csv(RESULTS)


if __name__ == "__main__":
    pl.Config.set_tbl_rows(-1)
    main()
    print(pl.read_csv(RESULTS).select("table", "form", "split", "coverage_90", "log_width_90", "log_density"))
