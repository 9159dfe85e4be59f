"""Are these numbers uniform? The simultaneous envelope of their empirical distribution function.

Säilynoja, Bürkner and Vehtari (2022, doi:10.1007/s11222-022-10090-6): at each z the count of n uniform numbers up to z
is binomial. The least tail probability it has anywhere is the statistic; its distribution is simulated, and the
envelope is the band of binomial quantiles that holds the whole function with the probability asked for.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from scipy.special import bdtr, bdtrik

_SIMULATIONS = 10_000


@dataclass(frozen=True)
class Envelope:
    """The envelope of the empirical distribution function of `size` uniform numbers, looked at in 1/n, 2/n, ….

    Examples
    --------
    >>> envelope = Envelope(100, prob=0.99)
    >>> even = (np.arange(100) + 0.5) / 100
    >>> envelope.margin(even) > 0, envelope.margin(0.8 * even) > 0
    (True, False)
    >>> round(envelope.p_value(0.8 * even), 2)
    0.0
    """

    size: int
    prob: float = 0.99

    @property
    def points(self) -> np.ndarray:
        """Where the function is looked at; shape ``(size - 1,)``."""
        return np.arange(1, self.size) / self.size

    @cached_property
    def band(self) -> tuple[np.ndarray, np.ndarray]:
        """The least and the largest value at each point that is inside."""
        # Some sample is exactly on the edge, and counts as inside, whatever the rounding.
        tail = (0.5 - 1e-9) * np.quantile(_null(self.size), 1.0 - self.prob)
        # A count is out if fewer than it, or more, have a probability below the tail's.
        lower = np.ceil(bdtrik(tail, self.size, self.points))
        upper = np.ceil(bdtrik(1.0 - tail, self.size, self.points))
        return lower / self.size, upper / self.size

    def ecdf(self, numbers: np.ndarray) -> np.ndarray:
        """Return the share of the numbers up to each point."""
        return _counts(numbers, self.size) / self.size

    def margin(self, numbers: np.ndarray) -> float:
        """Return how far the function stays from the envelope where it comes closest: negative if it leaves it."""
        lower, upper = self.band
        found = self.ecdf(numbers)
        # No function can be below 0 or above 1, so there it is not close to anything.
        room = np.where(lower > 0, found - lower, 1.0), np.where(upper < 1, upper - found, 1.0)
        return float(np.minimum(*room).min())

    def p_value(self, numbers: np.ndarray) -> float:
        """Return the share of uniform samples that stray at least as far, somewhere."""
        null = _null(self.size)
        return float((1 + np.searchsorted(null, _statistic(numbers, self.size), side="right")) / (1 + len(null)))


@lru_cache(maxsize=16)
def _null(size: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.sort([_statistic(rng.uniform(size=size), size) for _ in range(_SIMULATIONS)])


def _counts(numbers: np.ndarray, size: int) -> np.ndarray:
    assert len(numbers) == size
    return np.searchsorted(np.sort(numbers), np.arange(1, size) / size, side="right").astype(float)


def _statistic(numbers: np.ndarray, size: int) -> float:
    """Return twice the smallest tail probability, over both tails and all points."""
    counts, points = _counts(numbers, size), np.arange(1, size) / size
    below, above = bdtr(counts, size, points), 1.0 - bdtr(counts - 1.0, size, points)
    # For a count of none, "none or more" is certain; bdtr(−1) is NaN.
    return 2.0 * float(np.minimum(below, np.where(counts > 0, above, 1.0)).min())
