"""Asking a fit: intervals, predictions, tokens to a threshold, projections. Needs NumPy and polars, no sampler."""

from qidbayes.posterior.fit import Fit, load_fit
from qidbayes.posterior.point import PointEstimate, published
from qidbayes.posterior.stack import Stack

__all__ = ["Fit", "PointEstimate", "Stack", "load_fit", "published"]
