"""Loss after quantization as 16-bit law + QiD (the paper's Figure 7)."""

import polars as pl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from qidbayes.plots import along, banded, caption, losses, style
from qidbayes.posterior.fit import Fit, Kind

_MAX_CURVES = 6


def loss_quantized(
    fit: Fit,
    table: pl.DataFrame | None = None,
    *,
    loss_16bit: Fit | None = None,
    kind: Kind = "response",
    ci_prob: float = 0.9,
) -> Figure:
    """Draw loss after quantization against training tokens, a panel for each bit width with a curve for each model.

    Dashed is the median of the 16-bit law alone, so that what lies between it and the curve of its colour is QiD.

    Parameters
    ----------
    fit
        A fit of a QiD law with D in its equation.
    table
        The measurements to draw, if not those that were fitted; hollow where they were not.
    loss_16bit
        A fit of a law of the 16-bit loss; a fit of law `joint` has its own.
    kind, ci_prob
        As in `Fit.predict`. Each model has the band of its own run.

    Returns
    -------
    matplotlib.figure.Figure
        Tokens (count) and loss (nats per token), both logarithmic.

    Raises
    ------
    InputError
        If a law has no such curves, there is none of the 16-bit loss, or the points are of several methods, group
        sizes or data sets.

    Examples
    --------
    >>> from qidbayes.posterior import load_fit
    >>> figure = loss_quantized(load_fit("unified.nc"), loss_16bit=load_fit("kaplan-16bit.nc"))  # doctest: +SKIP
    """
    both, base = losses.together(fit, loss_16bit, "loss_quantized")
    points = losses.points(both, base, table, "loss_quantized")
    order = ["n_params", "model"]
    every = points.select(order).unique().sort(order)
    shown = pl.DataFrame(along.spread(every.rows(), _MAX_CURVES), every.schema, orient="row")
    points = points.join(shown, on=order, how="semi")
    at = along.grid(points, "tokens")
    band = along.bands(both, points, [*order, "bits"], "tokens", at, kind, ci_prob, "loss")
    before = along.bands(base, losses.before(points), order, "tokens", at, kind, ci_prob)
    looks = style.by_size(shown["n_params"])
    small_print = [*along.notes([both], points, kind, ci_prob), losses.note(base)]
    if shown.height < every.height:
        small_print.append(f"{shown.height} of {every.height} models are shown.")
    widths = points["bits"].unique().sort().to_list()
    with style.context():
        title = "Loss after quantization = 16-bit loss + QiD"
        figure = style.figure(title, small_print, height=0.75 + 2.4 * style.panel_rows(len(widths)))
        panels = style.panels(figure, len(widths))
        for axes, bits in zip(panels, widths, strict=True):
            for (n_params, *_), curve in before.group_by("n_params", "model", maintain_order=True):
                tokens, median = curve["tokens"].to_numpy(), curve["median"].to_numpy()
                axes.plot(tokens, median, color=looks[n_params].color, linestyle="--", linewidth=0.9)
            here = pl.col("bits") == bits
            along.draw_bands(axes, band.filter(here), "tokens", "n_params", looks)
            along.draw_points(axes, points.filter(here), "tokens", "loss", "n_params", looks)
            axes.set_title(f"{bits:g} bits")
        for axes in panels:
            style.log_axes(axes)
            axes.set_xlabel(style.TOKENS)
        for axes in panels[:: style.ACROSS]:
            axes.set_ylabel(style.LOSS)
        handles = [
            Line2D([], [], color=look.color, marker=look.marker, label=f"$N$ = {caption.size(size)}")
            for size, look in looks.items()
        ]
        handles.append(Line2D([], [], color=style.GUIDE, linestyle="--", linewidth=0.9, label="16-bit loss"))
        style.legend_below(figure, handles, 4)
        banded.note_hidden(figure)
    return figure
