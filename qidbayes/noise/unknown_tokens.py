"""Training tokens that nobody tells: flat in log D between two ends, and sampled with the rest."""

from typing import Any

import numpy as np

BETWEEN = (1e11, 1e14)
"""The ends, in tokens: what released models were trained on in 2020 to 2026, and twice as much again."""
UNKNOWN = "unknown_tokens"
"""The standard normals that unknown tokens are sampled as, and their draws, in tokens."""


def log_tokens(normal: Any, xp: Any) -> Any:
    """Return log tokens that are uniform between the ends, from standard normals.

    Examples
    --------
    >>> from scipy import special
    >>> float(np.exp(log_tokens(np.array(0.0), special)).round(-9))
    3162000000000.0
    """
    low, high = np.log(BETWEEN)
    return low + (high - low) * 0.5 * (1.0 + xp.erf(normal / np.sqrt(2.0)))
