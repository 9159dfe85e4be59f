"""Does drift explain QiD? What the suite nano-drift says: `make nano-drift`. A function and a table a question."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl

import qidbayes as qb

HERE = Path(__file__).parent
FROM = 30e6  # tokens, as in nano.py
SPLITS = ["leave n_params", "tokens > 150M", "learning_rate < 0.0003"]  # sizes, late tokens, what has decayed
# What stands beside N and P in the law, and the reference of each column.
TERMS = {
    "tokens": "D**beta",
    "tokens and rate": "D**beta / learning_rate**rho",
    "tokens and drift": "D**beta * weight_change**delta",
    "tokens and ratio": "D**beta * (rounding_error / weight_change)**delta",
    "tokens and ratio over 1.05M tokens": "D**beta * (rounding_error / weight_change_fixed)**delta",
    "ratio": "(rounding_error / weight_change)**delta",
    "ratio over 1.05M tokens": "(rounding_error / weight_change_fixed)**delta",
    "curvature": "curvature**delta",
    "tokens and curvature": "D**beta * curvature**delta",
}
REFERENCE = {
    "D": 2e8, "N": 5e5, "P": 3, "learning_rate": 2e-3, "weight_change": 0.1, "weight_change_fixed": 0.05,
    "rounding_error": 0.3, "curvature": 0.2,
}  # fmt: skip
PRIORS = {
    "k": qb.Prior("LogNormal", mu=-2, sigma=2),
    "beta": qb.Prior("Normal", mu=0.5, sigma=0.5),
    "alpha": qb.Prior("Normal", mu=0.3, sigma=0.5),
    "gamma": qb.Prior("Normal", mu=5, sigma=3),
    "rho": qb.Prior("Normal", mu=0, sigma=0.5),
    "delta": qb.Prior("Normal", mu=0, sigma=1),
}


def law(name: str) -> qb.Law:
    """Eq. 8 with a term in the place of D's; random effects of model and checkpoint, no discrepancy."""
    equation = f"k * {TERMS[name]} / (N**alpha * P**gamma)"
    names = re.findall(r"\w+", equation)
    return qb.Law(
        equation,
        priors={key: prior for key, prior in PRIORS.items() if key in names},
        name=name,
        reference={key: value for key, value in REFERENCE.items() if key in names},
        noise=qb.Noise(discrepancy="none"),
    )


def points() -> pl.DataFrame:
    """GPTQ's rows from 30M tokens on whose standard error is at most a twentieth of QiD."""
    table = qb.load_table("nano-drift").filter(method="gptq")
    return table.filter(pl.col("tokens") > FROM, pl.col("qid_se") <= 0.05 * pl.col("qid"))


def laws() -> pl.DataFrame:
    """Each law fitted to all rows, its exponents, and held-out runs and tokens by the package's backtest."""
    table, found = points(), []
    for name in TERMS:
        fit = qb.fit(table, law(name), random_seed=0)
        tested = qb.backtest(table, law(name), SPLITS)
        failed = dict(tested.scores.group_by("split").agg((pl.col("failed_checks") > 0).sum()).rows())
        scores = tested.by("split")
        summary = {row["name"]: row for row in fit.summary(ci_prob=0.9).iter_rows(named=True)}
        for row in scores.iter_rows(named=True):
            told = {"law": name, **{key: row[key] for key in ("split", "points", "log_density", "coverage_90", "bias")}}
            told |= {"r_hat": max(one["r_hat"] or 0 for one in summary.values()), "failed_fits": failed[row["split"]]}
            for parameter in ("beta", "rho", "delta"):
                one = summary.get(parameter, {})
                told |= {parameter: one.get("median"), f"{parameter}_lower": one.get("lower")}
                told |= {f"{parameter}_upper": one.get("upper")}
            found.append(told)
    return pl.DataFrame(found, infer_schema_length=None)


def parts() -> pl.DataFrame:
    """How log QiD splits, exactly: rounding squared, output error for it, loss for that; from 34M to 537M tokens."""
    table = points().with_columns(run=pl.col("model")).filter(pl.col("tokens").is_between(33e6, 537e6))
    ends = table.sort("tokens").group_by("run", "bits", maintain_order=True).agg(
        tokens=pl.col("tokens").first(), tokens_last=pl.col("tokens").last(),
        qid=_growth("qid"), rounding=2 * _growth("rounding_error"), curvature=_growth("curvature"),
        drift=_growth("weight_change"), farther=pl.col("moved_farther").first(),
        farther_last=pl.col("moved_farther").last(),
    )  # fmt: skip
    return ends.with_columns(loss=pl.col("qid") - pl.col("rounding") - pl.col("curvature")).sort("bits", "run")


def pairs() -> pl.DataFrame:
    """Decay at equal tokens: logs of the ratio of a branch's end to the constant rate's checkpoint."""
    table = points().with_columns(pl.col("model").str.replace("decayed", "stable").alias("run"))
    decayed = table.filter(pl.col("model").str.contains("decayed"))
    stable = table.filter(pl.col("model").str.contains("stable"))
    both = decayed.join(stable, on=["run", "tokens", "bits"], suffix="_stable")
    names = ("qid", "weight_change", "weight_change_fixed", "rounding_error", "curvature", "output_error")
    return both.select(
        "run", "tokens", "bits", *((pl.col(n) / pl.col(f"{n}_stable")).log().alias(n) for n in names)
    ).sort("bits", "run", "tokens")


def again() -> pl.DataFrame:
    """QiD beside the first time's, of the same run, step and quantization: nano's own table."""
    keys = ["model", "revision", "method", "bits", "group_size"]
    both = qb.load_table("nano-drift").join(qb.load_table("nano"), on=keys, suffix="_first", nulls_equal=True)
    both = both.filter(pl.col("method") != "none", pl.col("tokens") > FROM)
    error = (pl.col("qid_se") ** 2 + pl.col("qid_se_first") ** 2).sqrt()
    return both.group_by("method", "bits").agg(
        rows=pl.len(), mean_log_ratio=(pl.col("qid") / pl.col("qid_first")).log().mean(),
        sd_log_ratio=(pl.col("qid") / pl.col("qid_first")).log().std(),
        sd_in_errors=((pl.col("qid") - pl.col("qid_first")) / error).std(),
    ).sort("method", "bits")  # fmt: skip


def _growth(name: str) -> pl.Expr:
    return (pl.col(name).last() / pl.col(name).first()).log()


QUESTIONS: dict[str, Callable[[], pl.DataFrame]] = {"again": again, "pairs": pairs, "parts": parts, "laws": laws}


def main(*wanted: str) -> None:
    """Answer the questions named, or all, and write the tables."""
    for name in wanted or QUESTIONS:
        table = QUESTIONS[name]().with_columns(pl.selectors.float().round_sig_figs(5))
        table.write_csv(HERE / f"nano-drift-{name}.csv")
        with pl.Config(tbl_rows=60, tbl_cols=-1, tbl_width_chars=200, fmt_str_lengths=40):
            print(table, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
