"""Models trained in low bits against their twins of 16 bits, by training tokens (the paper's Figure 14)."""

from statistics import NormalDist

import polars as pl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from qidbayes.errors import InputError
from qidbayes.plots import caption, style
from qidbayes.table import load_table

_NAMES = {
    "bitnet-b1.58": "BitNet",
    "native-b1.58": "ternary",
    "native-b1.58-a8": "ternary, inputs in 8",
    "native-rtn": "to nearest",
}
_PANEL = ["suite", "method", "bits"]
_MARKS = 12  # on a run, or they would hide its line


def native_low_bit(table: pl.DataFrame | None = None, *, ci_prob: float = 0.9) -> Figure:
    """Draw the loss of models trained in low bits minus that of their twins, a panel for each suite and format.

    The axis is linear: a difference below 0 is a lead of the low bits. Runs of one size differ in line style by
    their highest learning rate; of two seeds both are drawn. Ends of decay branches (runs called `…-decayed-…`) are
    hollow points.

    Parameters
    ----------
    table
        Rows whose `loss_16bit` is a twin's. The shipped tables `bitnet` and `nano-native` by default.
    ci_prob
        Of the bars: the points' `qid_se` alone, which is paired over evaluation windows. A second training run
        scatters more.

    Returns
    -------
    matplotlib.figure.Figure
        Tokens (count, logarithmic) and differences (nats per token, linear).

    Raises
    ------
    InputError
        If no row has a QiD and training tokens.

    Examples
    --------
    >>> len(native_low_bit().axes)
    5
    """
    rows = (load_table("bitnet", "nano-native") if table is None else table).filter(
        pl.col("qid").is_not_null(), pl.col("tokens").is_not_null(), pl.col("method") != "none"
    )
    if rows.is_empty():
        raise InputError("native_low_bit: no row has a qid and tokens")
    decayed = pl.col("model").str.contains("-decayed-")
    peak = pl.col("learning_rate").max().over("model")
    rows = rows.with_columns(decayed=decayed, peak=pl.when(~decayed).then(peak)).sort("tokens")
    rates = rows["peak"].drop_nulls().unique().sort().to_list()
    looks = style.by_size(rows["n_params"])
    panels = rows.select(_PANEL).unique(maintain_order=True).sort("suite", "bits", "method").rows()
    half = NormalDist().inv_cdf((1 + ci_prob) / 2)
    errors = rows["qid_se"].drop_nulls()
    small_print = [
        f"{rows.height} points of {', '.join(rows['suite'].unique().sort())}, each against its twin of 16 bits. Below "
        "0 the model of few bits is ahead. Measured; nothing is fitted.",
    ]
    if errors.len():
        small_print.append(
            f"Bars: ±{half:.2g} standard errors over evaluation windows, at most {half * errors.to_numpy().max():.2g} "
            "nats (mostly thinner than the marks). Hollow: ends of decay branches."
        )
    with style.context():
        figure = style.figure(
            "Trained in low bits: loss above the 16-bit twin",
            small_print,
            height=0.7 + 1.75 * style.panel_rows(len(panels)),
        )
        grid = figure.subplots(
            style.panel_rows(len(panels)), min(len(panels), style.ACROSS), sharey=True, squeeze=False
        )
        for unused in grid.flat[len(panels) :]:
            unused.remove()
        for axes, panel in zip(grid.flat, panels, strict=False):
            here = [pl.col(column) == value for column, value in zip(_PANEL, panel, strict=True)]
            _draw(axes, rows.filter(here), looks, rates, half)
            suite, method, bits = panel
            axes.set_title(f"{suite}: {_NAMES.get(method, method)}, {bits:g} bits", fontsize=7)
            axes.tick_params(labelleft=axes in grid[:, 0])
            axes.set_xlabel(style.TOKENS)
        for axes in grid[:, 0]:
            axes.set_ylabel("Difference (nats/token)")
        style.legend_below(figure, _handles(looks, rates), 4)
    return figure


def _draw(axes: Axes, rows: pl.DataFrame, looks: dict[float, style.Look], rates: list[float], half: float) -> None:
    axes.axhline(0.0, color=style.INK, linewidth=0.8)
    for (_, n_params), run in rows.group_by("model", "n_params", maintain_order=True):
        look = looks[n_params]
        x, y = run["tokens"].to_numpy(), run["qid"].to_numpy()
        bars = half * run["qid_se"].fill_null(0).to_numpy()
        if run["decayed"][0]:
            axes.plot(x, y, look.marker, color=look.color, markerfacecolor="white", markersize=2.6, linestyle="none")
            continue
        peak = run["peak"][0]
        line = style.LINES[rates.index(peak)] if peak is not None else "-"
        every = max(1, run.height // _MARKS)
        axes.plot(x, y, line, color=look.color, marker=look.marker, markersize=2.2, markevery=every, linewidth=0.9)
        axes.vlines(x, y - bars, y + bars, color=look.color, linewidth=0.7)
    axes.set_xscale("log")
    style.counts_axis(axes.xaxis)
    style.grid(axes)


def _handles(looks: dict[float, style.Look], rates: list[float]) -> list[Artist]:
    sizes: list[Artist] = [
        Line2D([], [], color=look.color, marker=look.marker, label=f"$N$ = {caption.size(size)}")
        for size, look in looks.items()
    ]
    lines: list[Artist] = [
        Line2D([], [], color=style.INK, linestyle=style.LINES[i], label=f"rate {rate:g}")
        for i, rate in enumerate(rates)
    ]
    return sizes + lines
