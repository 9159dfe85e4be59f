"""Seconds and memory against rows: docs/images/growth.png from growth.csv."""

from pathlib import Path

import matplotlib.pyplot as plt
import polars as pl

from qidbayes.plots import style

HERE = Path(__file__).parent
PHASES = {"read": "reading, validation", "fit": "fit", "save": "saving", "predict": "a question of one suite"}


def main() -> None:
    table = pl.read_csv(HERE / "growth.csv").filter(pl.col("table") == "suites").sort("rows")
    with style.context():
        figure, (left, right) = plt.subplots(1, 2, figsize=(style.WIDTH, 2.8), layout="constrained")
        for (name, label), marker in zip(PHASES.items(), "os^D", strict=True):
            left.plot(table["rows"], table[f"{name}_cpu_s"], marker=marker, label=label)
        left.set(xscale="log", yscale="log", xlabel="Rows", ylabel="CPU seconds")
        left.legend()
        right.plot(table["rows"], table["peak_gib"], marker="o")
        right.set(xscale="log", xlabel="Rows", ylabel="Peak memory (GiB)", ylim=(0, None))
        figure.savefig(HERE.parent / "docs" / "images" / "growth.png", dpi=150)


if __name__ == "__main__":
    main()
