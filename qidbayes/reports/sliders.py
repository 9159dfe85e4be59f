"""The interactive part of a page: a grid of questions, and what `Fit.predict` answers to each.

Sliders stop at the grid's points and nowhere between, so that every number shown is one that `predict` gives, whatever
the law and its noise, and nothing is interpolated or computed twice.
"""

import json
import math
from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np
import polars as pl

from qidbayes.errors import InputError
from qidbayes.law.law import RESPONSES
from qidbayes.plots import caption
from qidbayes.posterior import query
from qidbayes.posterior.assumed import assumed, shown
from qidbayes.posterior.band import tails
from qidbayes.posterior.fit import Fit
from qidbayes.units import format_count

BEYOND = {"n_params": 40.0, "tokens": 500.0}
"""How far beyond the data sliders go: from Pythia's 12B and 206B tokens to 400B and 100T."""
_MOST = {"n_params": 1e12, "tokens": 1e15}
"""Where they end, unless more was measured."""
INNER = 0.5
"""The probability of the inner band."""
_STEPS = {"n_params": (1, 2, 3, 4, 5, 7), "tokens": (1, 1.5, 2, 3, 5, 7)}
_LABELS = {
    "n_params": "Non-embedding parameters N", "tokens": "Training tokens D", "bits": "Bits P", "method": "Method",
    "group_size": "Group size", "suite": "Suite", "model": "Model", "dataset": "Data set",
}  # fmt: skip
_AT_ONCE = 4_000_000  # draws times questions
_MOST_POINTS = 20_000
_MOST_VALUES = 8  # of a further column
_MOST_MEASURED = 1500


