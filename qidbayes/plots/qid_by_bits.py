"""QiD against bit width, a panel for each model (the paper's Figure 5: Δ = c/P^γ)."""

import polars as pl
from matplotlib.figure import Figure

from qidbayes.plots.slices import Slices, most_measured
from qidbayes.posterior.fit import Fit, Kind

_SLICES = Slices("qid_by_bits", "QiD falls steeply with bit width", x="bits", panel=("model",), series="tokens")
_MAX_CURVES = 3


def qid_by_bits(
    fit: Fit, table: pl.DataFrame | None = None, *, kind: Kind = "response", ci_prob: float = 0.9
) -> Figure:
    """Draw QiD against bit width, a panel for each model with a curve for each of a few checkpoints.

    Of the counts of tokens at which the most bit widths were measured, three are drawn.

    Parameters
    ----------
    fit
        A fit of a QiD law with P in its equation, such as `bits`.
    table
        The measurements to draw, if not those that were fitted; hollow where they were not.
    kind, ci_prob
        As in `Fit.predict`.

    Returns
    -------
    matplotlib.figure.Figure
        Bit width and QiD (nats per token), both logarithmic.

    Raises
    ------
    InputError
        If the law has no such curves, or the points are of several methods, group sizes or data sets.

    Examples
    --------
    >>> from qidbayes.posterior import load_fit
    >>> qid_by_bits(load_fit("bits.nc")).savefig("bits.svg")  # doctest: +SKIP
    """
    points, notes = most_measured(_SLICES.points([fit], table), "tokens", "bits", _MAX_CURVES)
    return _SLICES.draw([fit], points, kind, ci_prob, notes)
