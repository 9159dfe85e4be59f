"""How measurements of many families scatter around one law: crossed random effects and a Gaussian process by family.

A row is a quantization of a checkpoint, of a model, of a suite (a family of models as somebody measured it). Let n, d
and p be log N, log D and log P over the law's reference, and g = log(row length / group size), 0 per channel. Around
the law's logarithm a row scatters with the sum of

    shared   method·(1, p, p²), data set·1, maker·(1, p), 1·g, 1·p²    the same in every suite
    suite    (1, d, n, p, g), and a Matérn process of (n, d)
    own      λ_suite · { model·(1, p, d), checkpoint, method in the suite·(1, p), row }

where each term is a normal effect with a standard deviation of its own. The maker of a file stands before a slash in
its ``settings``: ``bartowski/Q4_K_M``. λ_suite, log-normal, says how much noisier a suite is than others (one suite's
residuals scatter by 3%, another's by 60%). These are crossed random effects as in any mixed model; that p² and g stand
in it lets the cost of a bit differ from the law's power.

Matérn's smoothness is 3/2: the curves that a law misses bend sharply where training ends.
"""

from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

import numpy as np

from qidbayes.law.prior import Prior

_MEDIANS: Mapping[str, tuple[float, float]] = {
    "method_sd": (0.6, 0.5),
    "method_bits_sd": (1.0, 0.5),
    "method_curve_sd": (0.5, 0.5),
    "dataset_sd": (0.25, 0.6),
    "maker_sd": (0.3, 0.5),
    "maker_bits_sd": (0.5, 0.5),
    "group_size_sd": (0.3, 0.5),
    "bits_curve_sd": (1.0, 0.5),
    "suite_sd": (0.3, 0.3),
    "suite_tokens_sd": (0.12, 0.6),
    "suite_params_sd": (0.1, 0.6),
    "suite_bits_sd": (0.8, 0.6),
    "suite_group_size_sd": (0.1, 0.6),
    "smooth_sd": (0.2, 0.4),
    "length_params": (1.5, 0.5),
    "length_tokens": (1.5, 0.5),
    "model_sd": (0.2, 0.7),
    "model_bits_sd": (0.3, 0.7),
    "model_tokens_sd": (0.05, 0.7),
    "checkpoint_sd": (0.15, 0.7),
    "method_suite_sd": (0.3, 0.6),
    "method_suite_bits_sd": (0.5, 0.6),
    "sigma": (0.08, 0.8),
    "suite_scale_sd": (0.35, 0.2),
}
"""Median and log standard deviation of each number's log-normal prior, in units of log QiD per unit of its column."""
NUMBERS = tuple(_MEDIANS)
"""The numbers of the noise, in the order in which the density takes them."""
SHARED = (
    "method_sd", "method_bits_sd", "method_curve_sd", "dataset_sd", "maker_sd", "maker_bits_sd",
    "group_size_sd", "bits_curve_sd",
)  # fmt: skip
"""The standard deviations of the effects that are the same in every suite, by the kind of their columns."""
SUITE_SCALE = "suite_scale"
"""How much noisier each fitted suite is than others: λ."""

USUAL = -(2**31)
"""The code of the maker of a row whose settings name none, as other rows of its method: it has no effect."""

type Coordinates = Mapping[str, Any]
"""Where measurements stand, arrays of shape ``(rows,)``: n, d, p, g as ``log_params``, ``log_tokens``, ``log_bits`` and
``log_groups``, and the codes of ``suite``, ``model``, ``checkpoint``, ``method``, ``dataset`` and ``maker``."""


def priors() -> dict[str, Prior]:
    """Return the priors of the numbers, by name."""
    return {name: Prior("LogNormal", mu=float(np.log(m)), sigma=sd) for name, (m, sd) in _MEDIANS.items()}


