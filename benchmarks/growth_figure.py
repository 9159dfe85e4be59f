"""CPU seconds and memory of a fit against rows: docs/images/growth.png from growth.csv."""

from pathlib import Path

import matplotlib.pyplot as plt
import polars as pl
from matplotlib.ticker import NullFormatter

from qidbayes.plots import style

HERE = Path(__file__).parent


def main() -> None:
    """Draw it."""
    table = pl.read_csv(HERE / "growth.csv")
    shapes = table["shape"].unique(maintain_order=True).to_list()
    looks = style.by_name(shapes)
    with style.context():
        figure, (left, right) = plt.subplots(1, 2, figsize=(8.0, 3.8), layout="constrained")
        for shape in shapes:
            some = table.filter(shape=shape).sort("rows")
            look = looks[shape]
            left.plot(some["rows"], some["expected_cpu_s"], color=look.color, linestyle=look.line)
            done = some.filter(pl.col("fit_cpu_s").is_not_null())
            left.plot(done["rows"], done["fit_cpu_s"], linestyle="none", marker=look.marker, color=look.color)
            left.plot([], [], color=look.color, linestyle=look.line, marker=look.marker, label=shape)
            right.plot(some["rows"], some["peak_mb"], color=look.color, linestyle=look.line, marker=look.marker)
        for axes, what in ((left, "CPU seconds of a fit"), (right, "peak memory (MB)")):
            axes.set(xscale="log", yscale="log", xlabel="rows", ylabel=what)
        right.set_yticks([100, 200, 500, 1000, 2000], ["100", "200", "500", "1,000", "2,000"])
        right.yaxis.set_minor_formatter(NullFormatter())
        left.legend(title="markers: fits; lines: 4,000 densities of one", fontsize=7, title_fontsize=7)
        figure.savefig(HERE.parent / "docs" / "images" / "growth.png", dpi=150)


if __name__ == "__main__":
    main()
