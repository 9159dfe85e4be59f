"""What evaluation that ends early does to a law: `python benchmarks/until_fit.py MEASUREMENTS`, of until.py.

Fits a law to the rows of each run, and adds to until.csv: seconds of all sweeps, the share of the windows that were
evaluated, and the greatest distance of a parameter's or constant's posterior mean from that of the whole's, in its
standard deviations. `whole again` is the whole table fitted from another seed: what Monte Carlo error alone moves.
"""

import argparse
from pathlib import Path

import polars as pl

import qidbayes as qb

HERE = Path(__file__).parent


def fitted(measurements: Path, law: str, tokens: float) -> None:
    """Laws of what `measured_until` has written, maybe on another machine."""
    table, whole, rows = pl.read_csv(measurements).filter(pl.col("tokens") > tokens), None, []
    for (run,), part in table.group_by("run", maintain_order=True):
        of_pass = part.unique(["model", "revision"])
        row = {
            "suite": part["suite"][0],
            "device": part["device"][0],
            "run": run,
            "checkpoints": len(of_pass),
            "cells": len(part),
            "windows_share": part["n_eval_tokens"].mean() / table["n_eval_tokens"].max(),
            "largest_error": (part["qid_se"] / part["qid"]).max(),
            "seconds_quantize": of_pass["seconds_quantize"].sum(),
            "seconds_evaluate": of_pass["seconds_evaluate"].sum(),
            "law": law,
        }
        found = posterior(part, law, 0)
        whole = found if whole is None else whole
        rows.append(row | farthest(found, whole))
        print(rows[-1], flush=True)
        if run == "whole":
            rows.append(row | {"run": "whole again"} | farthest(posterior(part, law, 1), whole))
    made = pl.DataFrame(rows).with_columns(pl.col(pl.Float64).round(3))
    path = HERE / "until.csv"
    if path.exists():
        made = pl.concat([pl.read_csv(path).filter(pl.col("suite") != made["suite"][0]), made], how="vertical_relaxed")
    made.write_csv(path)


def posterior(table: pl.DataFrame, law: str, seed: int) -> pl.DataFrame:
    """Of GPTQ's rows, by the name of every parameter and constant."""
    rows = table.drop("run", "device", "seconds_quantize", "seconds_evaluate")
    return qb.fit(rows, law, random_seed=seed).summary().select("name", "mean", "sd")


def farthest(found: pl.DataFrame, whole: pl.DataFrame) -> dict[str, float | str]:
    both = whole.join(found, on="name", suffix="_found").drop_nulls()
    both = both.with_columns(
        apart=((pl.col("mean_found") - pl.col("mean")) / pl.col("sd")).abs(), ratio=pl.col("sd_found") / pl.col("sd")
    )
    most = both.sort("apart").row(-1, named=True)
    ratio = both.sort(pl.col("ratio").log().abs())["ratio"][-1]
    return {"apart_in_sd": most["apart"], "farthest": most["name"], "sd_ratio": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measurements", type=Path)
    parser.add_argument("--law", default="unified")
    parser.add_argument("--tokens", type=float, default=0, help="only checkpoints that have seen more")
    given = parser.parse_args()
    fitted(given.measurements, given.law, given.tokens)


if __name__ == "__main__":
    main()
