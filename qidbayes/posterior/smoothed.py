"""Importance weights smoothed by Pareto's distribution, and the shape k that tells whether they can be trusted.

Vehtari, Simpson, Gelman, Yao and Gabry (2024), arXiv:1507.02646; the distribution is fitted to the largest weights as
in Zhang and Stephens (2009). The same as `arviz_stats`, whose import takes longer than the answers that rest on it.
"""

import numpy as np


def smoothed(log_weight: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the logarithms of the smoothed weights, 0 for the largest, and Pareto's k.

    Parameters
    ----------
    log_weight
        The logarithms of the weights, up to a constant; shape ``(draws,)``.

    Returns
    -------
    tuple
        k is infinite where the largest weights are too few, or all the same, for a distribution to be fitted.

    Examples
    --------
    >>> even, k = smoothed(np.log(np.linspace(1, 2, 1000)))
    >>> k < 0.5
    True
    """
    found = log_weight - log_weight.max()
    count = len(found)
    length = int(min(0.2 * count, 3.0 * np.sqrt(count)))
    order = np.argsort(found)
    tail = order[-length:]
    least = max(found[order[-length - 1]] if count > length else -np.inf, np.log(np.finfo(float).tiny))
    above = np.exp(found[tail]) - np.exp(least)
    if length < 5 or above[int(length / 4 + 0.5) - 1] <= above[0]:
        return found, np.inf
    k, sigma = _pareto(above)
    at = (np.arange(length) + 0.5) / length
    excess = sigma * np.expm1(-k * np.log1p(-at)) / k if k else -sigma * np.log1p(-at)
    found = found.copy()
    found[tail] = np.minimum(np.log(excess + np.exp(least)), 0.0)
    return found - found.max(), float(k)


def _pareto(above: np.ndarray) -> tuple[float, float]:
    """Return shape and scale of a generalised Pareto distribution of sorted values, k drawn towards 0.5."""
    count, prior, strength = len(above), 3.0, 10.0
    nodes = 30 + int(np.sqrt(count))
    theta = 1.0 - np.sqrt(nodes / (np.arange(1, nodes + 1) - 0.5))
    theta = theta / (prior * above[int(count / 4 + 0.5) - 1]) + 1.0 / above[-1]
    shape = np.log1p(-theta[:, None] * above).mean(axis=1)
    height = count * (np.log(-theta / shape) - shape - 1.0)
    weight = 1.0 / np.exp(height - height[:, None]).sum(axis=1)
    keep = weight >= 10.0 * np.finfo(float).eps
    theta, weight = theta[keep], weight[keep] / weight[keep].sum()
    middle = float((theta * weight).sum())
    k = float(np.log1p(-middle * above).mean())
    sigma = -k / middle
    return (count * k + strength * 0.5) / (count + strength), sigma
