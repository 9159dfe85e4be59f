"""What the suite nano-native says: `make native`. Each question is a function and a CSV file beside this one.

A difference is that of a model trained in low bits and its twin of 16 bits: same size, rate, schedule, seed and step.
`docs/native.md` reads the results.
"""

import math
from pathlib import Path

import numpy as np
import polars as pl
from scipy import stats

import qidbayes as qb

HERE = Path(__file__).parent
LOW, HIGH = 2e-3, 6e-3  # nano's rate, and the higher one
DRAWS = 4000  # of curves within their standard errors
WHERE = ["size", "schedule", "seed", "revision"]


def parted(table: pl.DataFrame) -> pl.DataFrame:
    """`nano-128x3-stable-0` and `nano-native-128x3-stable-0-0.002` in their parts."""
    parts = pl.col("model").str.extract_groups(
        r"(?<size>\d+x\d+)-(?<schedule>stable|decayed)-(?<seed>\d)-?(?<rate>.*)$"
    )
    found = table.with_columns(parts.alias("parts")).unnest("parts")
    step = pl.col("revision").str.strip_prefix("step").cast(pl.Int64)
    return found.filter(pl.col("size").is_not_null()).with_columns(
        pl.col("rate").cast(pl.Float64, strict=False), step=step
    )


def native() -> pl.DataFrame:
    return parted(qb.load_table("nano-native"))


def nano() -> pl.DataFrame:
    return parted(qb.load_table("nano"))


def twins() -> pl.DataFrame:
    """Twins beside nano's runs of the same settings, and what another seed of nano's changes at that step."""
    other = nano().filter(method="none")
    seeds = other.group_by("size", "schedule", "step").agg(
        between_seeds=pl.when(pl.len() == 2).then(pl.col("loss_16bit").max() - pl.col("loss_16bit").min())
    )
    ours = native().filter(pl.col("rate") == LOW, method="none")
    found = ours.join(other.select(*WHERE, nano="loss_16bit"), on=WHERE).join(seeds, on=["size", "schedule", "step"])
    found = found.select("model", "revision", "tokens", "loss_16bit", "nano", "between_seeds")
    return found.with_columns(difference=pl.col("loss_16bit") - pl.col("nano")).sort("model", "tokens")


def rates() -> pl.DataFrame:
    """Each format at the better of its two rates, against the twin at the better of its own."""
    at = ["size", "schedule", "seed", "step", "tokens", "n_params"]
    table = native().filter(pl.col("seed") == "0")
    loss = pl.coalesce("loss", "loss_16bit")
    best = (
        table.with_columns(found=loss)
        .group_by(*at, "method", "bits")
        .agg(loss=pl.col("found").min(), rate=pl.col("rate").sort_by("found").first())
    )
    twin = best.filter(method="none").select(*at, loss_16bit="loss", rate_16bit="rate")
    found = best.filter(pl.col("method") != "none").join(twin, on=at)
    found = found.with_columns(difference=pl.col("loss") - pl.col("loss_16bit"))
    return found.sort("method", "bits", "n_params", "schedule", "step")


def last_crossing(tokens: np.ndarray, gap: np.ndarray, se: np.ndarray, rng: np.random.Generator) -> dict[str, float]:
    """Where a curve of differences last rises through 0: tokens with a 90% interval over its standard errors.

    `share` says how many draws rise through 0 at all; in between, the curve is straight against log tokens. Draws
    take the points' errors as independent.
    """
    drawn = gap + se * rng.standard_normal((DRAWS, gap.size))
    x, found = np.log(tokens), np.full(DRAWS, np.nan)
    for n, curve in enumerate(drawn):
        rises = np.flatnonzero((curve[:-1] < 0) & (curve[1:] >= 0))
        if rises.size and curve[-1] > 0:
            i = rises[-1]
            found[n] = x[i] + (x[i + 1] - x[i]) * -curve[i] / (curve[i + 1] - curve[i])
    share = float(np.isfinite(found).mean())
    ends = np.exp(np.nanquantile(found, [0.5, 0.05, 0.95])) if share > 0.05 else [math.nan] * 3
    return dict(zip(("tokens_at", "lower", "upper", "share"), (*map(float, ends), share), strict=True))


def crossings() -> pl.DataFrame:
    """Where training in low bits loses its lead over 16 bits, and where it overtakes rounding after training."""
    rng = np.random.default_rng(0)
    stable = native().filter(pl.col("schedule") == "stable", pl.col("method") != "none").sort("tokens")
    after = nano().filter(pl.col("schedule") == "stable", pl.col("method").is_in(["gptq", "rtn"]), group_size=64)
    rows = []
    for key, run in stable.group_by("method", "bits", "size", "n_params", "seed", "rate", maintain_order=True):
        names = dict(zip(("method", "bits", "size", "n_params", "seed", "rate"), key, strict=True))
        ends = {
            "from": run["tokens"].min(),
            "to": run["tokens"].max(),
            "last": run["qid"][-1],
            "last_se": run["qid_se"][-1],
        }
        curve = last_crossing(*(run[c].to_numpy() for c in ("tokens", "qid", "qid_se")), rng)
        rows.append({**names, "against": "twin", **ends, **curve})
        if key[0] != "native-rtn" or names["rate"] != LOW:
            continue
        for method in ("gptq", "rtn"):
            theirs = after.filter(pl.col("bits") == names["bits"], method=method).select(
                *WHERE, theirs="qid", theirs_se="qid_se"
            )
            both = run.join(theirs, on=WHERE).sort("tokens")
            gap = (both["theirs"] - both["qid"]).to_numpy()
            se = np.hypot(both["theirs_se"].to_numpy(), both["qid_se"].to_numpy())
            curve = last_crossing(both["tokens"].to_numpy(), gap, se, rng)
            rows.append({**names, "against": method, **ends, **curve})
    return pl.DataFrame(rows).sort("against", "method", "bits", "n_params", "rate", "seed")