def new_scales(spread: np.ndarray) -> np.ndarray:
    """Return λ of a suite that was not fitted: quantiles of its population in an order of no meaning, one a draw.

    Parameters
    ----------
    spread
        The draws of ``suite_scale_sd``; shape ``(draws,)``.
    """
    count = len(spread)
    normal = [NormalDist().inv_cdf((i + 0.5) / count) for i in np.random.default_rng(0).permutation(count)]
    return np.asarray(np.exp(spread * np.array(normal)))


def matern(distance: Any, xp: Any) -> Any:
    """Return Matérn's kernel of smoothness 3/2 (Rasmussen and Williams 2006, Eq. 4.17).

    Examples
    --------
    >>> matern(np.array([0.0, 1.0]), np).round(3).tolist()
    [1.0, 0.483]
    """
    r = np.sqrt(3.0) * xp.abs(distance)
    return (1.0 + r) * xp.exp(-r)


def within_suite(scale: Mapping[str, Any], a: Coordinates, b: Coordinates, suite_scale: Any, xp: Any) -> Any:
    """Return the covariance of two rows of one suite, less what all suites share and the rows' own errors.

    Parameters
    ----------
    scale
        The numbers by name, each a number, or of shape ``(draws, 1, 1)``.
    a, b
        Where the rows stand; shapes ``(…, rows of a)`` and ``(…, rows of b)``.
    suite_scale
        λ of the suite, as the numbers of `scale`.
    xp
        The array library: NumPy or `jax.numpy`.

    Returns
    -------
    array
        Shape ``(…, rows of a, rows of b)``.
    """

    p, g = (a[name][..., :, None] * b[name][..., None, :] for name in ("log_bits", "log_groups"))

    def same(name: str) -> Any:
        return (a[name][..., :, None] == b[name][..., None, :]) * 1.0

    def variance(name: str) -> Any:
        return scale[f"{name}_sd"] ** 2

    own = same("model") * variance("model_bits") * p
    own = own + same("method") * (variance("method_suite") + variance("method_suite_bits") * p)
    suite = variance("suite_bits") * p + variance("suite_group_size") * g
    return between_places(scale, a, b, suite_scale, xp) + suite + suite_scale**2 * own


def between_places(scale: Mapping[str, Any], a: Coordinates, b: Coordinates, suite_scale: Any, xp: Any) -> Any:
    """Return the part of `within_suite` that is of where checkpoints stand: the same in all rows of a checkpoint."""

    def product(name: str) -> Any:
        return a[name][..., :, None] * b[name][..., None, :]

    def apart(name: str) -> Any:
        return a[name][..., :, None] - b[name][..., None, :]

    def same(name: str) -> Any:
        return (a[name][..., :, None] == b[name][..., None, :]) * 1.0

    def variance(name: str) -> Any:
        return scale[f"{name}_sd"] ** 2

    near = matern(apart("log_params") / scale["length_params"], xp) * matern(
        apart("log_tokens") / scale["length_tokens"], xp
    )
    d, n = product("log_tokens"), product("log_params")
    suite = variance("suite") + variance("smooth") * near + variance("suite_tokens") * d + variance("suite_params") * n
    own = same("model") * (variance("model") + variance("model_tokens") * d) + same("checkpoint") * variance(
        "checkpoint"
    )
    return suite + suite_scale**2 * own


def at_itself(scale: Mapping[str, Any], a: Coordinates, suite_scale: Any) -> Any:
    """Return the diagonal of `within_suite` of rows with themselves; shape ``(…, rows)``."""

    def variance(name: str) -> Any:
        return scale[f"{name}_sd"] ** 2

    d, n, p, g = (a[name] ** 2 for name in ("log_tokens", "log_params", "log_bits", "log_groups"))
    suite = variance("suite") + variance("smooth") + variance("suite_bits") * p + variance("suite_tokens") * d
    suite = suite + variance("suite_params") * n + variance("suite_group_size") * g
    own = variance("model") + variance("model_bits") * p + variance("model_tokens") * d + variance("checkpoint")
    own = own + variance("method_suite") + variance("method_suite_bits") * p
    return suite + suite_scale**2 * own
