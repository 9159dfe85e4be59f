"""What the suite nano says: `make nano`. Each question is a function and a CSV file beside this one.

QiD here is that of GPTQ at 2, 3 and 4 bits in groups of 64 on held-out text of the training mix, unless a column says
otherwise. `docs/nano.md` reads the results.
"""

import math
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from scipy import stats

import qidbayes as qb
from qidbayes.law import law_names
from qidbayes.posterior.summary import constants_of
from qidbayes.score.loo import leave_one_out
from qidbayes.score.parallel import each

HERE = Path(__file__).parent
FROM = 30e6  # tokens; before, a model has hardly begun to learn and a 4-bit QiD is a fifth noise
JOBS = int(os.environ.get("JOBS", os.cpu_count() or 1))
PEAK = 2e-3  # nano's highest rate; Pythia's rates enter as the same shares of it
LAW = qb.Law(
    "k * D**beta / (N**alpha * P**gamma * learning_rate**rho)",
    priors={
        "k": qb.Prior("LogNormal", mu=-3, sigma=2),
        "beta": qb.Prior("Normal", mu=0.5, sigma=0.5),
        "alpha": qb.Prior("Normal", mu=0.3, sigma=0.5),
        "gamma": qb.Prior("Normal", mu=5, sigma=3),
        "rho": qb.Prior("Normal", mu=0, sigma=0.5),
    },
    name="unified-rate",
    reference={"N": 1e9, "D": 1e11, "P": 4, "learning_rate": PEAK},
    noise=qb.Noise(discrepancy="none"),
)


def points(*schedules: str, noise: float = 0.05) -> pl.DataFrame:
    """The rows whose standard error is at most a share `noise` of QiD, of some schedules or of all.

    A law's fit can use noisier rows, but each is one more number to sample, and minutes a fit; at 5% a tenth is left
    out, 4 bits early on.
    """
    table = qb.load_table("nano").filter(method="gptq", group_size=64)
    table = table.filter(pl.col("bits") <= 4, pl.col("tokens") > FROM)
    table = table.filter(pl.col("qid_se") <= noise * pl.col("qid"))
    chosen = [pl.col("model").str.contains(f"-{schedule}-") for schedule in schedules]
    return table.filter(pl.any_horizontal(chosen)) if chosen else table


def named(table: pl.DataFrame) -> pl.DataFrame:
    """`nano-128x3-stable-0` in its parts: size, schedule, seed."""
    parts = pl.col("model").str.split("-").list
    return table.with_columns(size=parts.get(1), schedule=parts.get(2), seed=parts.get(3))


def over_runs(table: pl.DataFrame, value: str, *by: str) -> pl.DataFrame:
    """Mean over runs with the 90% interval of Student's t, a run being one number."""
    found = table.group_by(*by, maintain_order=True).agg(
        runs=pl.len(), mean=pl.col(value).mean(), sd=pl.col(value).std(), least=pl.col(value).min(),
        greatest=pl.col(value).max(),
    )  # fmt: skip
    half = [
        stats.t.ppf(0.95, n - 1) * sd / math.sqrt(n) if n > 1 else math.nan
        for n, sd in found.select("runs", "sd").rows()
    ]
    half = pl.Series("half", half)
    return found.with_columns(lower=pl.col("mean") - half, upper=pl.col("mean") + half)


