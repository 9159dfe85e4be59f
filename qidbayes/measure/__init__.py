"""Measuring: a plan in, a table of losses out. Reading a plan needs no torch; carrying one out does."""

from qidbayes.measure.plan.plan import Plan
from qidbayes.measure.plan.read import load_plan

__all__ = ["Plan", "load_plan"]
