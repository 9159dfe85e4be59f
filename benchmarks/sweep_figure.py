"""The sweep's seconds against the floor of its operations and bytes: docs/images/sweep.png from sweep.csv."""

from pathlib import Path

import matplotlib.pyplot as plt
import polars as pl

from qidbayes.plots import style

HERE = Path(__file__).parent
KINDS = {
    "sweep": "sweep, Pythia's shapes",
    "plain": "plain path, likewise (1.4B, 6.9B: scaled)",
    "gptqmodel": "GPTQModel, likewise (1.4B twice, the lower one and 6.9B: at least)",
    "sweep-cut": "sweep: some of their layers",
    "growth-layers": "3 and 6 layers, width 1,024",
    "growth-width": "width 512, 2,048, 4,096",
    "growth-tokens": "a quarter of the tokens",
    "growth-variants": "1 and 6 settings",
}


def main() -> None:
    table = pl.read_csv(HERE / "sweep.csv").filter(pl.col("variants") != 1, pl.col("path") != "rates")
    table = pl.concat([table, pl.read_csv(HERE / "sweep.csv").filter(path="growth-variants", variants=1)])
    looks = style.by_name(KINDS)
    with style.context():
        figure, axes = plt.subplots(figsize=(6.0, 4.4), layout="constrained")
        for path, label in KINDS.items():
            some = table.filter(path=path).sort("floor_seconds")
            if path == "plain":  # a whole pass, where there is one beside one that is scaled
                some = some.sort("note", maintain_order=True).unique("shape", keep="first").sort("floor_seconds")
            line = looks[path].line if path in ("sweep", "plain") else "none"
            axes.plot(
                some["floor_seconds"], some["seconds"], linestyle=line, marker=looks[path].marker,
                color=looks[path].color, label=label,
            )  # fmt: skip
        for share in (1.0, 0.4):
            axes.plot([0.3, 100], [0.3 / share, 100 / share], ":", color="grey", linewidth=0.8)
            axes.annotate(
                f"floor / measured = {share:g}", (0.33, 0.33 / share), color="grey", ha="left", va="bottom",
                rotation=30, rotation_mode="anchor", fontsize=6.5, xytext=(0, 3), textcoords="offset points",
                path_effects=style.HALO, zorder=1,
            )  # fmt: skip
        for row in table.filter(path="sweep").to_dicts():
            axes.annotate(
                row["shape"], (row["floor_seconds"], row["seconds"]), textcoords="offset points", xytext=(5, -9),
                path_effects=style.HALO,
            )  # fmt: skip
        axes.set(xscale="log", yscale="log", xlabel="floor: operations and bytes at the measured rates (s)")
        axes.set(ylabel="measured (s)", title="One checkpoint in 16 bits and GPTQ's 2, 3, 4, on one H200")
        for axis in (axes.xaxis, axes.yaxis):
            style.nats_axis(axis)  # seconds are read as nats are, in plain decimals
        style.grid(axes)
        axes.legend(loc="upper left")
        figure.savefig(HERE.parent / "docs" / "images" / "sweep.png", dpi=150)


if __name__ == "__main__":
    main()