def slopes() -> pl.DataFrame:
    """Slopes of log difference over log D along the last octave of each run, trained in low bits or rounded after.

    Rounding is taken at the same sizes and tokens. A run is one number; the interval is Student's t over runs.
    """
    ours = native().filter(pl.col("schedule") == "stable", pl.col("method") != "none")
    after = nano().filter(pl.col("schedule") == "stable", pl.col("method").is_in(["gptq", "rtn"]), group_size=64)
    after = after.filter(pl.col("bits") <= 4).join(ours.select(*WHERE).unique(), on=WHERE, how="semi")
    both = pl.concat([ours, after.with_columns(rate=pl.lit(LOW))])
    run = ["method", "bits", "rate", "size", "seed"]
    both = both.with_columns(octaves=(pl.col("step").max().over(run).log(2) - pl.col("step").log(2)).round(1))
    ends = both.filter(pl.col("octaves").is_in([0.0, 1.0])).sort("tokens").group_by(run, maintain_order=True).agg(
        slope=pl.col("qid").log().diff().last() / pl.col("tokens").log().diff().last(),
        least=pl.col("qid").min(), last=pl.col("qid").last(), points=pl.len(),
    )  # fmt: skip
    clear = ends.filter(pl.col("points") == 2, pl.col("least") > 0)
    found = clear.group_by("method", "bits", "rate").agg(
        runs=pl.len(), slope=pl.col("slope").mean(), sd=pl.col("slope").std(), last=pl.col("last").mean()
    )
    half = [
        stats.t.ppf(0.95, n - 1) * sd / math.sqrt(n) if n > 1 else math.nan
        for n, sd in found.select("runs", "sd").rows()
    ]
    half = pl.Series("half", half)
    return found.with_columns(lower=pl.col("slope") - half, upper=pl.col("slope") + half).sort("rate", "bits", "method")


def from_crossing_on(table: pl.DataFrame) -> pl.DataFrame:
    """The rows of each run after the last one whose standard error is over a sixth of the difference, or that is <= 0.

    What is left is above 0 by six standard errors and more, and scatters about a power law far more than that; so the
    errors are left out of the fit.
    """
    run = ["model", "method", "bits"]
    poor = pl.when(pl.col("qid") <= 6 * pl.col("qid_se").fill_null(0)).then("tokens").max().over(run).fill_null(0)
    return table.filter(pl.col("tokens") > poor).drop("qid_se")


def laws() -> pl.DataFrame:
    """`k * D**beta / N**alpha` of each format from the crossing on, of rounding at the same steps, and of bitnet."""
    ours = native().filter(pl.col("schedule") == "stable", pl.col("method") != "none")
    after = nano().filter(pl.col("schedule") == "stable", pl.col("method").is_in(["gptq", "rtn"]), group_size=64)
    after = after.join(ours.select(*WHERE).unique(), on=WHERE, how="semi").with_columns(rate=pl.lit(LOW))
    bitnet = qb.load_table("bitnet").with_columns(rate=pl.lit(None, pl.Float64))
    bitnet = bitnet.filter(pl.int_range(pl.len()).over("model") % 12 == 0)  # smoothed neighbours are copies
    law = qb.Law(
        "k * D**beta / N**alpha",
        priors={
            "k": qb.Prior("LogNormal", mu=-2, sigma=2),
            "beta": qb.Prior("Normal", mu=0.3, sigma=0.5),
            "alpha": qb.Prior("Normal", mu=0.2, sigma=0.5),
        },
        name="native",
        reference={"N": 2e6, "D": 1e8},
    )
    rows = []
    for (method, bits, rate), some in pl.concat([ours, after, bitnet], how="diagonal").group_by(
        "method", "bits", "rate", maintain_order=True
    ):
        if bits not in (1.58, 2.0, 4.0):
            continue
        kept = from_crossing_on(some).drop(*WHERE[:3], "rate", "step")
        fit = qb.fit(kept, law=law, random_seed=0)
        names = {
            "method": method,
            "bits": bits,
            "rate": rate,
            "rows": kept.height,
            "left_out": some.height - kept.height,
        }
        constants = {row["name"]: row for row in fit.summary(ci_prob=0.9).rows(named=True)}
        for name in ("beta", "alpha"):
            found = constants[name]
            names |= {name: found["median"], f"{name}_lower": found["lower"], f"{name}_upper": found["upper"]}
        far = fit.predict(n_params=7e9, tokens=100e12, kind="response_params", ci_prob=0.9).row(0, named=True)
        rows.append(names | {"at_7B_100T": far["median"], "far_lower": far["lower"], "far_upper": far["upper"],
                             "problems": len(fit.diagnostics.problems())})  # fmt: skip
    return pl.DataFrame(rows).sort("bits", "method", "rate")


def main() -> None:
    for question in (twins, rates, crossings, slopes, laws):
        found = question()
        found.with_columns(pl.selectors.float().round_sig_figs(5)).write_csv(HERE / f"native-{question.__name__}.csv")


if __name__ == "__main__":
    main()
