"""QiD by quantization method (the paper's Figure 9: GPTQ, AWQ and bitsandbytes)."""

import polars as pl
from matplotlib.figure import Figure

from qidbayes.plots.slices import Slices, compared
from qidbayes.posterior.fit import Fit, Kind

_PANEL = ("model", "bits")
_SLICES = Slices("methods", "Quantization methods side by side", x="tokens", panel=_PANEL, series="method")


def methods(*fits: Fit, table: pl.DataFrame | None = None, kind: Kind = "response", ci_prob: float = 0.9) -> Figure:
    """Draw QiD against training tokens, a panel for each model and bit width with a curve for each method.

    Parameters
    ----------
    *fits
        Fits of QiD laws with D in their equations: one of several methods, or one for each. A method that none was
        fitted to has points alone.
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
        If a law has no such curves, no model and bit width was measured by several methods, or several fits were
        fitted to one method.

    Examples
    --------
    >>> from qidbayes.posterior import load_fit
    >>> figure = methods(load_fit("gptq.nc"), load_fit("awq.nc"))  # doctest: +SKIP
    """
    points = compared(_SLICES.points(fits, table), "methods", _PANEL, "method")
    return _SLICES.draw(fits, points, kind, ci_prob)
