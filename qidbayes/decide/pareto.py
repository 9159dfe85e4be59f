"""Fewer bits or fewer parameters: which of the models that fit into the same memory has the least loss."""

from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
import polars as pl

from qidbayes.decide.formats import UNQUANTIZED, bits_per_weight, known_formats
from qidbayes.errors import InputError
from qidbayes.methods import OF_FILES, type_of
from qidbayes.posterior import query
from qidbayes.posterior.answers import OneLaw
from qidbayes.posterior.band import answer_first, with_band
from qidbayes.posterior.distance import COLUMNS
from qidbayes.posterior.fit import Counts, Fit, Kind
from qidbayes.posterior.guessing import loss_16bit_for, say_assumed
from qidbayes.posterior.point import PointEstimate
from qidbayes.table.question import as_in_tables
from qidbayes.units import parse_bytes

_DRAWS = 2000
_GROUP = 128
_TOLD = ("memory", "format", "bits", "n_params")
"""What a candidate is, which stands last, where a plain print of a wide frame shows it."""


def pareto(
    fit: Fit,
    *,
    memory: Counts,
    tokens: float | str,
    bits: Sequence[float] | None = None,
    group_size: int | None = None,
    loss_16bit: Fit | PointEstimate | None = None,
    kind: Kind = "response",
    ci_prob: float = 0.9,
    **further: Any,
) -> pl.DataFrame:
    """Return, for models whose quantized weights take the same memory, their losses and the chance that each is best.

    Loss_q(N, D, P) = Loss₁₆(N, D) + QiD(N, D, P) at equal bytes: N = 8·memory / bits per weight. Fewer bits leave room
    for more parameters.

    Parameters
    ----------
    fit
        A fit of a QiD law that knows of N and bits.
    memory
        For the weights that are quantized (bytes, or text such as ``"8GB"``). Embeddings, activations and caches come
        on top.
    tokens
        Training tokens (count), the same for all.
    bits
        The widths to choose from; those of `advise` and 16, if not given. 16 bits are not quantized: QiD is 0.
    group_size
        How many weights share a scale and a zero point, which count as bytes; see `bits_per_weight`. 128 if not given.
        A fit of many families that is given neither chooses from the formats that it knows; see `known_formats`.
    loss_16bit
        As in `Fit.project`.
    kind
        ``"response"``: each candidate is a new model, with its own luck as well as what the law misses there;
        ``"response_params"``: which is best by the laws alone.
    ci_prob, **further
        As in `Fit.predict`.

    Returns
    -------
    polars.DataFrame
        ``median``, ``lower``, ``upper`` of the loss (nats per token), and ``prob_best``: the share of draws in which
        the candidate's loss is the least at this memory. A draw is one of all candidates together. Then ``qid`` (its
        median), and how far each candidate lies outside the data. Last what it is: ``bits_per_weight``, ``tokens``,
        ``memory``, of formats their names (``format``), ``bits``, ``n_params``. Formats stand from the least loss to
        the greatest.

    Raises
    ------
    InputError
        If the law has no QiD, no N or no bits, or `loss_16bit` is not of the 16-bit loss.

    Examples
    --------
    >>> from qidbayes.posterior import load_fit
    >>> pareto(load_fit("unified.nc"), memory=8e9, tokens=15e12)  # doctest: +SKIP
    """
    law = fit.law
    if law.response != "qid" or not {"bits", "n_params"} <= set(query.needs(law)):
        raise InputError(f"law {law.name!r} does not say how QiD falls with bits and parameters")
    if group_size is not None and group_size < 1:
        raise InputError(f"group_size must be 1 or more, not {group_size}")
    base, assumed = loss_16bit_for(fit.data, loss_16bit or fit.loss_16bit)
    say_assumed(assumed)
    if base.law.response != "loss_16bit":
        raise InputError(f"loss_16bit must come from a law of the 16-bit loss, not {base.law.name!r}")
    given = {name: _one(name, value) for name, value in further.items() if value is not None}
    for name in ("model", "n_params"):
        if name in given:
            raise InputError(f"{name}: each candidate is a model of its own, of the size that fits; leave it out")
    families = fit.law.noise.discrepancy == "families"
    formats = _formats(fit, given) if families and bits is None and group_size is None else None
    method = str(given.get("method", ""))
    if families and formats is None and method != OF_FILES:
        given["group_size"] = group_size or _GROUP
    query.refuse_unused(law, given, [name for part in (fit, base) for name in _taken(part)])
    if formats is not None:
        given = {name: value for name, value in given.items() if name not in formats.columns}
        frame = query.combinations({"memory": _bytes(memory)}).join(formats, how="cross", maintain_order="left_right")
    else:
        widths = sorted({*fit.widths, UNQUANTIZED} if bits is None else set(bits))
        frame = query.combinations({"memory": _bytes(memory), "bits": [float(p) for p in widths]})
        query.positive(frame, "bits")
        size = pl.col("bits").map_elements(lambda p: bits_per_weight(p, group_size or _GROUP, method), pl.Float64)
        frame = frame.with_columns(size.alias("bits_per_weight"))
    query.positive(frame, "memory")
    frame = frame.with_columns((8 * pl.col("memory") / pl.col("bits_per_weight")).alias("n_params"))
    held_fast = {"tokens": tokens, **given}
    frame = as_in_tables(frame.with_columns(pl.lit(value).alias(name) for name, value in held_fast.items()))
    parts = [
        _at_equal_bytes(fit, base, part, kind, ci_prob) for part in frame.partition_by("memory", maintain_order=True)
    ]
    answer = pl.concat(parts)
    # 16 bits are not quantized: no law continues to there.
    known = pl.col("bits").clip(upper_bound=float(fit.data["bits"].max()))  # type: ignore[arg-type]
    asked = answer.with_columns(pl.when(pl.col("bits") < UNQUANTIZED).then("bits").otherwise(known).alias("bits"))
    held = fit.held(asked).select(pl.selectors.by_name(*COLUMNS, require_all=False))
    found = pl.concat([answer, held], how="horizontal")
    asked_for = [name for name in frame.columns if name not in _TOLD] + [name for name in _TOLD if name in frame]
    answer = answer_first(found, "prob_best", asked_for)
    return answer if formats is None else answer.sort("memory", "median", maintain_order=True)


