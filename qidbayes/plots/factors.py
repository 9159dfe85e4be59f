"""QiD against one factor at a time, and by method or evaluation set: figures that differ in their slice alone."""

from collections.abc import Callable, Sequence

import polars as pl
from matplotlib.figure import Figure

from qidbayes.noise.coordinates import KIND
from qidbayes.plots.slices import Slices, compared, most_measured
from qidbayes.posterior.fit import Fit, Kind

_SLICES = {
    slices.figure: slices
    for slices in (
        Slices("qid_by_tokens", "QiD rises with training tokens", x="tokens", panel=("model",), series="bits"),
        Slices("qid_by_size", "QiD falls with model size", x="n_params", panel=("bits",), series="tokens"),
        Slices("qid_by_bits", "QiD falls steeply with bit width", x="bits", panel=("model",), series="tokens"),
        Slices("methods", "Quantization methods side by side", x="tokens", panel=("model", "bits"), series="method"),
        Slices("datasets", "Evaluation sets side by side", x="tokens", panel=("model", "bits"), series="dataset"),
    )
}
_MAX_CURVES = 3
_SHARED = """

    Parameters
    ----------
    {fits}
    table
        The measurements to draw, if not those that were fitted; hollow where they were not.
    kind, ci_prob
        As in `Fit.predict`. Where a panel is of one model, the band is that of its own run, otherwise of a new one.

    Returns
    -------
    matplotlib.figure.Figure
        QiD (nats per token) against tokens (count), non-embedding parameters (count) or bit width, both logarithmic.

    Raises
    ------
    InputError
        If a law has no such curves, or the points are of several methods, group sizes or data sets, unless these are
        what is compared; if nothing is there to compare, or several fits were fitted to one method or data set.

    Examples
    --------
    >>> from qidbayes import load_fit, load_table
    >>> {example}  # doctest: +SKIP
    """
_ONE = """fit
        A fit of a QiD law with the factor in its equation."""
_SEVERAL = """*fits
        Fits of QiD laws with D in their equations: one of several methods or sets, or one for each. What none was
        fitted to has points alone."""


def _documented[**P](example: str) -> Callable[[Callable[P, Figure]], Callable[P, Figure]]:
    """Add to a figure's docstring what all figures of slices take, return and refuse, and an example."""

    def document(figure: Callable[P, Figure]) -> Callable[P, Figure]:
        fits = _SEVERAL if _SLICES[figure.__name__].series in KIND else _ONE
        figure.__doc__ = str(figure.__doc__).rstrip() + _SHARED.format(fits=fits, example=example)
        return figure

    return document


@_documented('figure = qid_by_tokens(load_fit("tokens.nc"))')
def qid_by_tokens(
    fit: Fit, table: pl.DataFrame | None = None, *, kind: Kind = "response", ci_prob: float = 0.9
) -> Figure:
    """Draw QiD against training tokens, a panel for each model with a curve for each bit width (the paper's Figure 3).

    The figure of the law `tokens`, whose exponent all curves share; `qid` is the same of many more curves.
    """
    return _draw("qid_by_tokens", [fit], table, kind, ci_prob)


@_documented('qid_by_size(load_fit("size.nc")).savefig("size.svg")')
def qid_by_size(
    fit: Fit, table: pl.DataFrame | None = None, *, kind: Kind = "response", ci_prob: float = 0.9
) -> Figure:
    """Draw QiD against model size, a panel for each bit width (the paper's Figures 4 and, of Spectra, 10 left).

    It has a curve for each of three counts of tokens: of those at which the most sizes were measured.
    """
    return _draw("qid_by_size", [fit], table, kind, ci_prob)


@_documented('qid_by_bits(load_fit("bits.nc")).savefig("bits.svg")')
def qid_by_bits(
    fit: Fit, table: pl.DataFrame | None = None, *, kind: Kind = "response", ci_prob: float = 0.9
) -> Figure:
    """Draw QiD against bit width, a panel for each model (the paper's Figure 5).

    It has a curve for each of three counts of tokens: of those at which the most bit widths were measured.
    """
    return _draw("qid_by_bits", [fit], table, kind, ci_prob)


@_documented('figure = datasets(load_fit("unified.nc"), table=load_table("pythia", "pythia/wikitext2"))')
def datasets(*fits: Fit, table: pl.DataFrame | None = None, kind: Kind = "response", ci_prob: float = 0.9) -> Figure:
    """Draw QiD against training tokens, a panel for each model and bit width with a curve for each evaluation set.

    The paper's Figure 8, of RefinedWeb and WikiText-2.
    """
    return _draw("datasets", fits, table, kind, ci_prob)


@_documented('figure = methods(load_fit("gptq.nc"), load_fit("awq.nc"))')
def methods(*fits: Fit, table: pl.DataFrame | None = None, kind: Kind = "response", ci_prob: float = 0.9) -> Figure:
    """Draw QiD against training tokens, a panel for each model and bit width with a curve for each method.

    The paper's Figure 9, of GPTQ, AWQ and bitsandbytes.
    """
    return _draw("methods", fits, table, kind, ci_prob)


def _draw(name: str, fits: Sequence[Fit], table: pl.DataFrame | None, kind: Kind, ci_prob: float) -> Figure:
    slices = _SLICES[name]
    points, notes = slices.points(fits, table), list[str]()
    if slices.series in KIND:
        points = compared(points, slices)
    elif slices.series == "tokens":
        points, notes = most_measured(points, "tokens", slices.x, _MAX_CURVES)
    return slices.draw(fits, points, kind, ci_prob, notes)
