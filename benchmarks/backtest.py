"""How bands of the unified law hold where it was not fitted, beside the baselines': `make backtest`."""

import os
from pathlib import Path

import polars as pl

import qidbayes as qb
from qidbayes.score.parallel import each

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
JOBS = int(os.environ.get("JOBS", os.cpu_count() or 1))


def scores(table: pl.DataFrame, splits: list[str], jobs: int) -> tuple[qb.Backtest, pl.DataFrame]:
    """Return the default's backtest, and the scores of it, of its law without a discrepancy and of the baselines."""
    default = qb.backtest(table, "unified", splits, baselines=BASELINES, jobs=jobs)
    effects = qb.backtest(table, qb.load_law("unified").with_noise(discrepancy="none"), splits, jobs=jobs)
    effects_alone = effects.by("split", "how").with_columns(pl.lit("effects alone").alias("how"))
    return default, pl.concat([default.by("split", "how"), effects_alone])


def across(case: tuple[str, int]) -> pl.DataFrame:
    """Return the scores on another method or suite, of which so many rows are fitted."""
    rule, seen = case
    name, rows, _ = ACROSS[rule]
    table = qb.join_tables(qb.load_table("pythia"), qb.load_table(name).filter(rows))
    return scores(table, [f"{rule} seeing {seen}" if seen else rule], jobs=1)[1]


def main() -> None:
    """Run every split, print and write the table, draw the figure."""
    found, table = scores(qb.load_table("pythia"), SPLITS, JOBS)
    others = each(across, [(rule, seen) for rule, (_, _, counts) in ACROSS.items() for seen in counts], JOBS)
    table = pl.concat([table, *others]).with_columns(pl.selectors.float().round(3))
    folds = found.by("split", "fold", "how").with_columns(pl.selectors.float().round(3))
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=200, fmt_str_lengths=40):
        print(table, folds)
    table.write_csv(RESULTS)
    folds.write_csv(RESULTS.with_stem("backtest-folds"))
    qb.plot.save(qb.plot.backtest(found, splits=[*BEYOND[:3], "leave n_params", "rolling tokens"]), FIGURE)


if __name__ == "__main__":
    main()
