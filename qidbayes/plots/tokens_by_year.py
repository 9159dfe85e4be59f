"""Training tokens of open models by year, and when QiD would reach a threshold (the paper's Figure 13)."""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qidbayes.plots import banded, caption, style
from qidbayes.plots.far import check_law, with_suite
from qidbayes.posterior.fit import Fit, Kind

_RELEASES = Path(__file__).with_name("releases.csv")
_DAYS = 365.25
_UNTIL = datetime.date(2036, 1, 1)
_FEWEST, _MOST = 1e11, 1e17
"""Where the axis ends (tokens): intervals that go on end in arrows."""
_DRAWS = 4000
_EPOCH = datetime.date(1970, 1, 1).toordinal()
"""Where matplotlib begins to count days."""


def releases() -> pl.DataFrame:
    """Return the shipped table of openly documented models of 6B to 9B parameters.

    Returns
    -------
    polars.DataFrame
        `model`, `params` (the nominal total, as in its name), `tokens` (count, as announced), `released` (a date, the
        15th where `day_known` is "no"), `tokens_source` and `date_source`.

    Examples
    --------
    >>> releases().filter(model="Llama 3 8B").select("tokens", "released").row(0)
    (15000000000000.0, datetime.date(2024, 4, 18))
    """
    return pl.read_csv(_RELEASES, try_parse_dates=True)


