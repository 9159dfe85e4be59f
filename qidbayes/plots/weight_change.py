"""How far training moves weights between checkpoints, beside how far rounding does (the paper's Figure 12)."""

from typing import Any

import polars as pl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from qidbayes.errors import InputError
from qidbayes.plots import style
from qidbayes.table.drift import ALL

_MOST = 9  # runs
_HALF = 0.085  # of a box's width, decades


def weight_change(drift: pl.DataFrame) -> Figure:
    """Draw boxes of the weights' changes between checkpoints, and lines of the medians of quantizers' rounding.

    Parameters
    ----------
    drift
        From `qidbayes.table.drift.read_drift`.

    Returns
    -------
    matplotlib.figure.Figure
        A panel for each run: tokens (count), and absolute changes relative to each matrix's scale, both logarithmic.

    Raises
    ------
    InputError
        If no row has a change, or there are more than nine runs.

    Examples
    --------
    >>> from qidbayes.table.drift import read_drift
    >>> weight_change(read_drift("nano-drift")).savefig("weight-change.svg")  # doctest: +SKIP
    """
    whole = drift.filter(pl.col("matrix") == ALL, pl.col("status") == "ok").sort("tokens")
    changes = whole.filter(pl.col("method") == "none", pl.col("weight_change").is_not_null())
    models = changes.select("n_params", "model").unique().sort("n_params", "model")["model"].to_list()
    if not models:
        raise InputError("no checkpoint has another one of its run before it, so no change can be drawn")
    if len(models) > _MOST:
        raise InputError(f"{len(models)} runs; at most {_MOST} can be drawn: filter the table by model")
    rounded = whole.filter(pl.col("method") != "none", pl.col("rounding_error").is_not_null())
    methods = rounded["method"].unique().sort().to_list()
    looks, lines = style.by_bits(rounded["bits"].unique()), dict(zip(methods, style.LINES * 9, strict=False))

    def of(method: str, bits: float) -> dict[str, Any]:
        """Return how a line of rounding looks: methods differ in their marks too, which hide the gaps of dashes."""
        look = looks[bits]
        face = look.color if method == methods[0] else "white"
        return {"color": look.color, "linestyle": lines[method], "linewidth": 1.0, "marker": look.marker,
                "markersize": 2.8, "markeredgewidth": 0.6, "markerfacecolor": face}  # fmt: skip

    notes = [
        "Boxes: quartiles over all weights of how far each moved since the checkpoint before, whiskers 5% and 95%.",
        "Lines: the median distance that rounding moves them. Relative to the root mean square of each matrix.",
    ]
    with style.context():
        figure = style.figure(
            "How far training and rounding move weights", notes, 2.0 * style.panel_rows(len(models)) + 0.9
        )
        for number, (axes, model) in enumerate(zip(style.panels(figure, len(models)), models, strict=True)):
            axes.set_xscale("log")
            axes.set_yscale("log")
            _boxes(axes, changes.filter(pl.col("model") == model))
            of_run = rounded.filter(pl.col("model") == model)
            for (method, bits, _), some in of_run.group_by("method", "bits", "group_size", maintain_order=True):
                axes.plot(some["tokens"], some["rounding_error_p50"], **of(str(method), float(str(bits))))
            axes.set_title(model)
            axes.set_xlabel(style.TOKENS)
            if number % style.ACROSS == 0:
                axes.set_ylabel("Relative change of a weight")
            style.counts_axis(axes.xaxis)
            axes.yaxis.set_major_locator(LogLocator(numticks=9))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
            style.grid(axes)
        handles: list[Artist] = [
            Patch(facecolor="#D9D9D9", edgecolor=style.INK, label="training, since the checkpoint before")
        ]
        handles += [
            Line2D([], [], **of(method, bits), label=f"{method}, {bits:g} bits")
            for method in methods
            for bits in sorted(rounded.filter(pl.col("method") == method)["bits"].unique())
        ]
        style.legend_below(figure, handles, 3)
    return figure


def _boxes(axes: Axes, rows: pl.DataFrame) -> None:
    at = rows["tokens"].cast(pl.Float64).to_numpy()
    low, high = at / 10**_HALF * 1.05, at * 10**_HALF / 1.05
    five, first, middle, third, most = (rows[f"weight_change_p{p}"].to_numpy() for p in ("05", "25", "50", "75", "95"))
    axes.vlines(at, five, most, color=style.GUIDE, linewidth=0.7)
    axes.bar(
        low, third - first, high - low, first, align="edge", facecolor="#D9D9D9", edgecolor=style.INK, linewidth=0.6
    )
    axes.hlines(middle, low, high, color=style.INK, linewidth=1.1)
