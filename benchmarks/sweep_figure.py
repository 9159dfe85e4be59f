"""The sweep's seconds against the floor of its operations and bytes: docs/images/sweep.png from sweep.csv."""

from pathlib import Path

import matplotlib.pyplot as plt
import polars as pl

HERE = Path(__file__).parent
KINDS = {
    "sweep": ("Pythia's shapes", "o"),
    "sweep-cut": ("some of their layers", "^"),
    "growth-layers": ("3 and 6 layers", "s"),
    "growth-width": ("width 512 and 2,048", "D"),
    "growth-tokens": ("half the tokens", "v"),
    "growth-variants": ("1 and 6 settings", "P"),
    "plain": ("plain path, Pythia's shapes", "x"),
}


def main() -> None:
    table = pl.read_csv(HERE / "sweep.csv").filter(pl.col("path") != "rates")
    figure, axes = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
    for path, (label, marker) in KINDS.items():
        some = table.filter(path=path).sort("floor_seconds")
        line = "-" if path in ("sweep", "plain") else "none"
        axes.plot(some["floor_seconds"], some["seconds"], linestyle=line, marker=marker, label=label)
    ends = [0.4, 20]
    for share in (1.0, 0.4):
        axes.plot(ends, [end / share for end in ends], ":", color="grey", linewidth=1)
        axes.annotate(f"floor / measured = {share:g}", (ends[0], ends[0] / share), color="grey", va="top")
    for shape in ("160M", "410M", "1.4B"):
        (row,) = table.filter(path="sweep", shape=shape).to_dicts()
        axes.annotate(shape, (row["floor_seconds"], row["seconds"]), textcoords="offset points", xytext=(6, -12))
    axes.set(xscale="log", yscale="log", xlabel="floor: operations and bytes at the measured rates (s)")
    axes.set_ylabel("measured (s)")
    axes.set_title("GPTQ at 2, 3, 4 bits and 16 bits of one checkpoint, one H100", fontsize=10)
    axes.legend(fontsize=8, loc="upper left")
    figure.savefig(HERE.parent / "docs" / "images" / "sweep.png", dpi=150)


if __name__ == "__main__":
    main()
