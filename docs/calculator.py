"""The answers behind the docs' front page, from the shipped atlas: `python docs/calculator.py docs/calculator/grid.js`.

The page has no server and no draws. It has the median and the band of `Fit.predict` on a grid of sizes and tokens, for
each family, format and bit width, and takes the logarithm of each to be straight in log N and log D between the grid's
points. What that costs is measured against `predict` at points in between, and written beside the answers.
"""

import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import qidbayes as qb
from qidbayes.posterior.assumed import assumed

SIZES = tuple(float(f"{10**power:.3g}") for power in np.arange(8, 12.01, 0.5))
TOKENS = tuple(float(f"{10**power:.3g}") for power in np.arange(10, 14.01, 0.5))
FORMATS: dict[str, dict[str, Any]] = {
    "any method, groups of 128": {"group_size": 128},
    "GPTQ, groups of 128": {"method": "gptq", "group_size": 128},
    "AWQ, groups of 128": {"method": "awq", "group_size": 128},
    "round to nearest, groups of 128": {"method": "rtn", "group_size": 128},
    "GGUF (bits of the whole file)": {"method": "gguf"},
    "bitsandbytes NF4": {"method": "bnb-nf4", "group_size": 64},
}
WIDTHS = {"bitsandbytes NF4": (4.0,)}
"""The bits that a format has, if not all that the fit answers about."""
LEFT_OUT = ("nano",)
"""Families that nobody asks about: 1,000 times smaller than what is released."""
LEVELS = ("median", "lower", "upper")
CI_PROB = 0.9
BETWEEN_POINTS = 40
"""How many questions between the grid's points are asked of each part that is checked."""


def parts(fit: qb.Fit) -> Iterator[tuple[str, str]]:
    """Return each family (empty for a new one) and format of the page: of a family, those it was measured in."""
    yield from (("", name) for name in FORMATS)
    known = fit.data.group_by("suite").agg(pl.col("method").unique()).sort("suite")
    for suite, methods in known.iter_rows():
        if suite not in LEFT_OUT:
            yield from ((suite, n) for n, about in FORMATS.items() if about.get("method") in (None, *methods))


def questions(
    fit: qb.Fit, suite: str, name: str, sizes: Sequence[float], tokens: Sequence[float | None]
) -> pl.DataFrame:
    """Return a row for each size, count of tokens (None if nobody tells it) and width, the last varying fastest."""
    about = {**FORMATS[name], **({"suite": suite} if suite else {})}
    frame = pl.DataFrame({"n_params": list(sizes)}).join(pl.DataFrame({"tokens": tokens}, strict=False), how="cross")
    frame = frame.join(pl.DataFrame({"bits": list(widths(fit, name))}), how="cross", maintain_order="left_right")
    return frame.with_columns(pl.lit(value).alias(column) for column, value in about.items())


def widths(fit: qb.Fit, name: str) -> tuple[float, ...]:
    """Return the bits that a format has."""
    return WIDTHS.get(name, tuple(fit.widths))


def answers(fit: qb.Fit, frame: pl.DataFrame) -> np.ndarray:
    """Return the logarithms of base 10 of median, lower and upper QiD; shape ``(3, questions)``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the page says what is assumed
        known = fit.predict(frame.filter(pl.col("tokens").is_not_null()), ci_prob=CI_PROB).select(LEVELS)
        unknown = frame.filter(pl.col("tokens").is_null()).drop("tokens")
        found = np.empty((len(LEVELS), frame.height))
        told = frame["tokens"].is_not_null().to_numpy()
        found[:, told] = np.log10(known.to_numpy().T)
        if unknown.height:
            found[:, ~told] = np.log10(fit.predict(unknown, ci_prob=CI_PROB).select(LEVELS).to_numpy().T)
    return found


def grid(fit: qb.Fit, wanted: Sequence[tuple[str, str]] | None = None) -> dict[str, Any]:
    """Return what the page holds, in JSON's types.

    Parameters
    ----------
    fit
        A fit of many families.
    wanted
        Which families and formats; all of `parts` by default.

    Returns
    -------
    dict
        ``parts``: a family, a format, its widths, what its answers assume with tokens and without; ``values``: 1,000
        times log10 of QiD (nats per token) as integers, by level, size, tokens (unknown last) and width;
        ``error``, the largest relative error of answers that were checked between the grid's points.
    """
    wanted = list(parts(fit)) if wanted is None else list(wanted)
    found = []
    for suite, name in wanted:
        frame = questions(fit, suite, name, SIZES, [*TOKENS, None])
        values = np.rint(1000 * answers(fit, frame)).astype(int)
        told = frame.filter(pl.col("tokens").is_not_null())
        found.append(
            {
                "suite": suite,
                "format": name,
                "about": FORMATS[name],
                "bits": widths(fit, name),
                "assumed": [_said(fit, told), _said(fit, told.drop("tokens"))],
                "values": values.ravel().tolist(),
                "error": between(fit, suite, name, values),
            }
        )
    data = fit.data
    return {
        "ci_prob": CI_PROB, "sizes": SIZES, "tokens": TOKENS, "parts": found,
        "rows": data.height, "families": data["suite"].n_unique(), "most_tokens": data["tokens"].drop_nulls().max(),
    }  # fmt: skip


def _said(fit: qb.Fit, frame: pl.DataFrame) -> str:
    return str(assumed(fit, frame)).removeprefix("assumed: ")


def between(fit: qb.Fit, suite: str, name: str, values: np.ndarray) -> float:
    """Return the largest relative error of the page's answers at random points off the grid."""
    rng = np.random.default_rng(0)
    at = [10 ** rng.uniform(np.log10(ends[0]), np.log10(ends[-1]), BETWEEN_POINTS) for ends in (SIZES, TOKENS)]
    bits = widths(fit, name)
    frame = pl.concat([questions(fit, suite, name, [n], [d]) for n, d in zip(*at, strict=True)])
    exact = answers(fit, frame).reshape(len(LEVELS), BETWEEN_POINTS, len(bits))
    cells = values.reshape(len(LEVELS), len(SIZES), len(TOKENS) + 1, len(bits))[:, :, :-1] / 1000
    n, d = (np.log10(x) for x in at)
    i, j = (np.searchsorted(np.log10(ends), x) - 1 for ends, x in ((SIZES, n), (TOKENS, d)))
    u = ((n - np.log10(SIZES)[i]) / np.diff(np.log10(SIZES))[i])[None, :, None]
    v = ((d - np.log10(TOKENS)[j]) / np.diff(np.log10(TOKENS))[j])[None, :, None]
    low = (1 - v) * cells[:, i, j] + v * cells[:, i, j + 1]
    high = (1 - v) * cells[:, i + 1, j] + v * cells[:, i + 1, j + 1]
    off = np.abs(np.expm1(np.log(10) * ((1 - u) * low + u * high - exact)))
    return float(off.max())


def script(found: dict[str, Any]) -> str:
    """Return a grid as the script that the page reads, from a folder as well as from a server."""
    return f"window.QIDBAYES = {json.dumps(found, separators=(',', ':'), allow_nan=False)};\n"


if __name__ == "__main__":
    made = grid(qb.load_fit("atlas"))
    Path(sys.argv[1]).write_text(script(made), encoding="utf-8")
    worst = max(part["error"] for part in made["parts"])
    print(f"{len(made['parts'])} parts; the largest error between the grid's points is {worst:.1%}")