def sliders(fit: Fit, ci_prob: float, held: Mapping[str, Any]) -> str:
    """Return the box that the page's script fills, and what its numbers are of.

    Raises
    ------
    InputError
        As `payload` does.
    """
    found = payload(fit, ci_prob, held)
    # "</script>" in a name would end the element.
    data = json.dumps(found, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    asked = {axis["name"]: axis["values"][:1] for axis in found["axes"]}
    about = _shown(fit, held)
    taken = str(assumed(fit, query.combinations(about | asked))).replace("assumed: ", "Assumed: ")
    told = [*(caption.suite(fit, about, "response") if about else []), *([f"{taken}."] if taken else [])]
    return (
        f'<div class="what-if"><script type="application/json">{data}</script></div>'
        f"<p class=note>Median and bands of a newly measured checkpoint, as <code>Fit.predict</code> gives them, to "
        f"four digits. {escape(''.join(f'{one} ' for one in told))}Sliders stop where the answer has been worked out. "
        "Between these points only the chart's lines are drawn.</p>"
    )


def payload(fit: Fit, ci_prob: float, held: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page's script needs, in JSON's types.

    Parameters
    ----------
    held
        Values of columns, as `Fit.predict` takes them. A list is what a slider stops at; a single value stays.

    Returns
    -------
    dict
        ``axes``: for each, its name, label, values, their texts and the position to start at; ``quantiles``: for
        ``median``, ``lower``, ``upper``, ``inner_lower`` and ``inner_upper`` a number for each point of the grid, the
        last axis varying fastest, to four digits (None if infinite); ``measured``: the fitted rows; ``range``: what
        sizes and tokens they span.

    Raises
    ------
    InputError
        If the law cannot be asked about a grid, as one whose constants differ between checkpoints, or does not take
        what is held.
    """
    needed = query.needs(fit.law)
    query.refuse_unused(fit.law, held, (*needed, *fit.noise.asked))
    like = _like(fit, {**_shown(fit, held), **held})
    axes = {name: _values(fit, name, like) for name in needed if name not in held}
    axes |= {name: query.combinations({name: value})[name].to_list() for name, value in held.items()}
    if math.prod(len(values) for values in axes.values()) > _MOST_POINTS:
        raise InputError(f"law {fit.law.name!r} depends on too much for a page to hold; hold a value, such as bits=4")
    frame = query.combinations(_shown(fit, held) | axes)
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
        name: [float(x) for x in np.quantile(like[name].drop_nulls().to_numpy(), [0, 1])]
        for name in BEYOND
        if name in axes
    }
    return {
        "response": f"{RESPONSES[fit.law.response]} (nats/token)",
        "ci_prob": ci_prob,
        "axes": [_axis(like, name, values) for name, values in axes.items()],
        "quantiles": {name: [_rounded(x) for x in row] for name, row in zip(levels, found, strict=True)},
        "measured": _measured(fit, like, list(axes)),
        "range": spans,
    }


def _shown(fit: Fit, held: Mapping[str, Any]) -> dict[str, Any]:
    """What is shown of a fit, unless a question names its suite or run."""
    return {} if {"suite", "model"} & set(held) else shown(fit)


def _like(fit: Fit, held: Mapping[str, Any]) -> pl.DataFrame:
    """The fitted rows of the suite or model that is asked about; all of them if it is new."""
    for name in ("model", "suite"):
        known = fit.data.filter(pl.col(name) == held[name]) if isinstance(held.get(name), str) else fit.data[:0]
        if all(known[axis].count() for axis in BEYOND):
            return known
    return fit.data


def _quantiles(fit: Fit, frame: pl.DataFrame, levels: list[float]) -> np.ndarray:
    # As `Fit.predict` makes them.
    with np.errstate(all="ignore"):
        return np.asarray(np.quantile(np.exp(fit.log_draws(frame)), levels, axis=0))


def _values(fit: Fit, name: str, like: pl.DataFrame) -> list[Any]:
    known = like[name].drop_nulls().unique().sort()
    grouped = name in fit.law.by
    if name in BEYOND and not grouped:
        low, high = (float(x) for x in np.quantile(known.to_numpy(), [0, 1]))
        end = max(high, min(high * BEYOND[name], _MOST[name]))
        powers = range(math.floor(math.log10(low / 2)), math.ceil(math.log10(end)) + 1)
        steps = [float(f"{step * 10.0**power:.3g}") for power in powers for step in _STEPS[name]]
        return [x for x in steps if low / 2 <= x <= end]
    if name == "bits" and fit.law.noise.discrepancy == "families":
        return fit.widths
    if name == "bits" and not grouped:
        whole = range(math.ceil(known[0]), math.floor(known[-1]) + 1)
        return sorted({*known.to_list(), *map(float, whole)})
    if known.len() <= _MOST_VALUES or grouped:
        return known.to_list()
    return known.gather(np.linspace(0, known.len() - 1, _MOST_VALUES).round().astype(int)).to_list()


def _axis(like: pl.DataFrame, name: str, values: list[Any]) -> dict[str, Any]:
    count = name in BEYOND
    texts = [format_count(v) if count else f"{v:g}" if isinstance(v, int | float) else str(v) for v in values]
    start = len(values) // 2 if isinstance(values[0], int | float) else 0
    if name == "bits":
        start = int(np.argmin(np.abs(np.array(values) - 4)))
    if count:  # at the largest that was measured of one suite; where many are fitted, in their middle
        one = "suite" not in like.columns or like["suite"].n_unique() == 1
        known = like[name].drop_nulls().to_numpy()
        start = int(np.argmin(np.abs(np.log(np.array(values) / float(known.max() if one else np.median(known))))))
    return {"name": name, "label": _LABELS.get(name, name), "values": values, "texts": texts, "start": start}


def _measured(fit: Fit, like: pl.DataFrame, names: list[str]) -> list[list[Any]]:
    """Those of the fitted rows that are above 0, evenly thinned: the axes' values, and the response last."""
    response = fit.law.response
    told = [pl.col(name) if name in like.columns else pl.lit(None).alias(name) for name in names]
    rows = like.filter(pl.col(response) > 0).select(*told, pl.col(response).round_sig_figs(4))
    chosen = np.unique(np.linspace(0, rows.height - 1, min(rows.height, _MOST_MEASURED)).round().astype(int))
    return [list(row) for row in rows[chosen].rows()]


def _rounded(x: float) -> float | None:
    return float(f"{x:.4g}") if math.isfinite(x) else None
