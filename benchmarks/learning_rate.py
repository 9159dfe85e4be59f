"""Does QiD follow training tokens or the falling learning rate, as far as Pythia tells: `make learning-rate`.

Pythia's rate falls along one cosine for each size, so the two are told apart by the shape of that cosine only.
"""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

import qidbayes as qb
from qidbayes.score.parallel import each

RESULTS = Path(__file__).parent / "learning_rate.csv"
SPLITS = ["tokens > 50B", "tokens > 100B", "rolling tokens", "leave n_params"]
RATE = qb.Prior("Normal", mu=0.0, sigma=1.0)
JOBS = int(os.environ.get("JOBS", os.cpu_count() or 1))


def laws() -> dict[str, qb.Law]:
    """Return the unified law with tokens, with tokens and the rate, and with the rate in the tokens' place."""
    unified = qb.load_law("unified")
    priors = dict(unified.priors)
    reference = {**unified.reference, "learning_rate": 1e-4}
    without = {name: prior for name, prior in priors.items() if name != "beta"}
    fall = {"lam": RATE}
    found = {
        "tokens": unified,
        "tokens and rate": replace(
            unified,
            equation="k * D**beta / (learning_rate**lam * N**alpha * P**gamma)",
            priors=priors | fall, reference=reference, published={},
        ),
        "rate": replace(
            unified,
            equation="k / (learning_rate**lam * N**alpha * P**gamma)",
            priors=without | fall, reference={"N": 1e9, "P": 4, "learning_rate": 1e-4}, published={},
        ),
    }  # fmt: skip
    return {
        f"{name}{ending}": law.with_noise(discrepancy=discrepancy)
        for name, law in found.items()
        for ending, discrepancy in (("", "smooth"), (", no discrepancy", "none"))
    }


def after_warm_up() -> pl.DataFrame:
    """Return Pythia's checkpoints after the 1,430 steps over which the rate rises."""
    return qb.load_table("pythia").filter(pl.col("tokens") > 1430 * 2_097_152)


def exponents(name: str) -> list[dict[str, object]]:
    """Fit one of the laws to all rows, and return what is known of beta and lambda."""
    fit = qb.fit(after_warm_up(), laws()[name], random_seed=0)
    numbers = [number for number in ("beta", "lam") if number in fit.draws]
    both = len(numbers) == 2
    tied = np.corrcoef(*(fit.draws[number].ravel() for number in numbers))[0, 1] if both else None
    return [
        {
            "law": name, "split": "all rows", "number": number,
            **fit.interval(number, ci_prob=0.9).select("median", "lower", "upper").row(0, named=True),
            "correlation": tied, "note": "; ".join(fit.diagnostics.problems()),
        }
        for number in numbers
    ]  # fmt: skip


def main() -> None:
    """Fit, score, print and write the table."""
    fitted = [row for rows in each(exponents, list(laws()), JOBS) for row in rows]
    table = after_warm_up()
    scored = []
    for name, law in laws().items():
        found = qb.backtest(table, law, SPLITS, jobs=JOBS).by("split", "how").drop("how")
        scored.append(found.with_columns(law=pl.lit(name)))
    kept = ["law", "split", "points", "coverage_90", "log_density", "crps", "bias"]
    result = pl.concat([pl.DataFrame(fitted), pl.concat(scored).select(kept)], how="diagonal_relaxed")
    result = result.with_columns(pl.selectors.float().round(3))
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=200):
        print(result)
    result.write_csv(RESULTS)


if __name__ == "__main__":
    main()
