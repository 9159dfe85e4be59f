"""Tokens that nobody tells, drawn anew given all else: a Gibbs step after NUTS, which mixes slowest in them.

Given the numbers and the effects that all suites share, suites are independent, so that only the rows of suites with
such models count. A step proposes log D from its prior, flat between two ends, and takes it with the ratio of these
densities (Metropolis within Gibbs; Gelman et al. 2013, 11.3). It leaves the posterior as it is, whatever draw it starts
from.
"""

from collections.abc import Mapping

import jax
import numpy as np
from jax import numpy as jnp

from qidbayes.infer.inputs import Inputs
from qidbayes.noise.families import SHARED_EFFECT
from qidbayes.noise.family_density import moments, suites
from qidbayes.noise.family_kernel import NUMBERS, SUITE_SCALE
from qidbayes.noise.unknown_tokens import BETWEEN, UNKNOWN
from qidbayes.posterior.constants import Curve
from qidbayes.seeds import Stream, generator

SWEEPS = 20
"""Steps that each model's tokens take."""
_TOGETHER = 100
"""Draws whose densities are worked out at a time."""


def untold_tokens(
    rows: Inputs, flat: Mapping[str, np.ndarray], log_response: np.ndarray, variance: np.ndarray, seed: int
) -> np.ndarray:
    """Return tokens of each model that tells none, drawn anew given each draw of the rest; shape ``(draws, models)``.

    Parameters
    ----------
    rows
        What was fitted.
    flat
        The draws by name, with the effects that all suites share; shape ``(draws,)`` or ``(draws, groups)``.
    log_response, variance
        The log response of each row, and the variance of its measurement error; shape ``(draws, rows)``.
    seed
        The fit's.
    """
    log_tokens = np.log(flat[UNKNOWN])
    rng, (low, high) = generator(seed, Stream.UNTOLD_TOKENS), (float(np.log(end)) for end in BETWEEN)
    suite = rows.coordinates["suite"]
    density = _Density(rows, flat, log_response, variance, np.flatnonzero(np.isin(suite, suite[rows.unknown[0][0]])))
    known = density(log_tokens)
    for model in np.tile(np.arange(log_tokens.shape[1]), SWEEPS):
        proposed = log_tokens.copy()
        proposed[:, model] = rng.uniform(low, high, len(log_tokens))
        found = density(proposed)
        taken = np.log(rng.uniform(size=len(found))) < found - known
        log_tokens[taken], known[taken] = proposed[taken], found[taken]
    return np.exp(log_tokens)


class _Density:
    """The log density of the rows of whole suites, given each draw and the log tokens of the models that tell none."""

    def __init__(
        self,
        rows: Inputs,
        flat: Mapping[str, np.ndarray],
        log_response: np.ndarray,
        variance: np.ndarray,
        members: np.ndarray,
    ) -> None:
        self._law, self._flat, self._coords = rows.law, flat, rows.coords
        reference = rows.law.log_reference
        self._log_raw = {c: (v + reference.get(c, 0.0))[members] for c, v in rows.log_covariates.items()}
        self._index = {dim: codes[members] for dim, codes in rows.index.items()}
        self._reference = reference.get("D", 0.0)
        at, of = rows.unknown[0]
        here = np.isin(at, members)
        self._at, self._of = np.searchsorted(members, at[here]), of[here]
        shared = rows.partition.arrays["shared"][members]
        self._known = log_response[:, members] - flat[SHARED_EFFECT] @ shared.T
        coordinates = {name: values[members] for name, values in rows.coordinates.items()}
        parts = suites(coordinates, np.empty((len(members), 0)), np.empty(0, dtype=int))
        numbers = np.stack([flat[name] for name in NUMBERS], axis=1)

        def one(drawn: tuple[jax.Array, ...]) -> jax.Array:
            residual, tokens, own, number, suite_scale = drawn
            scale = dict(zip(NUMBERS, number, strict=True)) | {SUITE_SCALE: suite_scale}
            data = {**arrays, "at_log_tokens": tokens}
            found: jax.Array = -0.5 * moments(residual, own, scale, parts.buckets, data, jnp)[0]
            return found

        with jax.enable_x64(True):
            arrays = {name: jnp.asarray(values) for name, values in parts.arrays.items()}
            self._given = tuple(jnp.asarray(values) for values in (variance[:, members], numbers, flat[SUITE_SCALE]))
            self._density = jax.jit(lambda drawn: jax.lax.map(one, drawn, batch_size=_TOGETHER))

    def __call__(self, log_tokens: np.ndarray) -> np.ndarray:
        log_d = np.tile(self._log_raw["D"], (len(log_tokens), 1))
        log_d[:, self._at] = log_tokens[:, self._of]
        mean = Curve(self._law, self._flat, self._coords).log_response({**self._log_raw, "D": log_d}, self._index)
        with jax.enable_x64(True):
            drawn = (jnp.asarray(self._known - mean), jnp.asarray(log_d - self._reference), *self._given)
            return np.array(self._density(drawn))
