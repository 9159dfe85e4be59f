"""QiD against training tokens, measured and fitted (the paper's Figure 6)."""

import textwrap
from collections.abc import Sequence

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qidbayes.noise.coordinates import KIND
from qidbayes.plots import along, banded, caption, style
from qidbayes.posterior.assumed import shown
from qidbayes.posterior.fit import Fit, Kind

_MAX_COLUMNS = 6
_MAX_ROWS = 12
_TITLE = 22  # characters of a row's title on a line, which has the height of a panel
_LABELS = {"bits": "{:g} bits", "group_size": "groups of {:g}"}


def qid(
    fit: Fit,
    table: pl.DataFrame | None = None,
    *,
    bits: Sequence[float] | None = None,
    models: Sequence[str] | None = None,
    kind: Kind = "response",
    ci_prob: float = 0.9,
) -> Figure:
    """Draw QiD against training tokens: a row of panels for each bit width, a column for each model.

    Models have a panel each because their bands overlap: in one panel none could be held against its points. Where
    methods, group sizes or data sets differ, each has its row. With more than six models, six of evenly
    spread sizes are drawn; with more than twelve rows, those twelve with the most models.

    Each model has the band of its own run: with ``kind="response"`` that is where a further checkpoint of the same
    run, newly measured, would fall. For a model that was not fitted it is the band of a new run.

    Parameters
    ----------
    fit
        A fit of a QiD law with D in its equation.
    table
        The measurements to draw, if not those that were fitted; hollow where they were not. Of a fit of many families
        only those of one are drawn by default: that of the rows that it was conditioned on, or with most checkpoints.
    bits, models
        Which bit widths and models of those to draw; all by default.
    kind, ci_prob
        As in `Fit.predict`.

    Returns
    -------
    matplotlib.figure.Figure
        Tokens (count) and QiD (nats per token), both logarithmic.

    Raises
    ------
    InputError
        If the law does not give QiD against tokens, or there is no such bit width or model.

    Examples
    --------
    >>> from qidbayes.posterior import load_fit
    >>> qid(load_fit("unified.nc"), bits=[3, 4]).savefig("qid.svg")  # doctest: +SKIP
    """
    along.check_law(fit, "qid", "tokens")
    measured = _of_fit(fit) if table is None else along.measured(table, "qid")
    measured = along.chosen(along.chosen(measured, "bits", bits), "model", models)
    split = ["bits", *(column for column in KIND if measured[column].n_unique() > 1)]
    every_row = along.mark_fitted([fit], measured, split)
    drawable = _fullest(every_row, split)
    every = drawable.select("n_params", "model").unique().sort("n_params", "model")
    columns = along.spread(every.rows(), _MAX_COLUMNS)
    points = drawable.join(pl.DataFrame(columns, every.schema, orient="row"), on=every.columns, how="semi")
    at = along.grid(points, "tokens")
    answer = along.bands(fit, points, ["n_params", "model", *split], "tokens", at, kind, ci_prob)
    law = along.law_alone(fit, answer, kind)
    looks = style.by_size(n_params for n_params, _ in columns)
    rows = points.select(split).unique().sort(split, nulls_last=True).rows(named=True)
    small_print = along.notes([fit], points, kind, ci_prob)
    if table is None and measured.height < fit.data.height:
        small_print.append(f"Only suite {measured['suite'][0]} is shown.")
    if law is not None:
        small_print.append(along.LAW_ALONE)
    if len(columns) > 1:
        small_print.append("Grey: the medians of the other models.")
    if len(columns) < every.height:
        small_print.append(f"{len(columns)} of {every.height} models are shown.")
    if drawable.height < every_row.height:
        small_print.append(
            f"{len(rows)} of {every_row.select(split).n_unique()} rows are shown: those with the most models."
        )
    if every_row.height < measured.height:
        small_print.append(
            f"Not drawn, being at or below 0: {measured.height - every_row.height} of {measured.height} points."
        )
    with style.context():
        title = "Quantization-induced degradation against training tokens"
        figure = style.figure(title, small_print, height=0.75 + 1.5 * len(rows))
        grid = figure.subplots(len(rows), len(columns), sharex=True, sharey="row", squeeze=False)
        for row, panels in zip(rows, grid, strict=True):
            here = [pl.col(column).eq_missing(value) for column, value in row.items()]
            for (n_params, model), axes in zip(columns, panels, strict=True):
                own = pl.col("model") == model, pl.col("n_params") == n_params
                _others(axes, answer.filter(*here, ~(own[0] & own[1])))
                along.draw_bands(axes, answer.filter(*here, *own), "tokens", "n_params", looks)
                if law is not None:
                    along.draw_law_alone(axes, law.filter(*here, *own), "tokens", "n_params", looks)
                along.draw_points(axes, points.filter(*here, *own), "tokens", "qid", "n_params", looks)
                style.log_axes(axes)
                axes.minorticks_off()  # no room for them, and they are most of the time to draw
                axes.tick_params(axis="y", left=axes is panels[0])
            panels[-1].annotate(
                _row_title(row), (1.03, 0.5), xycoords="axes fraction", rotation=-90, va="center", fontsize=8
            )
        for (n_params, model), axes in zip(columns, grid[0], strict=True):
            name = "\n".join(textwrap.wrap(caption.short(model), width=78 // len(columns)))
            axes.set_title(f"{name}\n$N$ = {caption.size(n_params)}", fontsize=7)
        figure.supxlabel(style.TOKENS, fontsize=8)
        figure.supylabel(style.QID, fontsize=8)
        banded.note_hidden(figure)
    return figure


def _of_fit(fit: Fit) -> pl.DataFrame:
    """Return the fitted rows that are drawn: of many families one, that of the rows that the fit was conditioned on."""
    if fit.law.noise.discrepancy != "families":
        return fit.data
    checkpoints = fit.data.group_by("suite").agg(pl.struct("model", "tokens").n_unique().alias("checkpoints"))
    most = checkpoints.sort("checkpoints", "suite", descending=[True, False])["suite"][0]
    return fit.data.filter(suite=shown(fit).get("suite", most))


def _fullest(points: pl.DataFrame, split: Sequence[str]) -> pl.DataFrame:
    """Return the points of the rows of panels that are drawn: of all, if they are few."""
    models = points.group_by(split).agg(pl.col("model").n_unique().alias("models"), pl.len().alias("points"))
    order = [*split, "models", "points"]
    most = models.sort(order[::-1], descending=[True, True, *([False] * len(split))], nulls_last=True).head(_MAX_ROWS)
    return points.join(most, on=list(split), how="semi", nulls_equal=True, maintain_order="left")


def _others(axes: Axes, answer: pl.DataFrame) -> None:
    """Draw the other models' medians faintly, so that the panels of a row can be held against each other."""
    for _, curve in answer.group_by("model", "n_params", maintain_order=True):
        axes.plot(curve["tokens"].to_numpy(), curve["median"].to_numpy(), color="#BBBBBB", linewidth=0.6, zorder=1.5)


def _row_title(row: dict[str, object]) -> str:
    title = ", ".join(_LABELS.get(name, "{}").format(value) for name, value in row.items() if value is not None)
    return textwrap.fill(title, _TITLE)
