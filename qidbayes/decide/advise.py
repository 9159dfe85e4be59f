"""Advice: how few bits keep QiD under a bound."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from qidbayes.decide.formats import known_formats
from qidbayes.errors import InputError
from qidbayes.methods import OF_FILES, type_of
from qidbayes.posterior import query
from qidbayes.posterior.band import answer_first, with_band
from qidbayes.posterior.distance import COLUMNS
from qidbayes.posterior.fit import Counts, Fit, Kind
from qidbayes.posterior.guessing import above_guessing, say_assumed
from qidbayes.posterior.predictive_noise import PredictiveNoise


def advise(
    fit: Fit,
    *,
    n_params: Counts,
    tokens: Counts | None = None,
    max_qid: float,
    prob: float = 0.95,
    bits: Sequence[float] | None = None,
    kind: Kind = "response",
    ci_prob: float = 0.9,
    **further: Any,
) -> pl.DataFrame:
    """Return for each bit width how likely QiD stays under a bound, and the smallest width that is likely enough.

    Parameters
    ----------
    fit
        A fit of a QiD law that knows of bits.
    n_params, tokens
        Non-embedding parameters and training tokens (counts). Tokens may be left out of a fit of many families, where
        nobody tells them: they are then as likely at any order of magnitude between 100B and 100T.
    max_qid
        The bound, nats per token.
    prob
        With what probability QiD has to be at most that.
    bits
        The widths to choose from. If not given, those that were fitted, or 2, 3, 4, 5, 6 and 8 of many families; of
        these about method ``gguf``, or about `settings` that name a type, the types of GGUF files (of the same maker).
    kind, ci_prob, **further
        As in `Fit.predict`.

    Returns
    -------
    polars.DataFrame
        ``median``, ``lower``, ``upper`` of QiD (nats per token), and ``advised``: true for the smallest width of each
        model whose `prob` is large enough, if any is. Then how far the question lies outside the data: see `Fit.held`.
        Last ``prob``, the share of draws in which QiD is at most `max_qid`, and the question's columns.

    Raises
    ------
    InputError
        If the law has no QiD or no bits, or the bound or the probability cannot be used.

    Examples
    --------
    >>> from qidbayes.posterior import load_fit
    >>> advise(load_fit("unified.nc"), n_params=8e9, tokens=15e12, max_qid=0.1)  # doctest: +SKIP
    """
    law = fit.law
    if law.response != "qid" or "bits" not in query.needs(law):
        raise InputError(f"law {law.name!r} does not say how QiD falls with bits")
    if not 0 < prob < 1:
        raise InputError(f"prob must be between 0 and 1, not {prob!r}")
    if not 0 < max_qid < np.inf:
        raise InputError(f"max_qid must be a positive number of nats per token, not {max_qid!r}")
    values = {"n_params": n_params, "tokens": tokens, **further}
    values = {name: value for name, value in values.items() if value is not None}
    types = _types(fit, values) if bits is None and law.noise.discrepancy == "families" else None
    if types is not None:
        values = {name: value for name, value in values.items() if name not in types.columns}
        frame = query.combinations(values).join(types, how="cross", maintain_order="left_right")
    else:
        frame = query.combinations({**values, "bits": sorted(set(fit.widths if bits is None else bits))})
    query.refuse_unused(law, frame.columns, (*query.needs(law), *PredictiveNoise(fit).asked))
    PredictiveNoise(fit).refuse_unknown_models(frame)
    draws = fit.log_draws(frame, kind)
    under = pl.Series("prob", (draws <= np.log(max_qid)).mean(axis=0))
    answer = with_band(frame, np.exp(draws), ci_prob).drop("mean", "sd")
    say_assumed(above_guessing(answer["upper"]))
    # The rows of one model stand together, its widths from small to large.
    each = frame["bits"].n_unique() if types is None else types.height
    enough = (under.to_numpy() >= prob).reshape(-1, each)
    advised = enough & (enough.cumsum(axis=1) == 1)
    held = fit.held(frame, ci_prob).select(pl.selectors.by_name(*COLUMNS, require_all=False))
    found = pl.concat([answer, held], how="horizontal").with_columns(pl.Series("advised", advised.ravel()), under)
    return answer_first(found, "advised", frame.columns)


def _types(fit: Fit, values: Mapping[str, Any]) -> pl.DataFrame | None:
    """Return method, settings and bits of the types of GGUF files, if a question is about these."""
    settings, methods = (_listed(values.get(name)) for name in ("settings", "method"))
    if not methods and settings and all(map(type_of, settings)):
        methods = [OF_FILES]
    if [text.lower() for text in methods] != [OF_FILES]:
        return None
    known = known_formats(fit, OF_FILES, settings).select("method", "settings", "bits")
    return None if known.is_empty() else known


def _listed(value: Any) -> list[str]:
    return [] if value is None else [value] if isinstance(value, str) else [str(one) for one in value]
