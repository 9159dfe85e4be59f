"""Predicted QiD against measured QiD (the paper's Figure 10, whose right panel has its axis labels swapped)."""

from collections.abc import Mapping

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from qidbayes.errors import InputError
from qidbayes.noise.coordinates import KIND
from qidbayes.plots import along, caption, style
from qidbayes.posterior import query
from qidbayes.posterior.fit import Fit, Kind

_MARGIN = 1.3
_FARTHEST = 30.0  # intervals that go on beyond the points by more than this factor are cut


def predicted_against_measured(
    *fits: Fit, table: pl.DataFrame | None = None, kind: Kind = "response", ci_prob: float = 0.9
) -> Figure:
    """Draw what fits predict of each measured QiD against what was measured, a panel for each fit.

    Measurements are on the horizontal axis and predictions, with their intervals, on the vertical one; a point on the
    diagonal was predicted exactly. Its title says how many intervals reach the diagonal, and so hold what was measured.

    Parameters
    ----------
    *fits
        Fits of QiD laws.
    table
        The measurements to predict, if not those that were fitted; hollow where they were not. A model that was not
        fitted is predicted as a new one.
    kind, ci_prob
        As in `Fit.predict`.

    Returns
    -------
    matplotlib.figure.Figure
        Measured and predicted QiD (nats per token), both logarithmic and on one scale.

    Raises
    ------
    InputError
        If a law is not of QiD, or does not know a group of a measurement.

    Examples
    --------
    >>> from qidbayes import load_table
    >>> from qidbayes.posterior import load_fit
    >>> figure = predicted_against_measured(load_fit("unified.nc"), table=load_table("spectra"))  # doctest: +SKIP
    """
    if not fits:
        raise InputError("predicted_against_measured needs a fit")
    for fit in fits:
        if fit.law.response != "qid":
            raise InputError(f"predicted_against_measured is for laws of QiD; law {fit.law.name!r} is not one")
    predicted = [_predicted(fit, table, kind, ci_prob) for fit in fits]
    looks = style.by_bits(bits for answer in predicted for bits in answer["bits"])
    known = [along.known_runs([fit], answer) for fit, answer in zip(fits, predicted, strict=True)]
    meaning = caption.scatter(fits[0], kind, known_runs=float(np.mean(known)))
    small_print = [
        f"Marks: medians; bars: {100 * ci_prob:g}% {meaning}.{caption.failed(*fits)}",
        *along.in_sample(pl.concat([answer["fitted"] for answer in predicted])),
        *caption.points_from(pl.concat(predicted, how="diagonal_relaxed")),
    ]
    limits = _limits(predicted)
    with style.context():
        title = "Predicted against measured QiD"
        figure = style.figure(title, small_print, height=0.55 + 2.9 * style.panel_rows(len(fits)))
        panels = style.panels(figure, len(fits))
        for axes, fit, answer in zip(panels, fits, predicted, strict=True):
            _panel(axes, answer, looks)
            inside = answer.filter(pl.col("qid").is_between("lower", "upper")).height
            axes.set_title(f"{caption.subject(fit)}\n{inside} of {answer.height} measured are inside the bars")
            axes.set(xlim=limits, ylim=limits, xlabel=f"Measured {style.QID}")
        for axes in panels:
            style.log_axes(axes)
            style.nats_axis(axes.xaxis)
            axes.set_aspect("equal")
        for axes in panels[:: style.ACROSS]:
            axes.set_ylabel(f"Predicted {style.QID}")
        handles = [
            Line2D([], [], color=look.color, marker=look.marker, label=f"{bits:g} bits") for bits, look in looks.items()
        ]
        handles.append(Line2D([], [], color=style.GUIDE, linewidth=0.7, label="as measured"))
        style.legend_below(figure, handles, len(handles))
    return figure


def _predicted(fit: Fit, table: pl.DataFrame | None, kind: Kind, ci_prob: float) -> pl.DataFrame:
    measured = fit.data if table is None else along.measured(table, "qid")
    points = along.mark_fitted([fit], measured, ["bits", *KIND])
    wanted = ["suite", "model", "revision", "n_params", "tokens", "bits", *KIND, *query.needs(fit.law), "qid", "fitted"]
    kept = [name for name in dict.fromkeys([*wanted, "source"]) if name in points.columns]
    return along.ask(fit, points.select(kept), kind, ci_prob)


def _panel(axes: Axes, answer: pl.DataFrame, looks: Mapping[float, style.Look]) -> None:
    axes.axline((1.0, 1.0), (10.0, 10.0), color=style.GUIDE, linewidth=0.7, zorder=1)
    for (bits, fitted), some in answer.group_by("bits", "fitted", maintain_order=True):
        look = looks[float(str(bits))]
        axes.vlines(some["qid"], some["lower"], some["upper"], color=look.color, alpha=0.5, linewidth=1.0)
        axes.plot(
            some["qid"].to_numpy(),
            some["median"].to_numpy(),
            linestyle="none",
            marker=look.marker,
            markerfacecolor=look.color if fitted else "none",
            markeredgecolor=look.color,
            markeredgewidth=0.0 if fitted else 0.8,
        )


def _limits(predicted: list[pl.DataFrame]) -> tuple[float, float]:
    middle = np.concatenate([answer[c].to_numpy() for answer in predicted for c in ("qid", "median")])
    ends = np.concatenate([answer[c].to_numpy() for answer in predicted for c in ("lower", "upper")])
    low = max(min(ends.min(), middle.min()), middle.min() / _FARTHEST)
    return low / _MARGIN, min(max(ends.max(), middle.max()), middle.max() * _FARTHEST) * _MARGIN
