"""How bands of the unified law hold where it was not fitted, with and without a discrepancy: `make backtest`."""

import os
from dataclasses import replace
from pathlib import Path

import polars as pl

import qidbayes as qb

RESULTS = Path(__file__).parent / "backtest.csv"
FIGURE = Path(__file__).parents[1] / "docs" / "images" / "backtest.png"
BEYOND = ["tokens > 100B", "tokens > 50B", "n_params > 5B", "n_params > 2B and tokens > 50B", "tokens < 16B"]
SPLITS = [*BEYOND, "leave bits", "leave n_params", "rolling tokens"]
# Fitted to Pythia's GPTQ points and so many of another method's or suite's.
ACROSS = {
    "method = awq": ("pythia/awq-bnb", pl.col("method") == "awq", (0, 6, 18)),
    "method = bnb-4bit": ("pythia/awq-bnb", pl.col("method") == "bnb-4bit", (0, 6, 18)),
    "suite = spectra": ("spectra", pl.lit(value=True), (0, 3)),
    "suite = llama-qwen": ("llama-qwen", pl.lit(value=True), (0, 3)),
}
BASELINES = ("independent", "least-squares")


def main() -> None:
    """Run every split, print and write the table, draw the figure."""
    jobs, pythia = int(os.environ.get("JOBS", os.cpu_count() or 1)), qb.load_table("pythia")
    plain = qb.load_law("unified")
    smooth = replace(plain, noise=replace(plain.noise, discrepancy="smooth"))

    def scores(table: pl.DataFrame, splits: list[str]) -> tuple[qb.Backtest, pl.DataFrame]:
        found = qb.backtest(table, plain, splits, baselines=BASELINES, jobs=jobs)
        missed = qb.backtest(table, smooth, splits, jobs=jobs)
        both = [found.by("split", "how"), missed.by("split", "how").with_columns(pl.lit("smooth").alias("how"))]
        return found, pl.concat(both)

    found, table = scores(pythia, SPLITS)
    tables = [table]
    for rule, (name, rows, seen) in ACROSS.items():
        joined = qb.join_tables(pythia, qb.load_table(name).filter(rows))
        splits = [f"{rule} seeing {count}" if count else rule for count in seen]
        tables.append(scores(joined, splits)[1])
    table = pl.concat(tables).with_columns(pl.selectors.float().round(3))
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=200, fmt_str_lengths=40):
        print(table)
    table.write_csv(RESULTS)
    qb.plot.save(qb.plot.backtest(found, splits=[*BEYOND[:3], "leave n_params", "rolling tokens"]), FIGURE)


if __name__ == "__main__":
    main()
