"""QiD by evaluation set (the paper's Figure 8: RefinedWeb and WikiText-2)."""

import polars as pl
from matplotlib.figure import Figure

from qidbayes.plots.slices import Slices, compared
from qidbayes.posterior.fit import Fit, Kind

_PANEL = ("model", "bits")
_SLICES = Slices("datasets", "Evaluation sets side by side", x="tokens", panel=_PANEL, series="dataset")


def datasets(*fits: Fit, table: pl.DataFrame | None = None, kind: Kind = "response", ci_prob: float = 0.9) -> Figure:
    """Draw QiD against training tokens, a panel for each model and bit width with a curve for each evaluation set.

    Parameters
    ----------
    *fits
        Fits of QiD laws with D in their equations: one of several evaluation sets, or one for each. A set that none
        was fitted to has points alone.
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
        If a law has no such curves, no model and bit width was measured on several sets, or several fits were fitted
        to one set.

    Examples
    --------
    >>> from qidbayes import load_table
    >>> from qidbayes.posterior import load_fit
    >>> both = load_table("pythia", "pythia/wikitext2")
    >>> figure = datasets(load_fit("unified.nc"), table=both)  # doctest: +SKIP
    """
    points = compared(_SLICES.points(fits, table), "datasets", _PANEL, "dataset")
    return _SLICES.draw(fits, points, kind, ci_prob)
