"""QiD against model size, a panel for each bit width (the paper's Figures 4 and, of Spectra, 10 left: Δ = a/N^α)."""

import polars as pl
from matplotlib.figure import Figure

from qidbayes.plots.slices import Slices, most_measured
from qidbayes.posterior.fit import Fit, Kind

_SLICES = Slices("qid_by_size", "QiD falls with model size", x="n_params", panel=("bits",), series="tokens")
_MAX_CURVES = 3


def qid_by_size(
    fit: Fit, table: pl.DataFrame | None = None, *, kind: Kind = "response", ci_prob: float = 0.9
) -> Figure:
    """Draw QiD against model size, a panel for each bit width with a curve for each of a few counts of tokens.

    Of the counts of tokens at which the most sizes were measured, three are drawn.

    Parameters
    ----------
    fit
        A fit of a QiD law with N in its equation, such as `size`.
    table
        The measurements to draw, if not those that were fitted; hollow where they were not.
    kind, ci_prob
        As in `Fit.predict`. A curve crosses sizes and so runs: its band is that of a new run.

    Returns
    -------
    matplotlib.figure.Figure
        Non-embedding parameters (count) and QiD (nats per token), both logarithmic.

    Raises
    ------
    InputError
        If the law has no such curves, or the points are of several methods, group sizes or data sets.

    Examples
    --------
    >>> from qidbayes.posterior import load_fit
    >>> qid_by_size(load_fit("size.nc")).savefig("size.svg")  # doctest: +SKIP
    """
    points, notes = most_measured(_SLICES.points([fit], table), "tokens", "n_params", _MAX_CURVES)
    return _SLICES.draw([fit], points, kind, ci_prob, notes)
