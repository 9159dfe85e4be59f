"""Does each shipped law return constants that data were simulated from? `make recovery`, or `recovery.py LAW…`.

For each law: constants near the middle of its priors, a table of its response on a grid of its columns, with effects of
runs and checkpoints where the law has them. `fit` and `least_squares` are given the table, as the law is shipped. A row
of recovery.csv is a constant, and each group of it: the truth, the posterior's median, 90% interval and place of the
truth in standard normal deviates (z), and least squares with its standard error over tables that are simulated anew.

`joint` is `unified` and `kaplan-16bit` apart, which are here. `atlas` has the equation of `unified`: what is its own is
its noise, which tests/noise/test_families.py holds against dense normals, and a fit of it takes 700 CPU seconds.
"""

import resource
import sys
import warnings
from pathlib import Path

import numpy as np
import polars as pl
from scipy.special import ndtri

import qidbayes as qb
from qidbayes.infer.inputs import Inputs, inputs
from qidbayes.law import Law, law_names, load_law
from qidbayes.posterior.constants import Curve, dimensions, raw_constants
from qidbayes.score.sbc import measured
from qidbayes.table.groups import dimension

FOUND = Path(__file__).with_suffix(".csv")
ELSEWHERE = ("atlas", "joint")
SEED, AGAIN = 0, 20
AROUND = 0.3
"""How far from the middle of the priors the truth is, in standard deviations of theirs."""
SD = {
    "qid": {"row": 0.03, "checkpoint": 0.03, "model": 0.05},
    "loss": {"row": 0.003, "checkpoint": 0.003, "model": 0.003},
}
SIZES, TOKENS = [4e7 * 4**i for i in range(5)], [1e10 * 4**i for i in range(4)]
GRIDS: dict[str, dict[str, list[float]]] = {
    "bits": {"bits": [2, 3, 4, 8]},
    "ceiling": {"bits": [2, 3, 4], "tokens": [1e9 * 10**i for i in range(6)]},  # some QiDs near 9 nats
    "capacity": {"bits": [4], "gaussian_mse": [0.0, 0.0012, 0.0115, 0.0374, 0.1188, 0.3634]},
    "decayed": {"decayed": [0.0, 0.5, 1.0]},
    "float-training": {"bits": [8], "exponent_bits": [0, 1, 4], "mantissa_bits": [1, 2, 3], "group_size": [32, 256]},
    "precision-training": {"n_params": SIZES[::2], "tokens": TOKENS[1:], "bits": [3, 6, 16],
                           "bits_activation": [3, 6, 16], "bits_kv": [2, 4, 16]},
    "qat": {"bits": [4], "group_size": [32, 64, 128, 256]},
    "qat-split": {"bits": [1, 2, 3, 4, 6], "tokens": [1e11], "qat_tokens": [1e8 * 10**i for i in range(4)],
                  "fp_tokens": [1e9, 1e10, 1e11]},
    "shannon": {"bits": [4], "n_params": [1e7 * 4**i for i in range(6)], "tokens": [1e9 * 4**i for i in range(7)]},
    "task-stratified": {"bits": [3, 4, 8], "tokens": [1e11], "calibration_samples": [8, 32, 128, 1024],
                        "group_size": [32, 64, 128, 256]},
}  # fmt: skip


def grid(law: Law, of: dict[str, list[float]] | None = None) -> pl.DataFrame:
    """Return the rows of a law's design: every combination of the values of its columns, `GRIDS`' if none are given."""
    axes = {"n_params": SIZES, "tokens": TOKENS, "bits": [2.0, 3, 4], **(of or GRIDS.get(law.name, {}))}
    axes |= {"bits": [16.0]} if law.response == "loss_16bit" else {}
    values = (mesh.ravel() for mesh in np.meshgrid(*axes.values(), indexing="ij"))
    table = pl.DataFrame(dict(zip(axes, values, strict=True)))
    some = pl.int_range(pl.len()) / pl.len()  # in the place of a response, which is simulated from these rows
    before = law.response == "loss_16bit"
    losses = {"loss_16bit": 3 + some} if before else {"loss_16bit": pl.lit(3.0), "qid": 1 + some}
    told = {"settings": pl.format("inputs in {}", "bits_activation")} if "bits_activation" in table.columns else {}
    return table.with_columns(
        pl.lit("made").alias("suite"), pl.lit("none" if before else "gptq").alias("method"),
        pl.format("m{}", "n_params").alias("model"), pl.format("at{}", "tokens").alias("revision"), **losses, **told,
    )  # fmt: skip


