"""16-bit loss against training tokens, measured and fitted (the upper curves of the paper's Figure 7)."""

from collections.abc import Sequence

import polars as pl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from qidbayes.plots import along, banded, caption, style
from qidbayes.posterior.fit import Fit, Kind

_MAX_CURVES = 8


def loss_16bit(
    fit: Fit, *, models: Sequence[str] | None = None, kind: Kind = "response", ci_prob: float = 0.9
) -> Figure:
    """Draw the 16-bit loss against training tokens, with the points fitted and the band of each model's own run.

    Parameters
    ----------
    fit
        A fit of a law of the 16-bit loss with D in its equation.
    models
        Which of the fitted models to draw; all by default. With more than eight sizes, eight have curves.
    kind, ci_prob
        As in `Fit.predict`.

    Returns
    -------
    matplotlib.figure.Figure
        Tokens (count) and loss (nats per token), both logarithmic.

    Raises
    ------
    InputError
        If the law does not give the 16-bit loss against tokens, or there is no such model.

    Examples
    --------
    >>> from qidbayes.posterior import load_fit
    >>> loss_16bit(load_fit("kaplan-16bit.nc")).savefig("loss.svg")  # doctest: +SKIP
    """
    along.check_law(fit, "loss_16bit", "tokens", "loss_16bit")
    measured = along.chosen(fit.data, "model", models)
    split = ["dataset"] if measured["dataset"].n_unique() > 1 else []
    points = along.mark_fitted([fit], measured, split, "loss_16bit")
    sizes = sorted(points["n_params"].unique())
    curves = along.spread(sizes, _MAX_CURVES)
    by_run = ["model"] if along.runs_differ(fit, kind) else []
    with_curve = points.filter(pl.col("n_params").is_in(curves))
    at = along.grid(points, "tokens")
    answer = along.bands(fit, with_curve, ["n_params", *by_run, *split], "tokens", at, kind, ci_prob)
    looks = style.by_size(sizes)
    small_print = along.notes([fit], points, kind, ci_prob)
    if len(curves) < len(sizes):
        small_print.append(f"Curves for {len(curves)} of {len(sizes)} sizes.")
    datasets = sorted(points["dataset"].unique())
    with style.context():
        legend_rows = 1 + -(-len(curves) // 3)
        figure = style.figure("16-bit loss against training tokens", small_print, height=3.2 + 0.2 * legend_rows)
        grid = figure.subplots(1, len(datasets), sharex=True, sharey=True, squeeze=False)
        for axes, dataset in zip(grid.flat, datasets, strict=True):
            here = pl.col("dataset") == dataset
            along.draw_bands(axes, answer.filter(here) if split else answer, "tokens", "n_params", looks)
            along.draw_points(axes, points.filter(here), "tokens", "loss_16bit", "n_params", looks)
            style.log_axes(axes)
            axes.set_title(dataset)
            axes.set_xlabel(style.TOKENS)
        grid[0, 0].set_ylabel(style.LOSS_16BIT)
        handles = [_handle(n_params, looks[n_params], points) for n_params in curves]
        style.legend_below(figure, handles, 3, "Model (non-embedding parameters $N$)")
        banded.note_hidden(figure)
    return figure


def _handle(n_params: float, look: style.Look, points: pl.DataFrame) -> Line2D:
    names = points.filter(pl.col("n_params") == n_params)["model"].unique()
    size = caption.size(n_params)
    label = f"{caption.short(names[0])} ({size})" if len(names) == 1 else size
    return Line2D([], [], color=look.color, marker=look.marker, label=label)