def _formats(fit: Fit, given: dict[str, str | float]) -> pl.DataFrame | None:
    """Return the formats to choose from, and 16 bits; None where the fit knows none of the method."""
    settings = [str(given["settings"])] if "settings" in given else []
    method = str(given["method"]).lower() if "method" in given else None
    if method is None and any(map(type_of, settings)):
        method = OF_FILES
    known = known_formats(fit, method, settings)
    if known.is_empty():
        return None
    sizes = [bits_per_weight(*row) for row in known.select("bits", "group_size", "method").iter_rows()]
    plain = pl.DataFrame({"format": "16 bits", "bits": UNQUANTIZED, "bits_per_weight": UNQUANTIZED})
    return pl.concat([known.with_columns(bits_per_weight=pl.Series(sizes)), plain], how="diagonal")


def _bytes(memory: Counts) -> list[float]:
    listed: list[Any] = [memory] if isinstance(memory, str | Real) else list(memory)  # type: ignore[arg-type]
    return [parse_bytes(size) if isinstance(size, str) else size for size in listed]


def _one(name: str, value: Any) -> str | float:
    """Return the value that holds for all candidates, which may be given as a list of one."""
    listed: list[Any] = [value] if isinstance(value, str | Real) else list(value)
    if len(listed) != 1:
        raise InputError(f"{name}: {len(listed)} values; give one, which holds for all candidates")
    found: str | float = listed[0]
    return found


def _taken(source: OneLaw) -> tuple[str, ...]:
    asked = source.noise.asked if isinstance(source, Fit) else ()
    return (*query.needs(source.law), *asked)


def _at_equal_bytes(fit: Fit, base: OneLaw, frame: pl.DataFrame, kind: Kind, ci_prob: float) -> pl.DataFrame:
    # Each candidate is a model of its own.
    named = frame.with_columns(pl.format("candidate {}", pl.int_range(pl.len())).alias("model"))
    quantized = (frame["bits"] < UNQUANTIZED).to_numpy()
    qid = np.exp(_draws(fit, named.filter(quantized), kind))
    total = np.zeros((len(qid), frame.height))
    total[:, quantized] = qid
    if isinstance(base, Fit):
        loss = np.exp(_draws(base, named, kind))
        total += loss[np.linspace(0, len(loss) - 1, len(total)).round().astype(int)]
    else:
        total += base.predict(frame.select(query.needs(base.law)))["median"].to_numpy()
    best = np.bincount(total.argmin(axis=1), minlength=frame.height) / len(total)
    middle = np.zeros(frame.height)
    middle[quantized] = np.median(qid, axis=0)
    answer = with_band(frame, total, ci_prob).drop("mean", "sd")
    return answer.with_columns(pl.Series("qid", middle), pl.Series("prob_best", best))


def _draws(fit: Fit, frame: pl.DataFrame, kind: Kind) -> np.ndarray:
    """Return log responses of the candidates, each draw of all of them together; shape ``(draws, candidates)``."""
    if kind == "response_params":
        return fit.log_draws(frame, kind)
    expected = fit.joint(frame)
    return expected.draws(int(fit.attributes["random_seed"]), each=max(1, _DRAWS // len(expected.mean)))