def contrasts() -> pl.DataFrame:
    """Decay at equal tokens: log(QiD after decay / QiD without), paired; a run's mean over its tokens counts once."""
    table = pl.concat([qb.load_table(name) for name in ("nano", "nano/wikitext2", "nano/code")])
    table = table.filter(pl.col("method") != "none", pl.col("tokens") > FROM)
    table = named(table).with_columns(clear=pl.col("qid") > 5 * pl.col("qid_se"))
    cell = ["size", "seed", "tokens", "method", "bits", "group_size", "dataset"]
    stable, decayed = (table.filter(schedule=name) for name in ("stable", "decayed"))
    pairs = decayed.join(stable, on=cell, suffix="_stable", nulls_equal=True)
    pairs = pairs.with_columns(
        ratio=(pl.col("qid") / pl.col("qid_stable")).log(), gain=pl.col("loss_16bit") - pl.col("loss_16bit_stable"),
        per_parameter=pl.col("tokens") / pl.col("n_params"),
    )  # fmt: skip
    clear = pairs.filter(pl.col("clear") & pl.col("clear_stable"))
    by = ["dataset", "method", "group_size", "bits"]
    runs = clear.group_by(*by, "size", "seed", maintain_order=True).agg(pl.col("ratio").mean(), pairs=pl.len())
    whole = over_runs(runs, "ratio", *by).with_columns(tokens=pl.lit("all"))
    late = clear.filter(pl.col("tokens") >= pl.col("tokens").max().over("size", "seed") / 4)
    runs = late.group_by(*by, "size", "seed", maintain_order=True).agg(pl.col("ratio").mean())
    ends = over_runs(runs, "ratio", *by).with_columns(tokens=pl.lit("last three branches"))
    planned, kept = pairs.group_by(*by).len("pairs"), clear.group_by(*by).len("clear_pairs")
    found = pl.concat([whole, ends]).join(planned, on=by, nulls_equal=True).join(kept, on=by, nulls_equal=True)
    return found.sort(*by, "tokens")


def ends() -> pl.DataFrame:
    """The ends of cosine runs, stable runs and last branches: equal tokens, seed and order of the text."""
    table = named(points()).filter(pl.col("tokens") == pl.col("tokens").max().over("size"))
    wide = table.pivot(on="schedule", index=["size", "seed", "n_params", "tokens", "bits"], values="qid")
    wide = wide.drop_nulls().with_columns(
        (pl.col(name) / pl.col("stable")).log().alias(f"{name}/stable") for name in ("decayed", "cosine")
    )
    wide = wide.with_columns((pl.col("cosine") / pl.col("decayed")).log().alias("cosine/decayed"))
    long = wide.unpivot(
        ["decayed/stable", "cosine/stable", "cosine/decayed"], index=["size", "bits"], variable_name="ratio"
    )
    return over_runs(long, "value", "ratio", "bits").sort("ratio", "bits")


def slopes() -> pl.DataFrame:
    """Tokens at equal rate: each run's slope of log QiD over log D; the cosine run's beside it."""
    found = []
    table = named(points(noise=0.2))
    for (size, seed, schedule, bits), rows in table.group_by("size", "seed", "schedule", "bits", maintain_order=True):
        for least in (FROM, 120e6):
            some = rows.filter(pl.col("tokens") > least)
            if some.height >= 3:
                line = np.polyfit(np.log(some["tokens"]), np.log(some["qid"]), 1)
                found.append({"size": size, "seed": seed, "schedule": schedule, "bits": bits,
                              "tokens_above": least, "slope": float(line[0])})  # fmt: skip
    by = ["tokens_above", "schedule", "bits"]
    return over_runs(pl.DataFrame(found), "slope", *by).sort(*by)


def fitted(table: pl.DataFrame, law: qb.Law, draws: int = 1_000) -> qb.Fit:
    """A fit; with a discrepancy, whose gradients are dear, half as many draws: R-hat says whether they are enough."""
    most = 500 if law.noise.discrepancy == "smooth" else draws
    return qb.fit(table, law, random_seed=0, draws=most, tune=min(most, 1_000))


def summary(posterior: qb.Fit, /, **about: object) -> pl.DataFrame:
    """A fit's constants with 90% intervals, and what the sampler's checks said."""
    rows = constants_of(posterior, 0.9).select("name", "group", "median", "lower", "upper", "identified")
    note = "; ".join(posterior.diagnostics.problems())
    return rows.with_columns(**{key: pl.lit(value) for key, value in about.items()}, note=pl.lit(note))


