"""Rows that measure one thing again: of them the mean, how many there are and how they scatter is all that counts."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Replicates:
    """Which rows are of one place.

    Attributes
    ----------
    first
        The first row of each place, in the order of the rows; shape ``(places,)``.
    of_row
        The place of each row; shape ``(rows,)``.
    """

    first: np.ndarray
    of_row: np.ndarray

    @property
    def count(self) -> np.ndarray:
        """How many rows each place has; shape ``(places,)``."""
        return np.bincount(self.of_row, minlength=len(self.first))

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Return the mean of each place; shape ``(…, rows)`` to ``(…, places)``."""
        return np.asarray(self.sum(values) / self.count)

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Return the sum of each place; shape ``(…, rows)`` to ``(…, places)``."""
        if len(self.first) == len(self.of_row):
            return values
        order = np.argsort(self.of_row, kind="stable")
        start = np.searchsorted(self.of_row[order], np.arange(len(self.first)))
        return np.asarray(np.add.reduceat(values[..., order], start, axis=-1))


def replicates(keys: Iterable[np.ndarray], alone: np.ndarray) -> Replicates:
    """Find rows that agree on every key.

    Parameters
    ----------
    keys
        Numbers or codes, each of shape ``(rows,)``.
    alone
        Rows that are a place of their own, whatever the keys say; shape ``(rows,)``.

    Examples
    --------
    >>> found = replicates([np.array([4, 3, 4]), np.array([0, 0, 0])], np.zeros(3, dtype=bool))
    >>> found.first.tolist(), found.of_row.tolist(), found.count.tolist()
    ([0, 1], [0, 1, 0], [2, 1])
    """
    code = np.where(alone, np.arange(1, len(alone) + 1), 0)
    for key in keys:
        _, code = np.unique(code, return_inverse=True)
        _, level = np.unique(key, return_inverse=True)
        code = code * (level.max(initial=0) + 1) + level
    _, first, of_row = np.unique(code, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))
    return Replicates(np.sort(first), rank[of_row])
