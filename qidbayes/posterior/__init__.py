"""Asking a fit: intervals, predictions, tokens to a threshold, projections. Needs NumPy and polars, no sampler."""

from qidbayes.posterior.fit import Fit, load_fit
from qidbayes.posterior.point import Point, published

__all__ = ["Fit", "Point", "load_fit", "published"]
