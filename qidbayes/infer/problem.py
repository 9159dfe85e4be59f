"""A law on the rows of a table, as a function of all its parameters on the real line, one after the other."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from qidbayes.infer.design import Design
from qidbayes.posterior.constants import Curve, raw_constants
from qidbayes.table.groups import dimension

_STEP = 1e-4
_TRIES = 4
"""Points at which a step of a constant must change the law by the same, if it is linear."""


@dataclass(frozen=True)
class Problem:
    """The law on the rows of a table as a function of its parameters."""

    rows: Design

    @cached_property
    def sizes(self) -> list[int]:
        """How many numbers each parameter has."""
        priors = self.rows.law.priors.values()
        return [len(self.rows.coords[dimension(prior.by)]) if prior.by else 1 for prior in priors]

    @cached_property
    def columns(self) -> dict[str, slice]:
        """Which of the numbers are those of each parameter."""
        ends = np.cumsum(self.sizes)
        return {n: slice(e - s, e) for n, s, e in zip(self.rows.law.priors, self.sizes, ends, strict=True)}

    @cached_property
    def effects(self) -> np.ndarray:
        """By how much a step of each number from the origin changes the logarithm; shape ``(numbers, rows)``."""
        numbers = sum(self.sizes)
        return np.asarray(self.log_means(np.eye(numbers)) - self.log_means(np.zeros((1, numbers))))

    def is_linear(self, name: str) -> bool:
        """Return whether steps of a parameter change the logarithm by as much anywhere as they do at the origin."""
        where, shape = self.columns[name], (_TRIES, sum(self.sizes))
        rng = np.random.default_rng(0)
        start = self.start() + rng.normal(0.0, 0.5, shape)
        step = np.zeros(shape)
        step[:, where] = rng.normal(0.0, 1.0, (_TRIES, where.stop - where.start))
        moved, before = np.split(self.log_means(np.concatenate([start + step, start])), 2)
        return np.allclose(moved - before, step @ self.effects, rtol=1e-9, atol=1e-9)

    def slopes(self, x: np.ndarray) -> np.ndarray:
        """Return the derivative of the logarithm by each number, by central differences; shape ``(rows, numbers)``."""
        steps = _STEP * np.eye(len(x))
        return np.asarray(self.log_means(x + steps) - self.log_means(x - steps)).T / (2.0 * _STEP)

    def start(self) -> np.ndarray:
        """Return the middle of the priors; shape ``(numbers,)``."""
        rng = np.random.default_rng(0)
        priors = self.rows.law.priors.values()
        middles = [np.median(prior.unconstrain(prior.sample(1000, rng))) for prior in priors]
        return np.repeat(middles, self.sizes)

    def constants(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Return the parameters by their names in the model and the constants; x has the shape ``(draws, numbers)``."""
        law, found = self.rows.law, {}
        parts = np.split(x, np.cumsum(self.sizes)[:-1], axis=1)
        for (name, prior), values in zip(law.priors.items(), parts, strict=True):
            value = prior.constrain(values)
            found[law.sampled_name(name)] = value if prior.by else value[:, 0]
        return found | raw_constants(law, found)

    def log_mean(self, x: np.ndarray) -> np.ndarray:
        """Return the logarithm of the law's response; shape ``(rows,)``."""
        return np.asarray(self.log_means(x[None])[0])

    def log_means(self, x: np.ndarray) -> np.ndarray:
        """Return the same of several draws of the parameters; shape ``(draws, rows)``."""
        law = self.rows.law
        log_raw = {c: v + law.log_reference.get(c, 0.0) for c, v in self.rows.log_covariates.items()}
        with np.errstate(all="ignore"):  # a step far off may overflow
            found = Curve(law, self.constants(x), self.rows.coords).log_response(log_raw, self.rows.index)
        return np.broadcast_to(found, (len(x), *self.rows.log_response.shape))
