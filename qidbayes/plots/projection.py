"""QiD projected far beyond the data, up to where guessing would do as well (the paper's Figure 1)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from qidbayes.errors import InputError
from qidbayes.plots import banded, caption, style
from qidbayes.plots.far import asked_of, check_law, with_suite
from qidbayes.posterior import query
from qidbayes.posterior.fit import Fit, Kind
from qidbayes.posterior.guessing import VOCABULARY
from qidbayes.posterior.point import PointEstimate
from qidbayes.units import format_count

_COVER = {"facecolor": style.GUESSING, "edgecolor": "none", "pad": 1.0}  # the dotted line does not cross the label
_GRID = 40
_DECADES_SHOWN = 1.5  # below the smallest median at the right edge


def projection(
    fit: Fit,
    *,
    n_params: Sequence[float] = (7e9, 70e9, 405e9),
    bits: Sequence[float] = (2, 3, 4),
    tokens_max: float = 100e12,
    loss_16bit: Fit | PointEstimate | None = None,
    published: PointEstimate | None = None,
    kind: Kind = "response",
    ci_prob: float = 0.9,
    **further: Any,
) -> Figure:
    """Draw QiD projected to `tokens_max` training tokens, a panel for each model size.

    Panels are sizes and not bit widths because the bands of bit widths lie apart, and because the region worse than
    random guessing, where 16-bit loss + QiD > ln(vocabulary), depends on the size.

    Parameters
    ----------
    fit
        A fit of a QiD law with N and D in its equation.
    n_params, bits
        Non-embedding parameters (counts) and bit widths. A law that does not know of bits has one curve a panel.
    tokens_max
        Where the tokens end (count).
    loss_16bit
        What the 16-bit loss is taken from, as in `Fit.project`.
    published
        A point whose curves are drawn dashed.
    kind, ci_prob, **further
        As in `Fit.project`; one value for each further column.

    Returns
    -------
    matplotlib.figure.Figure
        Tokens (count) and QiD (nats per token), both logarithmic.

    Raises
    ------
    InputError
        If the law does not give QiD by size and tokens, `tokens_max` is not beyond the least tokens measured, or the
        published law does not take what is asked.

    Examples
    --------
    >>> from qidbayes.posterior import load_fit, published
    >>> figure = projection(load_fit("unified.nc"), published=published("per-bit"))  # doctest: +SKIP
    """
    check_law(fit, "projection", further)
    further = with_suite(fit, further, kind)
    start, end = (float(x) for x in np.quantile(fit.data["tokens"].drop_nulls().to_numpy(), [0, 1]))
    if not tokens_max > start:
        raise InputError(f"tokens_max must be beyond the least tokens measured, {format_count(start)}")
    tokens = np.geomspace(10 ** np.floor(np.log10(start)), tokens_max, _GRID)  # a labelled tick to begin with
    by_bits: dict[str, Any] = {"bits": list(bits)} if "bits" in query.needs(fit.law) else {}
    question: dict[str, Any] = {"n_params": list(n_params), "tokens": tokens, **by_bits, **further}
    answer = fit.project(loss_16bit=loss_16bit, kind=kind, ci_prob=ci_prob, **question)
    beside = published.predict(**asked_of(published, question, further)) if published else None
    looks = style.by_bits(by_bits.get("bits", [4.0]))
    sizes = list(dict.fromkeys(answer["n_params"]))
    with style.context():
        figure = style.figure(
            f"QiD projected to {format_count(tokens_max)} training tokens",
            [
                caption.fitted(fit),
                caption.band(fit, kind, ci_prob),
                *caption.suite(fit, further, kind),
                caption.measured_to(fit),
                f"Numbers: medians at {format_count(tokens_max)}.",
                *caption.beyond_widths(fit, bits),
            ],
            height=0.3 + 2.6 * style.panel_rows(len(sizes)),
        )
        panels = style.panels(figure, len(sizes))
        for axes, size in zip(panels, sizes, strict=True):
            _panel(axes, answer.filter(pl.col("n_params") == size), looks, end)
            if beside is not None:
                _published(axes, beside.filter(pl.col("n_params") == size), looks)
            axes.set_title(_title(size, fit.data["n_params"].to_numpy()))
        _limits(panels[0], answer, tokens_max)
        for axes in panels:
            style.log_axes(axes)
            axes.set_xlabel(style.TOKENS)
        for axes in panels[:: style.ACROSS]:
            axes.set_ylabel(style.QID)
        style.legend_below(figure, _handles(looks, by_bits, published), len(looks) + 2)
        banded.note_hidden(figure)
    return figure


def _panel(axes: Axes, answer: pl.DataFrame, looks: dict[float, style.Look], end: float) -> None:
    for bits, look in looks.items():
        curve = answer.filter(pl.col("bits") == bits) if "bits" in answer.columns else answer
        tokens, median = curve["tokens"].to_numpy(), curve["median"].to_numpy()
        lower, upper = curve["lower"].to_numpy(), curve["upper"].to_numpy()
        banded.draw(axes, tokens, median, lower, upper, look.color)
        axes.plot(tokens[-1:], median[-1:], color=look.color, marker=look.marker, clip_on=False)
        axes.annotate(
            f"{median[-1]:.2g}",
            (tokens[-1], median[-1]),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
            annotation_clip=False,
        )
    guessing = np.log(VOCABULARY) - curve["loss_16bit"].to_numpy()
    # The top is out of sight whatever the limits become.
    axes.fill_between(tokens, guessing, 1e9, color=style.GUESSING, linewidth=0, zorder=0.5)
    axes.text(0.03, 0.97, "worse than\nrandom guessing", transform=axes.transAxes, va="top", fontsize=7, bbox=_COVER)
    axes.axvline(end, color=style.GUIDE, linestyle=":", linewidth=1.0)


def _published(axes: Axes, beside: pl.DataFrame, looks: dict[float, style.Look]) -> None:
    for bits, look in looks.items():
        curve = beside.filter(pl.col("bits") == bits) if "bits" in beside.columns else beside
        axes.plot(curve["tokens"].to_numpy(), curve["median"].to_numpy(), color=look.color, linestyle=(0, (4, 2)))


def _limits(axes: Axes, answer: pl.DataFrame, tokens_max: float) -> None:
    last = answer.filter(pl.col("tokens") == answer["tokens"].max())
    ceiling = float(np.log(VOCABULARY))
    low = float(np.min(last["median"].to_numpy())) / 10**_DECADES_SHOWN
    high = max(float(np.nanmax(last["upper"].to_numpy())), ceiling)
    axes.set_ylim(low, high * 4)
    axes.set_xlim(float(np.min(answer["tokens"].to_numpy())), tokens_max)


def _title(size: float, measured: np.ndarray) -> str:
    where = "within the sizes measured"
    if size > measured.max():
        where = f"{size / measured.max():.2g} × the largest measured"
    elif size < measured.min():
        where = f"{size / measured.min():.2g} × the smallest measured"
    return f"$N$ = {caption.size(size)}\n{where}"


def _handles(
    looks: dict[float, style.Look], by_bits: dict[str, list[float]], published: PointEstimate | None
) -> list[Artist]:
    handles: list[Artist] = [
        Line2D([], [], color=look.color, marker=look.marker, label=f"{bits:g} bits" if by_bits else "QiD")
        for bits, look in looks.items()
    ]
    if published:
        handles.append(Line2D([], [], color=style.GUIDE, linestyle=(0, (4, 2)), label=f"published ({published.label})"))
    return [*handles, Patch(color=style.GUESSING, label="16-bit loss + QiD > ln(vocabulary)")]
