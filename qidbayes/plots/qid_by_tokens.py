"""QiD against training tokens, a panel for each model (the paper's Figure 3: Δ = b·D^β)."""

import polars as pl
from matplotlib.figure import Figure

from qidbayes.plots.slices import Slices
from qidbayes.posterior.fit import Fit, Kind

_SLICES = Slices("qid_by_tokens", "QiD rises with training tokens", x="tokens", panel=("model",), series="bits")


def qid_by_tokens(
    fit: Fit, table: pl.DataFrame | None = None, *, kind: Kind = "response", ci_prob: float = 0.9
) -> Figure:
    """Draw QiD against training tokens, a panel for each model with a curve for each bit width.

    The figure of the law `tokens`, whose exponent all curves share; `qid` is the same of many more curves.

    Parameters
    ----------
    fit
        A fit of a QiD law with D in its equation.
    table
        The measurements to draw, if not those that were fitted; hollow where they were not.
    kind, ci_prob
        As in `Fit.predict`. Each model has the band of its own run.

    Returns
    -------
    matplotlib.figure.Figure
        Tokens (count) and QiD (nats per token), both logarithmic.

    Raises
    ------
    InputError
        If the law has no such curves, or the points are of several methods, group sizes or data sets.

    Examples
    --------
    >>> from qidbayes.posterior import load_fit
    >>> qid_by_tokens(load_fit("tokens.nc")).savefig("tokens.svg")  # doctest: +SKIP
    """
    return _SLICES.draw([fit], _SLICES.points([fit], table), kind, ci_prob)
