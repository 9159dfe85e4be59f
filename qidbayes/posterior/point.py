"""One value for each constant: a published point, or least squares. Answers like a fit, without intervals."""

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np
import polars as pl

from qidbayes.errors import InputError
from qidbayes.law.law import Law
from qidbayes.law.read import load_law
from qidbayes.notebook import html_equation, html_table
from qidbayes.posterior import query
from qidbayes.posterior.answers import Kind, OneLaw, Question
from qidbayes.posterior.band import answered
from qidbayes.posterior.constants import Curve, dimensions
from qidbayes.posterior.of_loss import not_quantized, qid_of_law
from qidbayes.posterior.threshold import log_tokens, threshold_query


class PointEstimate(OneLaw):
    """A law with one value for each of its constants, in raw counts.

    Parameters
    ----------
    law
        The law.
    constants
        For each of the law's constants a number, or one for each group label. Where a paper gives only some of them,
        the point can be read but not asked.
    label
        What the point is called in tables and figures.

    Examples
    --------
    >>> paper = published("per-bit")
    >>> round(paper.predict(n_params=7e9, tokens=100e12, bits=4)["median"][0], 2)
    1.52
    """

    def __init__(self, law: Law, constants: Mapping[str, float | Mapping[str, float]], label: str) -> None:
        self.law = law
        self.constants = dict(constants)
        self.label = label

    def _predict(self, question: Question) -> pl.DataFrame:
        queries, values, response = question.queries, question.values, question.response
        own = response in (None, self.law.response)
        if not own and self.law.response != "loss":
            raise InputError(f"{self.label} answers with {self.law.response!r}, not {response!r}")
        if response == "loss_16bit" and not own:
            queries, values = not_quantized(self.law, queries, values)
        curve = self.curve()
        asked = query.build(curve, queries, values)
        if response == "qid" and not own:
            value = qid_of_law(curve, asked.frame)[0]
        else:
            value = np.exp(curve.log_response(asked.log_covariates, asked.index))[0]
        return answered(asked.frame, median=np.broadcast_to(value, asked.frame.height), lower=None, upper=None)

    def beside(self, frame: pl.DataFrame, kind: Kind, count: int) -> np.ndarray:  # noqa: ARG002
        """Return the response where another law was asked, nats per token; shape ``(1, queries)``."""
        return self.predict(frame.select(query.needs(self.law)))["median"].to_numpy()[None]

    def _tokens(self, values: Mapping[str, Any], kind: Kind, ci_prob: float) -> pl.DataFrame:  # noqa: ARG002
        curve = self.curve()
        asked, log_qid = threshold_query(curve, values)
        tokens = np.exp(log_tokens(curve, asked, log_qid)[0])
        return answered(asked.frame, tokens=tokens, lower=None, upper=None, never=np.isinf(tokens).astype(float))

    def curve(self) -> Curve:
        """Return the law with these constants.

        Raises
        ------
        InputError
            If the point does not give every constant.
        """
        missing = [name for name in self.law.constants if name not in self.constants]
        if missing:
            have = ", ".join(self.constants)
            raise InputError(
                f"{self.label} gives {have} but not {', '.join(missing)}, so it cannot be asked for numbers"
            )
        coords: dict[str, tuple[str, ...]] = {}
        values = {}
        for name, dim in ((n, dimensions(self.law).get(n)) for n in self.law.constants):
            constant = self.constants[name]
            if isinstance(constant, Mapping):
                if dim is None or coords.setdefault(dim, tuple(constant)) != tuple(constant):
                    raise InputError(f"{self.label}: {name} is given for groups {', '.join(constant)}, unlike the law")
                values[name] = np.array([list(constant.values())], dtype=float)
            elif dim is not None:
                raise InputError(f"{self.label}: {name} must be given for each {dim}")
            else:
                values[name] = np.array([constant], dtype=float)
        return Curve(self.law, values, coords)

    def __repr__(self) -> str:
        return f"PointEstimate({self.label}: {self.constants})"

    def _repr_html_(self) -> str:
        rows = []
        for name, constant in self.constants.items():
            groups = constant.items() if isinstance(constant, Mapping) else [("", constant)]
            rows += [[name, group, f"{value:.4g}"] for group, value in groups]
        table = html_table(["constant", "group", "value"], rows)
        return f"<p><b>{escape(self.label)}</b>: {escape(self.law.source)}</p>{html_equation(self.law.latex())}{table}"


def published(law: str | Law, point: str | None = None) -> PointEstimate:
    """Return the constants a paper gives for a law: its first named point, or the one named.

    Raises
    ------
    InputError
        If the law has no published point, or none of that name.

    Examples
    --------
    >>> published("unified").constants["gamma"]
    5.4967
    """
    law = load_law(law) if isinstance(law, str) else law
    points = dict(law.published)
    if not points:
        raise InputError(f"law {law.name!r} has no published point")
    point = next(iter(points)) if point is None else point
    if point not in points:
        raise InputError(f"law {law.name!r} has no published point {point!r}; it has {', '.join(points)}")
    return PointEstimate(law, points[point], f"{law.name}:{point}")