def truth(rows: Inputs, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return constants in raw counts, shape ``(1,)`` or ``(1, groups)``, from near the middle of the priors."""
    law, sampled = rows.law, {}
    for name, prior in law.priors.items():
        shape = (1, len(rows.coords[dimension(prior.by)])) if prior.by else (1,)
        value = prior.from_normal(AROUND * rng.standard_normal(shape))
        if prior.spread is not None:
            middle = prior.unconstrain(prior.from_normal(np.zeros(1)))
            value = prior.constrain(middle + prior.spread * rng.standard_normal(shape))
        sampled[law.sampled_name(name)] = value
    return sampled | raw_constants(law, sampled)


def simulated(rows: Inputs, constants: dict[str, np.ndarray], rng: np.random.Generator) -> pl.DataFrame:
    """Return a table of a law's response, with effects that no likelihood is told of."""
    law = rows.law
    logs = {symbol: values + law.log_reference.get(symbol, 0.0) for symbol, values in rows.log_covariates.items()}
    log_response = Curve(law, constants, rows.coords).log_response(logs, rows.index)[0]
    sd = SD["qid" if law.response == "qid" else "loss"]
    for group in law.noise.groups:
        log_response = log_response + sd[group] * rng.standard_normal(len(rows.coords[group]))[rows.index[group]]
    log_response = log_response + sd["row"] * rng.standard_normal(len(log_response))
    return measured(rows.frame, law.response, np.exp(log_response))


def recovered(name: str) -> pl.DataFrame:
    """Return a row for each constant of a law."""
    law = load_law(name)
    rows = inputs(grid(law), law)
    rng = np.random.default_rng(SEED)
    true = truth(rows, rng)
    table = simulated(rows, true, rng)
    started = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    fit = qb.fit(table, law, random_seed=SEED)
    seconds = sum(resource.getrusage(resource.RUSAGE_SELF)[:2]) - started
    points = [squares(table, law)] + [squares(simulated(rows, true, rng), law) for _ in range(AGAIN)]
    dims, found = dimensions(law), []
    for constant in law.constants:
        labels = rows.coords[dims[constant]] if constant in dims else ("",)
        draws = np.asarray(fit.draws[constant]).reshape(-1, len(labels))
        for i, (label, value) in enumerate(zip(labels, true[constant].ravel(), strict=True)):
            low, middle, high = np.quantile(draws[:, i], [0.05, 0.5, 0.95])
            place = ((draws[:, i] < value).sum() + 0.5) / (len(draws) + 1)
            least, spread = of_points(points, constant, label, value)
            found.append({
                "law": name, "constant": constant, "group": label, "truth": value, "median": middle, "lower": low,
                "upper": high, "held": bool(low <= value <= high), "z": ndtri(place),
                "least_squares": least[0], "least_squares_se": spread, "least_squares_z": least[1],
                "rows": rows.frame.height, "cpu_seconds": seconds, "failed": "; ".join(fit.diagnostics.problems()),
            })  # fmt: skip
    empty = dict.fromkeys(("least_squares", "least_squares_se", "least_squares_z"), pl.Float64)  # of a law without any
    return pl.DataFrame(found, schema_overrides=empty)


def squares(table: pl.DataFrame, law: Law) -> qb.PointEstimate | None:
    """Return least squares in logarithms, and None where the search finds none: a constant is at no finite value."""
    try:
        return qb.least_squares(table, law, space="log")
    except qb.InputError:
        return None


def of_points(
    points: list[qb.PointEstimate | None], constant: str, label: str, value: float
) -> tuple[tuple[float | None, float | None], float | None]:
    """Return the first estimate and its z, and the standard error; relative to the truth where it is positive."""
    values = [p.constants[constant] if p else np.nan for p in points]
    values = [v[label] if label and not isinstance(v, float) else v for v in values]
    apart = np.array([np.log(v / value) if value > 0 and v > 0 else v - value for v in values], dtype=float)
    again = apart[1:][np.isfinite(apart[1:])]
    if not np.isfinite(apart[0]) or len(again) < AGAIN / 2:
        return (None, None), None
    spread = float(again.std(ddof=1))
    return (float(values[0]), float(apart[0] / spread)), spread


def main() -> None:
    """Recover the laws that are named, or all, and keep the rows of the others."""
    warnings.simplefilter("ignore")
    every = [name for name in law_names() if name not in ELSEWHERE]
    kept = pl.read_csv(FOUND) if FOUND.exists() else None
    for name in sys.argv[1:] or every:
        found = recovered(name).with_columns(pl.selectors.float().round_sig_figs(4))
        print(found.select(pl.exclude("law")), flush=True)
        found = found.cast(kept.schema) if kept is not None else found
        kept = found if kept is None else pl.concat([kept.filter(pl.col("law") != name), found])
        order = {name: i for i, name in enumerate(every)}
        kept = kept.sort(pl.col("law").replace_strict(order), maintain_order=True)
        kept.write_csv(FOUND)


if __name__ == "__main__":
    main()
