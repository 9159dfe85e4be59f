"""The small print under a figure's title: what was fitted, and what its bands are."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from qidbayes.noise.coordinates import KIND
from qidbayes.posterior.cautions import extrapolated
from qidbayes.posterior.fit import Fit, Kind
from qidbayes.posterior.predictive_noise import PredictiveNoise
from qidbayes.units import format_count

_SOURCES = 6
_SOURCE = re.compile(r"qidbayes [^,;]+|\S+@\w+|[^;]*")
_KINDS = {"group_size": "groups of {:g}"}


def subject(*fits: Fit) -> str:
    """Return what was fitted to what."""
    laws = list(dict.fromkeys(fit.law.name for fit in fits))
    suites = dict.fromkeys(s for fit in fits if "suite" in fit.data.columns for s in fit.data["suite"].unique().sort())
    rows = _listed([str(fit.data.height) for fit in fits])
    what = f"Law{'s' if len(laws) > 1 else ''} {_listed(laws)}, fitted{' apart' if len(fits) > 1 else ''}"
    return f"{what} to {rows} points of {', '.join(suites) or 'a table'}"


def failed(*fits: Fit) -> str:
    """Return that fits failed their checks, which their figures say too; nothing if they passed."""
    count = sum(len(fit.diagnostics.problems()) for fit in fits)
    return f" {count} of its sampler's checks FAILED." if count else ""


def fitted(*fits: Fit) -> str:
    """Return the sentence of what was fitted to what, and whether it failed."""
    return f"{subject(*fits)}.{failed(*fits)}"


def _listed(words: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)


def band(fit: Fit, kind: Kind, ci_prob: float, *, known_runs: float = 0.0) -> str:
    """Return what the lines and bands are."""
    return f"Lines: medians; bands: {100 * ci_prob:g}% {scatter(fit, kind, known_runs=known_runs)}."


def scatter(fit: Fit, kind: Kind, *, known_runs: float = 0.0) -> str:
    """Return what a `kind` of interval is the interval of.

    Parameters
    ----------
    known_runs
        The share of checkpoints whose own training run was fitted.
    """
    if kind == "response_params":
        return "of the law alone, without the scatter of measurements"
    if "model" not in PredictiveNoise(fit).asked:
        return "for a newly measured checkpoint"
    if 0.0 < known_runs < 1.0:
        return "for a newly measured checkpoint of a new training run, or of the same one where it was fitted"
    return f"for a newly measured checkpoint of {'the same' if known_runs else 'a new'} training run"


def suite(fit: Fit, further: Mapping[str, Any], kind: Kind) -> list[str]:
    """Return a sentence on the suite whose measurements a figure is of; none where it depends on no suite."""
    if kind != "response" or "suite" not in PredictiveNoise(fit).asked or "model" in further:
        return []
    kinds = [_KINDS.get(name, "{}").format(further[name]) for name in KIND if name in further]
    named = f"suite {further['suite']}" if "suite" in further else "a suite that was not fitted"
    return [f"Of {', '.join([named, *kinds])}."]


def most_tokens(fit: Fit) -> float:
    """Return the most training tokens that were measured (count)."""
    return float(fit.data["tokens"].drop_nulls().cast(pl.Float64).to_numpy().max())


def measured_to(fit: Fit) -> str:
    """Return what a dotted line at the most tokens measured says."""
    return f"Dotted: {format_count(most_tokens(fit))} tokens, the most that were measured."


def beyond_widths(fit: Fit, bits: Sequence[float | None]) -> list[str]:
    """Return a sentence on the bit widths drawn that lie outside the fitted ones, none if there are none."""
    asked = pl.DataFrame({"bits": [width for width in bits if width is not None]}, schema={"bits": pl.Float64})
    return [f"{sentence}." for sentence in extrapolated(fit, asked)]


def sources(points: pl.DataFrame) -> str:
    """Return where points come from, at most six sources by name; empty if their table does not say.

    What stands after a semicolon, a repository's commit or our version is of single rows: the perplexities that a QiD
    was worked out from, say.
    """
    if "source" not in points.columns:
        return ""
    found = [_SOURCE.match(source)[0] for source in points["source"].unique(maintain_order=True) if source]  # type: ignore[index]
    every = list(dict.fromkeys(found))
    return "; ".join([*every[:_SOURCES], *([f"and {len(every) - _SOURCES} more"] if len(every) > _SOURCES else [])])


def points_from(points: pl.DataFrame) -> list[str]:
    """Return a sentence on where the points come from, none if their table does not say."""
    found = sources(points)
    return [f"Points: {found}."] if found else []


def short(model: str) -> str:
    """Return a model's name without its organisation."""
    return model.rsplit("/", 1)[-1]


def size(n_params: float) -> str:
    """Return a model size as people say it."""
    return format_count(n_params)
