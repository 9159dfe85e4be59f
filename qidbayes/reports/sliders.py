"""The interactive part of a page: a grid of questions, and what `Fit.predict` answers to each.

Sliders stop at the grid's points and nowhere between, so that every number shown is one that `predict` gives, whatever
the law and its noise, and nothing is interpolated or computed twice.
"""

import math
from typing import Any

import numpy as np
import polars as pl

from qidbayes.errors import InputError
from qidbayes.law.law import RESPONSES
from qidbayes.posterior import query
from qidbayes.posterior.assumed import only_suite
from qidbayes.posterior.band import tails
from qidbayes.posterior.fit import Fit
from qidbayes.units import format_count

BEYOND = {"n_params": 40.0, "tokens": 500.0}
"""How far beyond the data sliders go: from Pythia's 12B and 206B tokens to 400B and 100T."""
INNER = 0.5
"""The probability of the inner band."""
_STEPS = {"n_params": (1, 2, 3, 4, 5, 7), "tokens": (1, 1.5, 2, 3, 5, 7)}
_LABELS = {"n_params": "Non-embedding parameters N", "tokens": "Training tokens D", "bits": "Bits P"}
_AT_ONCE = 4_000_000  # draws times questions
_MOST_POINTS = 20_000
_MOST_VALUES = 8  # of a further column
_MOST_MEASURED = 1500


def what_if(fit: Fit, ci_prob: float) -> dict[str, Any]:
    """Return what the page's script needs, in JSON's types.

    Returns
    -------
    dict
        ``axes``: for each, its name, label, values, their texts and the place to start at; ``quantiles``: for
        ``median``, ``lower``, ``upper``, ``inner_lower`` and ``inner_upper`` a number for each point of the grid, the
        last axis varying fastest, to four digits (None if infinite); ``measured``: the fitted rows; ``range``: what
        sizes and tokens they span.

    Raises
    ------
    InputError
        If the law cannot be asked about a grid, as one whose constants differ between checkpoints.
    """
    axes = {name: _values(fit, name) for name in query.needs(fit.law)}
    if math.prod(len(values) for values in axes.values()) > _MOST_POINTS:
        raise InputError(f"law {fit.law.name!r} depends on too much for a page to hold")
    frame = query.combinations(axes).with_columns(pl.lit(suite).alias(name) for name, suite in only_suite(fit).items())
    lower, upper = tails(ci_prob)
    inner_lower, inner_upper = tails(INNER)
    levels = {"median": 0.5, "lower": lower, "upper": upper, "inner_lower": inner_lower, "inner_upper": inner_upper}
    step = max(1, _AT_ONCE // fit.stats["lp"].size)
    few = fit.thinned() if fit.noise.by_draw else fit  # a grid is too large to be asked of more
    parts = [
        _quantiles(few, frame[first : first + step], list(levels.values())) for first in range(0, frame.height, step)
    ]
    found = np.concatenate(parts, axis=1)
    spans = {
        name: [float(x) for x in np.quantile(fit.data[name].drop_nulls().to_numpy(), [0, 1])]
        for name in BEYOND
        if name in axes
    }
    return {
        "response": f"{RESPONSES[fit.law.response]} (nats/token)",
        "ci_prob": ci_prob,
        "axes": [_axis(fit, name, values) for name, values in axes.items()],
        "quantiles": {name: [_rounded(x) for x in row] for name, row in zip(levels, found, strict=True)},
        "measured": _measured(fit, list(axes)),
        "range": spans,
    }


def _quantiles(fit: Fit, frame: pl.DataFrame, levels: list[float]) -> np.ndarray:
    # As `Fit.predict` makes them.
    with np.errstate(all="ignore"):
        return np.asarray(np.quantile(np.exp(fit.log_draws(frame)), levels, axis=0))


def _values(fit: Fit, name: str) -> list[Any]:
    known = fit.data[name].drop_nulls().unique().sort()
    grouped = name in fit.law.by
    if name in BEYOND and not grouped:
        low, high = (float(x) for x in np.quantile(known.to_numpy(), [0, 1]))
        powers = range(math.floor(math.log10(low / 2)), math.ceil(math.log10(high * BEYOND[name])) + 1)
        steps = [float(f"{step * 10.0**power:.3g}") for power in powers for step in _STEPS[name]]
        return [x for x in steps if low / 2 <= x <= high * BEYOND[name]]
    if name == "bits" and fit.law.noise.discrepancy == "families":
        return fit.widths
    if name == "bits" and not grouped:
        whole = range(math.ceil(known[0]), math.floor(known[-1]) + 1)
        return sorted({*known.to_list(), *map(float, whole)})
    if known.len() <= _MOST_VALUES or grouped:
        return known.to_list()
    return known.gather(np.linspace(0, known.len() - 1, _MOST_VALUES).round().astype(int)).to_list()


def _axis(fit: Fit, name: str, values: list[Any]) -> dict[str, Any]:
    count = name in BEYOND
    texts = [format_count(v) if count else f"{v:g}" if isinstance(v, int | float) else str(v) for v in values]
    start = len(values) // 2
    if count:  # at the largest that was measured
        start = int(np.argmin(np.abs(np.log(np.array(values) / float(fit.data[name].drop_nulls().to_numpy().max())))))
    return {"name": name, "label": _LABELS.get(name, name), "values": values, "texts": texts, "start": start}


def _measured(fit: Fit, names: list[str]) -> list[list[Any]]:
    """The fitted rows above 0, evenly thinned: the axes' values, and the response last."""
    response = fit.law.response
    rows = fit.data.filter(pl.col(response) > 0).select(*names, pl.col(response).round_sig_figs(4))
    chosen = np.unique(np.linspace(0, rows.height - 1, min(rows.height, _MOST_MEASURED)).round().astype(int))
    return [list(row) for row in rows[chosen].rows()]


def _rounded(x: float) -> float | None:
    return float(f"{x:.4g}") if math.isfinite(x) else None
