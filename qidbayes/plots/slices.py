"""QiD along one axis, a panel for each model or bit width and a curve for each of what is compared there."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from qidbayes.errors import ExtrapolationWarning, InputError
from qidbayes.noise.coordinates import KIND
from qidbayes.plots import along, banded, caption, style
from qidbayes.posterior.fit import Fit, Kind

_LABELS = {"tokens": style.TOKENS, "n_params": style.SIZE, "bits": style.BITS}
_MAX_PANELS = 6


@dataclass(frozen=True)
class Slices:
    """What a figure of slices is made of.

    Attributes
    ----------
    figure
        Its name, for messages.
    title
        What it shows.
    x
        The column along its horizontal axis.
    panel
        The columns whose combinations have a panel each.
    series
        The column whose values have a curve each.
    """

    figure: str
    title: str
    x: along.X
    panel: tuple[str, ...]
    series: str

    def points(self, fits: Sequence[Fit], table: pl.DataFrame | None) -> pl.DataFrame:
        """Return the points to draw: the table's, or those that were fitted.

        Raises
        ------
        InputError
            If a law has no such curves, or there are no such points.
        """
        if not fits:
            raise InputError(f"{self.figure} needs a fit")
        for fit in fits:
            along.check_law(fit, self.figure, self.x)
        if table is None:
            wanted = ["suite", "model", "revision", "n_params", "tokens", "bits", *KIND, "qid", "source"]
            frames = [fit.data.select(c for c in wanted if c in fit.data.columns) for fit in fits]
            measured = pl.concat(frames, how="diagonal_relaxed").unique(maintain_order=True)
        else:
            measured = along.measured(table, "qid")
        return along.mark_fitted(fits, measured, ["bits", *KIND])

    def draw(
        self, fits: Sequence[Fit], points: pl.DataFrame, kind: Kind, ci_prob: float, notes: Sequence[str] = ()
    ) -> Figure:
        """Return the figure of some points, with the bands of the fits.

        Of series that are names each is answered by the fit that was fitted to it; one that none was, has no curve.
        """
        along.one_kind(points, self.figure, [*self.panel, self.series])
        order = ["n_params", *self.panel] if "model" in self.panel else list(self.panel)
        every = points.select(order).unique().sort(order)
        shown = along.spread(every.rows(named=True), _MAX_PANELS)
        points = points.join(pl.DataFrame(shown, every.schema), on=order, how="semi")
        at = along.grid(points, self.x)
        split = [*order, self.series]
        with warnings.catch_warnings():
            if self.x == "bits":  # curves end a little beyond their points, and the small print names such points
                warnings.simplefilter("ignore", ExtrapolationWarning)
            answers = [
                along.bands(fit, own, split, self.x, at, kind, ci_prob)
                for fit, own in zip(fits, self._of_fits(fits, points), strict=True)
                if own.height
            ]
            # Series that are names have fits of their own, and dotted lines too.
            law = along.law_alone(fits[0], answers[0], kind) if self.series not in KIND else None
        looks = self._looks(points[self.series].unique(maintain_order=True).to_list())
        small_print = [*along.notes(fits, points, kind, ci_prob, named=self.x != "n_params"), *notes]
        small_print += caption.beyond_widths(fits[0], points["bits"].unique().to_list())
        if law is not None:
            small_print.append(along.LAW_ALONE)
        if len(shown) < every.height:
            small_print.append(f"{len(shown)} of {every.height} panels are shown.")
        with style.context():
            rows = style.panel_rows(len(shown))
            figure = style.figure(self.title, small_print, height=0.55 + 1.95 * rows)
            panels = style.panels(figure, len(shown))
            for axes, panel in zip(panels, shown, strict=True):
                here = [pl.col(column) == value for column, value in panel.items()]
                for answer in answers:
                    along.draw_bands(axes, answer.filter(here), self.x, self.series, looks)
                if law is not None:
                    along.draw_law_alone(axes, law.filter(here), self.x, self.series, looks)
                along.draw_points(axes, points.filter(here), self.x, "qid", self.series, looks)
                axes.set_title(_title(panel))
            for axes in panels:
                self._axes(axes, points)
            for axes in panels[:: style.ACROSS]:
                axes.set_ylabel(style.QID)
            handles = [self._handle(value, look, points, answers) for value, look in looks.items()]
            style.legend_below(figure, handles, min(6, len(handles)))
            banded.note_hidden(figure)
        return figure

    def _of_fits(self, fits: Sequence[Fit], points: pl.DataFrame) -> list[pl.DataFrame]:
        """Return for each fit the points whose curves it draws."""
        if self.series not in KIND:
            return [points] * len(fits)
        own = [points.filter(pl.col(self.series).is_in(fit.data[self.series].unique().implode())) for fit in fits]
        names = [name for found in own for name in found[self.series].unique()]
        twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        if twice:
            raise InputError(f"{self.figure}: several of the fits were fitted to {twice[0]}; give one for each")
        return own

    def _looks(self, values: list[float] | list[str]) -> along.Looks:
        numbers = [value for value in values if not isinstance(value, str)]
        if self.series == "bits":
            return style.by_bits(numbers)
        return style.by_tokens(numbers) if numbers else style.by_name(map(str, values))

    def _label(self, value: float | str) -> str:
        if isinstance(value, str):
            return value
        return f"{value:g} bits" if self.series == "bits" else f"$D$ = {caption.size(value)}"

    def _handle(
        self, value: float | str, look: style.Look, points: pl.DataFrame, answers: Sequence[pl.DataFrame]
    ) -> Line2D:
        """Return a legend's entry: hollow where no point was fitted, and without a line where there is no curve."""
        here = pl.col(self.series) == value
        fitted = points.filter(here)["fitted"].any()
        curve = any(answer.filter(here).height for answer in answers)
        return Line2D(
            [], [], color=look.color, marker=look.marker, linestyle=look.line if curve else "none",
            markerfacecolor=look.color if fitted else "none", label=self._label(value),
        )  # fmt: skip

    def _axes(self, axes: Axes, points: pl.DataFrame) -> None:
        style.log_axes(axes)
        if self.x == "bits":
            style.widths_axis(axes.xaxis, points["bits"].unique().to_list())
        axes.set_xlabel(_LABELS[self.x])


