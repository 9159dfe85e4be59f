"""What the equation misses: a Gaussian process over runs and quantizations, and what it says of new measurements.

Measurement i is of run r_i (a checkpoint of a model of a suite) at quantization q_i (a bit width by a method). Around
the law's logarithm it scatters with the covariance σ²·1[i = j] + R(r_i, r_j)·Q(q_i, q_j), where

    R = 1[suite]·(suite_sd² + smooth_sd²·k(Δ log N / length_params)·k(Δ log D / length_tokens))
        + 1[model]·model_sd² + 1[checkpoint]·checkpoint_sd²
    Q = k(Δ log P / length_bits)·(1 if of one kind, else similarity)

and k is Matérn's kernel of smoothness 5/2. A process whose slopes wander adds `walk_kernel` to R. What the law misses
at one checkpoint is missed by all its quantizations, the more alike the nearer their widths; it drifts along a run and
over sizes; and away from the data it is anything that its standard deviations allow (Kennedy and O'Hagan 2001). Nothing
here knows of PyMC: the same functions serve the model, on PyTensor, and the questions to a saved fit, on NumPy.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

SCALES = ("smooth_sd", "suite_sd", "model_sd", "checkpoint_sd")
LENGTHS = ("length_params", "length_tokens", "length_bits")
SLOPES = ("model_tokens_sd", "walk_sd")
SIMILARITY = "similarity"

type Coordinates = Mapping[str, Any]
"""Where measurements stand, arrays of shape ``(rows,)``: ``log_params``, ``log_tokens``, ``log_bits`` and the codes of
``suite``, ``model``, ``checkpoint`` and ``kind``."""


def covariance(scale: Mapping[str, Any], a: Coordinates, b: Coordinates, xp: Any) -> Any:
    """Return R·Q between measurements; shape ``(…, rows of a, rows of b)``.

    Parameters
    ----------
    scale
        What `SCALES`, `SLOPES`, `LENGTHS` and `SIMILARITY` name, each broadcasting with ``(rows of a, rows of b)``;
        what is missing is not part of the covariance.
    xp
        The array library: NumPy or PyTensor.
    """
    return run_kernel(scale, a, b, xp) * quantization_kernel(scale, a, b, xp)


def run_kernel(scale: Mapping[str, Any], a: Coordinates, b: Coordinates, xp: Any) -> Any:
    """Return R; see `covariance`."""
    found = suite_kernel(scale, a, b, xp)
    for group in ("model", "checkpoint"):
        if f"{group}_sd" in scale:
            found = found + same(a, b, group, xp) * scale[f"{group}_sd"] ** 2
    return found + walk_kernel(scale, a, b, xp) if "walk_sd" in scale else found


def walk_kernel(scale: Mapping[str, Any], a: Coordinates, b: Coordinates, xp: Any) -> Any:
    """Return what R has more where slopes in log D wander: the covariance of runs' slopes and of a random walk of them.

    With d = log D over the middle of the fitted rows,

        1[model]·model_tokens_sd²·d·d' + ½·walk_sd²·(1[suite] + 1[model])·W(d, d')

    where W is that of an integrated Wiener process that starts at 0 and goes both ways: m²(3M − m)/6, m and M the
    smaller and the larger of \\|d\\| and \\|d'\\|, and 0 on either side of it (Wahba 1978). So `walk_sd` is how far a
    slope goes in an e-folding of tokens, half of its variance in all runs of a suite alike and half in each by itself.
    """
    model = same(a, b, "model", xp)
    walk = 0.5 * scale["walk_sd"] ** 2 * (same(a, b, "suite", xp) + model)
    slope, walked = between_tokens(a["log_tokens"], b["log_tokens"], xp)
    return model * scale["model_tokens_sd"] ** 2 * slope + walk * walked


def between_tokens(a: Any, b: Any, xp: Any) -> tuple[Any, Any]:
    """Return d·d' and W between two arrays of log tokens; see `walk_kernel`.

    Examples
    --------
    >>> slope, walk = between_tokens(np.array([2.0]), np.array([-1.0, 1.0, 2.0]), np)
    >>> slope.tolist(), walk.round(3).tolist()
    ([[-2.0, 2.0, 4.0]], [[0.0, 0.833, 2.667]])
    """
    slope = a[:, None] * b[None, :]
    near, far = (take(xp.abs(a)[:, None], xp.abs(b)[None, :]) for take in (xp.minimum, xp.maximum))
    return slope, 0.5 * (1.0 + xp.sign(slope)) * near**2 * (3.0 * far - near) / 6.0


def suite_kernel(scale: Mapping[str, Any], a: Coordinates, b: Coordinates, xp: Any) -> Any:
    """Return R without the effects of models and checkpoints: what depends on suite, N and D."""
    near = matern(_apart(a, b, "log_params") / scale["length_params"], xp)
    near = near * matern(_apart(a, b, "log_tokens") / scale["length_tokens"], xp)
    return same(a, b, "suite", xp) * (scale["suite_sd"] ** 2 + scale["smooth_sd"] ** 2 * near)


def quantization_kernel(scale: Mapping[str, Any], a: Coordinates, b: Coordinates, xp: Any) -> Any:
    """Return Q; see `covariance`."""
    if SIMILARITY not in scale:
        return 1.0
    alike = scale[SIMILARITY] + (1.0 - scale[SIMILARITY]) * same(a, b, "kind", xp)
    return matern(_apart(a, b, "log_bits") / scale["length_bits"], xp) * alike


def matern(distance: Any, xp: Any) -> Any:
    """Return Matérn's kernel of smoothness 5/2 (Rasmussen and Williams 2006, Eq. 4.17).

    Examples
    --------
    >>> matern(np.array([0.0, 1.0]), np).round(3).tolist()
    [1.0, 0.524]
    """
    r = np.sqrt(5.0) * xp.abs(distance)
    return (1.0 + r + r**2 / 3.0) * xp.exp(-r)


def _apart(a: Coordinates, b: Coordinates, name: str) -> Any:
    return a[name][:, None] - b[name][None, :]


def same(a: Coordinates, b: Coordinates, group: str, xp: Any) -> Any:
    """Return 1 where two measurements are of one group, 0 elsewhere; shape ``(rows of a, rows of b)``."""
    return 1.0 - xp.minimum(1.0, xp.abs(_apart(a, b, group)))


def prior_variance(scale: Mapping[str, np.ndarray], asked: Coordinates) -> np.ndarray:
    """Return the variance of the discrepancy at measurements that nothing is known of; shape ``(draws, rows or 1)``."""
    found = np.asarray(sum(scale[name] ** 2 for name in SCALES if name in scale))[:, None]
    if "walk_sd" not in scale:
        return found
    far = np.abs(asked["log_tokens"])
    slope, walk = (np.square(scale[name])[:, None] for name in SLOPES)
    return np.asarray(found + slope * far**2 + walk * far**3 / 3.0)
