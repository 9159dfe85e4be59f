"""Loss before and after quantization against training tokens (the paper's Figure 2)."""

import polars as pl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from qidbayes.plots import along, banded, caption, losses, style
from qidbayes.posterior.fit import Fit, Kind

_MAX_PANELS = 6


def loss(
    fit: Fit,
    table: pl.DataFrame | None = None,
    *,
    loss_16bit: Fit | None = None,
    kind: Kind = "response",
    ci_prob: float = 0.9,
) -> Figure:
    """Draw loss against training tokens, a panel for each model with a curve for 16 bits and each width below.

    What training goes on to gain at 16 bits, quantization takes back: the curves part, and those of few bits turn up.

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
    >>> figure = loss(load_fit("unified.nc"), loss_16bit=load_fit("kaplan-16bit.nc"))  # doctest: +SKIP
    """
    both, base = losses.together(fit, loss_16bit, "loss")
    points = losses.points(both, base, table, "loss")
    order = ["n_params", "model"]
    every = points.select(order).unique().sort(order)
    shown = along.spread(every.rows(named=True), _MAX_PANELS)
    points = points.join(pl.DataFrame(shown, every.schema), on=order, how="semi")
    before = losses.before(points)
    at = along.grid(points, "tokens")
    after_band = along.bands(both, points, [*order, "bits"], "tokens", at, kind, ci_prob, "loss")
    before_band = along.bands(base, before, [*order, "bits"], "tokens", at, kind, ci_prob)
    looks = style.by_bits([*points["bits"].unique(), losses.WHOLE])
    small_print = [*along.notes([both], points, kind, ci_prob), losses.note(base)]
    if len(shown) < every.height:
        small_print.append(f"{len(shown)} of {every.height} models are shown.")
    with style.context():
        title = "Loss before and after quantization"
        figure = style.figure(title, small_print, height=0.55 + 1.95 * style.panel_rows(len(shown)))
        panels = style.panels(figure, len(shown))
        for axes, panel in zip(panels, shown, strict=True):
            here = pl.col("model") == panel["model"], pl.col("n_params") == panel["n_params"]
            for band, measured in ((after_band, points), (before_band, before)):
                along.draw_bands(axes, band.filter(here), "tokens", "bits", looks)
                along.draw_points(axes, measured.filter(here), "tokens", "loss", "bits", looks)
            axes.set_title(f"{caption.short(panel['model'])}, $N$ = {caption.size(panel['n_params'])}")
        for axes in panels:
            style.log_axes(axes)
            axes.set_xlabel(style.TOKENS)
        for axes in panels[:: style.ACROSS]:
            axes.set_ylabel(style.LOSS)
        handles = [
            Line2D([], [], color=look.color, marker=look.marker, linestyle=look.line, label=f"{bits:g} bits")
            for bits, look in looks.items()
        ]
        style.legend_below(figure, handles, len(handles))
        banded.note_hidden(figure)
    return figure