def fitted_law(task: tuple[str, str, str]) -> pl.DataFrame:
    """A law fitted to the cosine runs or to Pythia, scored by leaving out checkpoints."""
    suite, name, discrepancy = task
    law = qb.load_law(name).with_noise(discrepancy=discrepancy)
    table = points("cosine") if suite == "nano" else qb.load_table("pythia")
    # Taken at its word, Kaplan's law has chains that mix slowly.
    posterior = fitted(table, law, draws=2_000 if name in ("joint", "kaplan-16bit") else 1_000)
    scores: dict[str, object] = {}
    if law.response == "qid":
        left_out = leave_one_out(posterior)["checkpoint"]
        scores = {"loo_checkpoint": left_out.log_density, "loo_bad": left_out.bad}
    say(f"{suite}, {name}, discrepancy {discrepancy}")
    return summary(posterior, law=name, suite=suite, discrepancy=discrepancy, **scores)


def laws() -> pl.DataFrame:
    """Every law as it is shipped on nano's cosine runs, and without a discrepancy; two on Pythia's beside them."""
    tasks = []
    for suite, names in (("nano", law_names()), ("pythia", ("unified", "per-bit"))):
        for name in names:
            shipped = qb.load_law(name).noise.discrepancy
            tasks += [(suite, name, discrepancy) for discrepancy in dict.fromkeys((shipped, "none"))]
    return pl.concat(each(fitted_law, tasks, JOBS), how="diagonal")


def fitted_both(discrepancy: str) -> pl.DataFrame:
    """Both suites at once, every constant of a suite around that of a population of suites."""
    law = qb.load_law("unified").with_noise(discrepancy=discrepancy)
    spread = {"k": 1.0, "beta": 0.1, "alpha": 0.1, "gamma": 0.75}
    priors = {
        name: qb.Prior(prior.family, by="suite", spread=spread[name], **dict(prior.arguments))
        for name, prior in law.priors.items()
    }
    both = qb.join_tables(points("cosine"), qb.load_table("pythia"))
    posterior = fitted(both, replace(law, priors=priors, name="unified by suite"))
    say(f"pooled, discrepancy {discrepancy}")
    return summary(posterior, discrepancy=discrepancy)


def pooled() -> pl.DataFrame:
    """The unified law of nano's cosine runs and of Pythia, with what it misses modelled and without."""
    return pl.concat(each(fitted_both, ("smooth", "none"), JOBS))


def shares(table: pl.DataFrame) -> pl.DataFrame:
    """Learning rates as the same share of nano's peak: each Pythia size has a peak of its own."""
    return table.with_columns(
        learning_rate=pl.col("learning_rate") / pl.col("learning_rate").max().over("model") * PEAK
    )


def fitted_rate(task: tuple[str, qb.Law, tuple[str, ...] | None]) -> pl.DataFrame:
    """A fit to schedules of nano, or to Pythia and projected from there to a 7B model after 100T tokens."""
    label, law, schedules = task
    if schedules is not None:
        posterior = fitted(points(*schedules), law)
        say(label)
        return summary(posterior, fit=label)
    posterior = fitted(shares(qb.load_table("pythia")), law)
    at = {"learning_rate": PEAK / 10} if "learning_rate" in law.covariates else {}
    far = posterior.predict(n_params=7e9, tokens=100e12, bits=[2, 3, 4], kind="response_params", **at)
    about = far.select("bits", "median", "lower", "upper").with_columns(fit=pl.lit(label), name=pl.lit("QiD, 7B, 100T"))
    say(label)
    return pl.concat([about, summary(posterior, fit=label)], how="diagonal")


