"""The normal of the effects that all suites share, given the fitted rows and each draw of the rest.

A fit keeps one draw of these effects for each draw of the rest. Where further rows say much of an effect that the
fitted ones hardly know, as of a method that two suites used at one width, the normal of which it is a draw is needed.
"""

from collections.abc import Mapping

import numpy as np

from qidbayes.noise.family_density import Suites, moments
from qidbayes.noise.family_kernel import NUMBERS, SUITE_SCALE


def shared_given(
    parts: Suites,
    scale: Mapping[str, np.ndarray],
    residual: np.ndarray,
    variance: np.ndarray,
    log_tokens: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the effects' mean and a root of their covariance, given each draw.

    Parameters
    ----------
    parts
        The fitted rows, suite by suite.
    scale
        The draws of the numbers, shape ``(draws,)``, and of the suites' scales.
    residual, variance
        What the law leaves over of the rows, and the variance of their own errors beside sigma²; ``(draws, rows)``.
    log_tokens
        Log D of the rows over the law's reference; shape ``(draws, rows)``.

    Returns
    -------
    mean, root
        Shapes ``(draws, effects)`` and ``(draws, effects, effects)``: an effect is the mean, and the root times
        standard normals.
    """
    found = []
    for draw in range(len(residual)):
        at = {name: scale[name][draw] for name in (*NUMBERS, SUITE_SCALE)}
        data = {**parts.arrays, "at_log_tokens": log_tokens[draw]}
        _, precision, score, sd = moments(residual[draw], variance[draw], at, parts.buckets, data, np)
        inverse = np.linalg.inv(np.linalg.cholesky(precision))
        found.append((sd * (inverse.T @ (inverse @ score)), sd[:, None] * inverse.T))
    return np.stack([mean for mean, _ in found]), np.stack([root for _, root in found])
