"""What decay does to QiD, drawn: docs/images/nano.png and nano-decay.png, from nano's table and `nano-slopes.csv`."""

import numpy as np
import polars as pl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from nano import HERE, named, points

from qidbayes.plots import style
from qidbayes.plots.save import save
from qidbayes.units import format_count

IMAGES = HERE.parent / "docs" / "images"
BITS = 3.0  # the width that `decay` draws: less noisy than 4, and never near the ceiling as 2 is
FROM = 120e6  # tokens; where a slope begins
RUNS = {"stable": "constant rate", "decayed": "ends of\ndecay branches", "cosine": "along a cosine"}


def along_the_runs(table: pl.DataFrame) -> Figure:
    """QiD against tokens, a panel for each bit width: seed 0 of every size, on all three schedules."""
    looks = style.by_size(table["n_params"])
    notes = [
        "GPTQ, groups of 64, held-out text; points whose standard error is at most a fifth of QiD. One seed",
        "of each size. Thin verticals join a branch's end with the constant rate at the same tokens.",
    ]
    made = style.figure("QiD along the runs of nano", notes, height=3.4)
    for axes, bits in zip(style.panels(made, 3), (2.0, 3.0, 4.0), strict=True):
        some = table.filter(pl.col("bits") == bits, pl.col("seed") == "0").sort("tokens")
        for (n_params,), rows in some.group_by("n_params", maintain_order=True):
            look = looks[n_params]
            cosine, stable, ends = (rows.filter(schedule=name) for name in ("cosine", "stable", "decayed"))
            # A mark at its end alone: some sizes have no other run.
            axes.plot(
                cosine["tokens"],
                cosine["qid"],
                "--",
                color=look.color,
                linewidth=1.0,
                marker=look.marker,
                markevery=[-1],
            )
            axes.plot(stable["tokens"], stable["qid"], "-", color=look.color, marker=look.marker)
            both = ends.join(stable, on="tokens", suffix="_stable")
            axes.vlines(both["tokens"], both["qid_stable"], both["qid"], color=look.color, linewidth=0.7)
            axes.plot(
                ends["tokens"], ends["qid"], look.marker, color=look.color, markerfacecolor="white", markersize=4.2
            )
        axes.set(title=f"{bits:g} bits", xlabel=style.TOKENS)
        axes.set_xlim(2.7e7, 1.4e9)
    made.axes[0].set_ylabel(style.QID)
    for axes in made.axes:
        style.log_axes(axes)
    runs: list[Artist] = [
        Line2D([], [], color=style.INK, marker="o", label="constant rate"),
        Line2D(
            [], [], color=style.INK, marker="o", markerfacecolor="white", linestyle="none", label="decay branch, end"
        ),
        Line2D([], [], color=style.INK, linestyle="--", label="cosine"),
    ]
    made.axes[1].legend(handles=runs, loc="lower right", handlelength=2.2)
    _legend_of_sizes(made, looks)
    return made


def decay(table: pl.DataFrame, slopes: pl.DataFrame) -> Figure:
    """The effect of decay at equal tokens, and that of tokens at an equal rate."""
    table = table.filter(pl.col("bits") == BITS)
    looks = style.by_size(table["n_params"])
    made = style.figure(
        "Decay raises QiD at equal tokens; tokens raise it at an equal rate",
        [
            f"GPTQ at {BITS:g} bits, groups of 64, held-out text. Left: each line a pair of runs of one seed (second",
            "seeds dotted). Right: each point a run, from 120M tokens on; bars: mean, 90% interval (Student's t).",
        ],
        height=3.3,
    )
    left, right = made.subplots(1, 2, width_ratios=(1.2, 1))
    _ratios(left, table, looks)
    _slopes(right, table, looks, slopes.filter(pl.col("bits") == BITS, pl.col("tokens_above") == FROM))
    _legend_of_sizes(made, looks)
    return made


def _legend_of_sizes(made: Figure, looks: dict[float, style.Look]) -> None:
    sizes: list[Artist] = [
        Line2D([], [], color=look.color, marker=look.marker, linestyle="none", label=format_count(size))
        for size, look in looks.items()
    ]
    style.legend_below(made, sizes, columns=len(sizes), title=style.SIZE)


def _ratios(axes: Axes, table: pl.DataFrame, looks: dict[float, style.Look]) -> None:
    ends, stable = (table.filter(schedule=name) for name in ("decayed", "stable"))
    pairs = ends.join(stable, on=["size", "seed", "tokens"], suffix="_stable").sort("tokens")
    for (n_params, seed), rows in pairs.group_by("n_params", "seed", maintain_order=True):
        look, line = looks[n_params], "-" if seed == "0" else ":"
        axes.plot(rows["tokens"], rows["qid"] / rows["qid_stable"], line, color=look.color, marker=look.marker)
    axes.axhline(1.0, color=style.GUIDE, linewidth=0.8)
    axes.set(xscale="log", xlabel=style.TOKENS, ylabel="QiD after decay / at the constant rate")
    style.counts_axis(axes.xaxis)
    style.grid(axes)


def _slopes(axes: Axes, table: pl.DataFrame, looks: dict[float, style.Look], means: pl.DataFrame) -> None:
    for place, schedule in enumerate(RUNS):
        some = table.filter(pl.col("schedule") == schedule, pl.col("tokens") > FROM).sort("n_params", "seed")
        found = []
        for (n_params, _), rows in some.group_by("n_params", "seed", maintain_order=True):
            if rows.height >= 3:  # as in nano.slopes
                line = np.polyfit(np.log(rows["tokens"]), np.log(rows["qid"]), 1)
                found.append((n_params, float(line[0])))
        for shift, (n_params, slope) in zip(np.linspace(-0.3, 0.12, len(found)), found, strict=True):
            look = looks[n_params]
            axes.plot(place + shift, slope, look.marker, color=look.color, markersize=4.5)
        (mean,) = means.filter(schedule=schedule).to_dicts()
        span = [[mean["mean"] - mean["lower"]], [mean["upper"] - mean["mean"]]]
        axes.errorbar(place + 0.3, mean["mean"], span, fmt="_", color=style.INK, capsize=3, markersize=9)
    axes.set_xticks(range(len(RUNS)), RUNS.values())
    axes.set_ylabel("slope of log QiD over log $D$")
    axes.set_ylim(0)
    style.grid(axes)


def main() -> None:
    table = named(points(noise=0.2))
    slopes = pl.read_csv(HERE / "nano-slopes.csv")
    with style.context():
        save(along_the_runs(table), IMAGES / "nano.png")
        save(decay(table, slopes), IMAGES / "nano-decay.png")


if __name__ == "__main__":
    main()
