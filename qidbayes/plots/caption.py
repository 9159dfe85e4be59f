"""The small print under a figure's title: what was fitted, and what its bands are."""

import polars as pl

from qidbayes.posterior.fit import Fit, Kind
from qidbayes.units import format_count


def fitted(fit: Fit) -> str:
    """Return what was fitted to what; a fit that failed its checks says so in its figures too."""
    suites = ", ".join(fit.data["suite"].unique(maintain_order=True)) if "suite" in fit.data.columns else "a table"
    failed = len(fit.diagnostics.problems())
    warning = f" {failed} of its sampler's checks FAILED." if failed else ""
    return f"Law {fit.law.name}, fitted to {fit.data.height} points of {suites}.{warning}"


def band(fit: Fit, kind: Kind, ci_prob: float, *, known_run: bool = False) -> str:
    """Return what the lines and bands are."""
    return f"Lines: medians; bands: {100 * ci_prob:g}% {scatter(fit, kind, known_run=known_run)}."


def scatter(fit: Fit, kind: Kind, *, known_run: bool = False) -> str:
    """Return what a `kind` of interval is the interval of.

    Parameters
    ----------
    known_run
        Whether the effect of the checkpoint's own training run is known from the fit.
    """
    if kind == "response_params":
        return "of the law alone, without the scatter of measurements"
    if "model_sd" not in fit.draws:
        return "for a newly measured checkpoint"
    return f"for a newly measured checkpoint of {'the same' if known_run else 'a new'} training run"


def measured_to(fit: Fit) -> str:
    """Return what a dotted line at the most tokens measured says."""
    return f"Dotted: {format_count(float(fit.data['tokens'].to_numpy().max()))} tokens, the most that were measured."


def sources(points: pl.DataFrame) -> list[str]:
    """Return a sentence on where the points come from, none if their table does not say."""
    if "source" not in points.columns:
        return []
    found = [source for source in points["source"].unique(maintain_order=True) if source]
    return [f"Points: {'; '.join(found)}."] if found else []


def short(model: str) -> str:
    """Return a model's name without its organisation."""
    return model.rsplit("/", 1)[-1]


def size(n_params: float) -> str:
    """Return a model size as people say it."""
    return format_count(n_params)