def most_measured(points: pl.DataFrame, series: str, x: along.X, most: int) -> tuple[pl.DataFrame, list[str]]:
    """Return the points of a few series and a note on how many: of those with the most values of `x`, evenly spread."""
    points = points.filter(pl.col(series).is_not_null())
    if points.is_empty():
        raise InputError(f"no point says its {series}, which this figure has a curve for each of")
    counts = points.group_by(series).agg(pl.col(x).n_unique().alias("count"))
    best = counts.filter(pl.col("count") == pl.col("count").max())[series].sort().to_numpy()
    apart = np.log(best)[:, None] - np.linspace(np.log(best[0]), np.log(best[-1]), most)
    shown = np.unique(best[np.abs(apart).argmin(axis=0)]).tolist()
    found = points.filter(pl.col(series).is_in(shown))
    return found, [f"{len(shown)} of {counts.height} counts of tokens are shown."] if len(shown) < counts.height else []


def compared(points: pl.DataFrame, slices: Slices) -> pl.DataFrame:
    """Return the points of the panels with several series; refuse points without any."""
    found = points.filter(pl.col(slices.series).n_unique().over(slices.panel) > 1)
    if found.is_empty():
        raise InputError(
            f"{slices.figure}: no model and bit width has points of more than one {slices.series}; there is only "
            f"{', '.join(map(str, points[slices.series].unique().sort()))}: give a table, or a fit for each"
        )
    return found


def _title(panel: dict[str, object]) -> str:
    parts = []
    if "model" in panel:
        parts.append(f"{caption.short(str(panel['model']))}, $N$ = {caption.size(float(str(panel['n_params'])))}")
    if "bits" in panel:
        parts.append(f"{panel['bits']:g} bits")
    return "\n".join(parts)
