"""Stacking: the mixture of predictive distributions with the best log score on held-out points.

Source: Yao, Vehtari, Simpson and Gelman (2018), Using stacking to average Bayesian predictive distributions.
"""

import numpy as np

_GAP = 1e-7
_STEPS = 200_000


def stacking_weights(log_density: np.ndarray) -> np.ndarray:
    """Return the weights on the simplex that maximise the mean of log Σ_k w_k p_ik.

    The problem is convex, and that of mixture proportions: the EM step w_k ← w_k · mean_i(p_ik / Σ_j w_j p_ij) climbs
    at each step, and max_k mean_i(p_ik / Σ_j w_j p_ij) − 1 bounds what is left to climb, so that it is known when to
    stop: within 1e-7 nats a point.

    Parameters
    ----------
    log_density
        Of each held-out point under each law, shape ``(points, laws)``.

    Examples
    --------
    >>> stacking_weights(np.log([[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.1, 0.9]])).round(4).tolist()
    [0.5, 0.5]
    """
    density = np.exp(log_density - log_density.max(axis=1, keepdims=True))
    weights = np.full(density.shape[1], 1.0 / density.shape[1])
    for _ in range(_STEPS):
        gain = (density / (density @ weights)[:, None]).mean(axis=0)
        weights = weights * gain
        if gain.max() - 1.0 < _GAP:
            break
    return np.asarray(weights / weights.sum())