def rates() -> pl.DataFrame:
    """Tokens and rate in one law: on nano, where both vary, and on Pythia, where they fall together."""
    plain = qb.load_law("unified").with_noise(discrepancy="none")
    tasks: list[tuple[str, qb.Law, tuple[str, ...] | None]] = [
        ("nano, all schedules", LAW, ()),
        ("nano, stable and decayed", LAW, ("stable", "decayed")),
        ("nano, cosine", LAW, ("cosine",)),
        ("nano, stable, no rate", plain, ("stable",)),
        ("nano, decayed, no rate", plain, ("decayed",)),
        ("nano, cosine, no rate", plain, ("cosine",)),
        ("pythia, no rate", plain, None),
        ("pythia", LAW, None),
    ]
    # What a fall of the rate to a tenth did at equal tokens by the end of nano's runs, as a prior.
    for ratio, pairs in ends().group_by("ratio", maintain_order=True):
        if ratio != ("cosine/decayed",):
            rho = qb.Prior("Normal", mu=pairs["mean"].mean() / math.log(10), sigma=pairs["sd"].mean() / math.log(10))
            told = replace(LAW, priors={**LAW.priors, "rho": rho})
            mean, sd = (value for _, value in rho.arguments)
            tasks.append((f"pythia, rho from nano's {ratio[0]}: {mean:.3f} ± {sd:.3f}", told, None))
    return pl.concat(each(fitted_rate, tasks, JOBS), how="diagonal")


def forecast(discrepancy: str) -> pl.DataFrame:
    """The unified law fitted to small models and early checkpoints of the cosine runs, its bands against the rest."""
    table, small, early = points("cosine"), pl.col("n_params") < 3e6, pl.col("tokens") < 200e6
    rest = table.filter(~(small & early)).with_columns(
        part=pl.when(small)
        .then(pl.lit("small, late"))
        .when(early)
        .then(pl.lit("large, early"))
        .otherwise(pl.lit("large, late"))
    )
    law = qb.load_law("unified").with_noise(discrepancy=discrepancy)
    posterior = fitted(table.filter(small & early), law)
    told = posterior.predictive(rest)
    log_qid = np.log(rest["qid"].to_numpy())
    scored = rest.select("part", "bits").with_columns(
        held=pl.Series(np.abs(told.pit(log_qid) - 0.5) < 0.45),
        miss=pl.Series(log_qid - np.median(told.draws(0), axis=0)),
        density=pl.Series(told.log_density(log_qid)),
    )
    parts = [
        scored.with_columns(part=pl.lit("all")),
        scored,
        scored.with_columns(part=pl.format("{} bits", pl.col("bits").cast(int))),
    ]
    found = pl.concat(parts).group_by("part", maintain_order=True).agg(
        points=pl.len(),
        coverage_90=pl.col("held").mean(),
        bias=pl.col("miss").mean(),
        log_density=pl.col("density").mean(),
    )  # fmt: skip
    say(f"held out, discrepancy {discrepancy}")
    return found.with_columns(
        discrepancy=pl.lit(discrepancy),
        fitted=pl.lit(table.filter(small & early).height),
        note=pl.lit("; ".join(posterior.diagnostics.problems())),
    )


def held_out() -> pl.DataFrame:
    """What is left out of the fit, and what its bands say of it, with the discrepancy and without."""
    return pl.concat(each(forecast, ("none", "smooth"), JOBS))


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


QUESTIONS: dict[str, Callable[[], pl.DataFrame]] = {
    "contrasts": contrasts,
    "ends": ends,
    "slopes": slopes,
    "pooled": pooled,
    "rates": rates,
    "laws": laws,
    "held-out": held_out,
}


def main(*wanted: str) -> None:
    """Answer the questions named, or all, and write the tables."""
    for name in wanted or QUESTIONS:
        table = QUESTIONS[name]().with_columns(pl.selectors.float().round_sig_figs(5))
        table.write_csv(HERE / f"nano-{name}.csv")
        with pl.Config(tbl_rows=60, tbl_cols=-1, tbl_width_chars=200, fmt_str_lengths=40):
            print(table)


if __name__ == "__main__":
    main(*sys.argv[1:])