class Growth:
    """Least squares of log10 tokens against time: ``log10 tokens = level + slope * years + normal error``.

    Parameters
    ----------
    released, tokens
        Dates as matplotlib counts days, and counts; at least three.
    """

    def __init__(self, released: np.ndarray, tokens: np.ndarray) -> None:
        self.origin = float(released.mean())
        years = (released - self.origin) / _DAYS
        design = np.column_stack([np.ones_like(years), years])
        y = np.log10(tokens)
        self.coefficients, *_ = np.linalg.lstsq(design, y)
        self.freedom = len(y) - 2
        self.sigma = float(np.sqrt(((y - design @ self.coefficients) ** 2).sum() / self.freedom))
        self.spread = np.linalg.inv(design.T @ design)

    def band(self, days: np.ndarray, ci_prob: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the line, and the ends of the interval of a further model, in log10 tokens."""
        from scipy import stats

        design = np.column_stack([np.ones_like(days), (days - self.origin) / _DAYS])
        line = design @ self.coefficients
        deviation = self.sigma * np.sqrt(1 + np.einsum("ij,jk,ik->i", design, self.spread, design))
        half = stats.t.ppf((1 + ci_prob) / 2, self.freedom) * deviation
        return line, line - half, line + half

    def draws(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Return `(count, 2)` draws of level and slope (a year) under a flat prior."""
        sigma = self.sigma * np.sqrt(self.freedom / rng.chisquare(self.freedom, count))
        root = np.linalg.cholesky(self.spread)
        return self.coefficients + sigma[:, None] * (rng.standard_normal((count, 2)) @ root.T)

    def reaches(self, log10_tokens: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return when a drawn line reaches each of some tokens, in days as matplotlib counts them; ``inf`` if never."""
        level, slope = self.draws(len(log10_tokens), rng).T
        days = np.full(len(log10_tokens), np.inf)
        rising = slope > 0
        days[rising] = self.origin + _DAYS * (log10_tokens[rising] - level[rising]) / slope[rising]
        return days


def tokens_by_year(
    fit: Fit,
    *,
    qid: Sequence[float] = (0.1, 0.2, 0.5),
    n_params: float = 7e9,
    bits: float = 4,
    kind: Kind = "response",
    ci_prob: float = 0.9,
    **further: Any,
) -> Figure:
    """Draw what open models of some 7B parameters were trained on, by date, beside the tokens at which QiD is reached.

    Left, the models, a line of least squares of log tokens against time, and where a further model would fall. Right,
    on the same axis, the tokens at which a model of `n_params` at `bits` reaches each QiD. Below, when the line
    reaches these tokens: draws of the line against draws of the fit.

    Parameters
    ----------
    fit
        A fit of a QiD law with N, D and P in its equation.
    qid
        Thresholds, nats per token.
    n_params, bits
        The model asked about: non-embedding parameters (count) and bit width.
    kind, ci_prob, **further
        As in `Fit.tokens_to_threshold`; one value for each further column.

    Returns
    -------
    matplotlib.figure.Figure
        Date, and tokens (count), logarithmic.

    Raises
    ------
    InputError
        If the law does not give QiD by size and tokens.

    Examples
    --------
    >>> from qidbayes.posterior import load_fit
    >>> tokens_by_year(load_fit("atlas")).savefig("tokens-by-year.svg")  # doctest: +SKIP
    """
    check_law(fit, "tokens_by_year", further)
    further = with_suite(fit, further, kind)
    thresholds = sorted(set(qid))
    asked = pl.DataFrame([{"qid": q, "n_params": n_params, "bits": float(bits), **further} for q in thresholds])
    log10_tokens = fit.log_tokens_draws(asked, kind) / np.log(10)
    table = releases()
    released = table["released"].dt.epoch("d").to_numpy().astype(float)
    growth = Growth(released, table["tokens"].to_numpy())
    ends = [0.5, (1 - ci_prob) / 2, (1 + ci_prob) / 2]
    rng = np.random.default_rng(0)
    when = []
    for column in log10_tokens.T:
        drawn = rng.choice(column, _DRAWS)
        when.append(np.quantile(growth.reaches(drawn, rng), ends, method="inverted_cdf"))
    with style.context():
        percent = f"{100 * ci_prob:g}%"
        factor = 10 ** growth.coefficients[1]
        lower, upper = 10 ** np.quantile(growth.draws(_DRAWS, rng)[:, 1], ends[1:])
        small_print = [
            f"{table.height} openly documented models of 6B to 9B parameters. Line: least squares of log "
            f"tokens against date (in sample), ×{factor:.1f} a year "
            f"({percent}: {lower:.1f} to {upper:.1f}); "
            f"band: {percent} of a further model; dashed where it goes beyond them."
            " A straight line is one model among others.",
            f"Right: {caption.fitted(fit)} Marks: medians; bars: {percent} {caption.scatter(fit, kind)}, N = "
            f"{caption.size(n_params)}, {bits:g} bits. Arrows: on beyond the axis. "
            "Dash-dotted: these medians; dotted: 100T.",
            *caption.suite(fit, further, kind),
            "The line reaches QiD "
            + "; ".join(f"{q:g} in {_years(*days)}" for q, days in zip(thresholds, when, strict=True))
            + ".",
        ]
        figure = style.figure("Training tokens by year, and when QiD is reached", small_print, height=3.0)
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3.2, 1])
        _draw_growth(left, released, table["tokens"].to_numpy(), growth, ci_prob)
        answer = fit.tokens_to_threshold(
            thresholds, n_params=n_params, bits=bits, kind=kind, ci_prob=ci_prob, **further
        )
        _draw_thresholds(left, right, answer)
        banded.note_hidden(figure)
    return figure


def _days(date: datetime.date) -> float:
    return float(date.toordinal() - _EPOCH)


def _years(median: float, lower: float, upper: float) -> str:
    """Return a date with its interval: 2031 (2026 to after 2100)."""

    def year(days: float) -> str:
        late = days > _days(datetime.date(2100, 1, 1))
        return "after 2100" if late else str(datetime.date.fromordinal(_EPOCH + int(days)).year)

    return f"{year(median)} ({year(lower)} to {year(upper)})"


def _draw_growth(axes: Axes, released: np.ndarray, tokens: np.ndarray, growth: Growth, ci_prob: float) -> None:
    days = np.linspace(released.min(), _days(_UNTIL), 200)
    line, lower, upper = (10**values for values in growth.band(days, ci_prob))
    last = np.searchsorted(days, released.max(), side="right")
    for part, dashes in ((slice(last), "-"), (slice(last - 1, None), "--")):
        banded.draw(axes, days[part], line[part], lower[part], upper[part], style.INK, dashes)
    axes.plot(released, tokens, "o", color=style.INK, markersize=3)
    axes.axhline(1e14, color=style.GUIDE, linestyle=":", linewidth=1.0)
    axes.set_xlim(released.min() - 100, _days(_UNTIL))
    axes.xaxis_date()
    axes.set_yscale("log")
    axes.set_ylim(_FEWEST, _MOST)
    style.counts_axis(axes.yaxis)
    axes.set_yticks([10.0**k for k in range(11, 18)])
    axes.minorticks_off()
    axes.set_xlabel("Released")
    axes.set_ylabel(style.TOKENS)
    style.grid(axes)


def _draw_thresholds(left: Axes, right: Axes, answer: pl.DataFrame) -> None:
    thresholds = answer["qid"].to_list()
    looks = style.by_tokens(thresholds)
    for x, one in enumerate(answer.iter_rows(named=True)):
        look = looks[one["qid"]]
        ends = [max(one["lower"], _FEWEST), min(one["upper"], _MOST)]
        right.plot([x, x], ends, color=look.color, linewidth=1.8)
        if one["tokens"] < _MOST:
            right.plot(x, one["tokens"], marker="o", color=look.color, markersize=5)  # arrows are triangles
            left.axhline(one["tokens"], color=look.color, linewidth=0.8, linestyle="-.")
        for end, beyond, arrow in ((_MOST, one["upper"] >= _MOST, "^"), (_FEWEST, one["lower"] <= _FEWEST, "v")):
            if beyond:
                right.plot(x, end, marker=arrow, color=look.color, markersize=4, clip_on=False)
    right.axhline(1e14, color=style.GUIDE, linestyle=":", linewidth=1.0)
    right.set_xticks(range(len(thresholds)), [f"{threshold:g}" for threshold in thresholds])
    right.set_xlim(-0.6, len(thresholds) - 0.4)
    right.set_xlabel(style.QID)
    right.tick_params(axis="y", left=False)
    style.grid(right)
