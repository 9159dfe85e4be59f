"""The effects that all suites share, drawn given each draw of the numbers that the sampler knew."""

from collections.abc import Mapping

import jax
import numpy as np
from jax import numpy as jnp

from qidbayes.infer.inputs import Inputs
from qidbayes.noise.family_density import Suites, draw_shared
from qidbayes.noise.family_kernel import NUMBERS, SUITE_SCALE
from qidbayes.noise.unknown_tokens import UNKNOWN
from qidbayes.posterior.constants import Curve
from qidbayes.seeds import Stream, generator


def shared_effects(
    rows: Inputs, flat: Mapping[str, np.ndarray], log_response: np.ndarray, variance: np.ndarray, seed: int
) -> np.ndarray:
    """Return a draw of the shared effects for each draw of the rest; shape ``(draws, effects)``.

    Parameters
    ----------
    rows
        What was fitted.
    flat
        The draws by name; shape ``(draws,)`` or ``(draws, groups)``.
    log_response, variance
        The log response of each row, and the variance of its measurement error; shape ``(draws, rows)``.
    seed
        The fit's.
    """
    law, parts = rows.law, rows.partition
    assert isinstance(parts, Suites)
    log_raw = {c: v + law.log_reference.get(c, 0.0) for c, v in rows.log_covariates.items()}
    count = len(log_response)
    at_tokens = np.broadcast_to(rows.coordinates["log_tokens"], (count, len(rows.log_response)))
    if rows.unknown[1]:
        at, model = rows.unknown[0]
        log_raw["D"] = np.tile(log_raw["D"], (count, 1))
        log_raw["D"][:, at] = np.log(flat[UNKNOWN])[:, model]
        at_tokens = log_raw["D"] - law.log_reference.get("D", 0.0)
    mean = Curve(law, flat, rows.coords).log_response(log_raw, rows.index)
    normal = generator(seed, Stream.SHARED_EFFECTS).standard_normal((count, parts.arrays["shared"].shape[1]))
    numbers = np.stack([flat[name] for name in NUMBERS], axis=1)

    def one(drawn: tuple[jax.Array, ...]) -> jax.Array:
        residual, own, number, suite_scale, tokens, steps = drawn
        scale = dict(zip(NUMBERS, number, strict=True)) | {SUITE_SCALE: suite_scale}
        data = {**arrays, "at_log_tokens": tokens}
        found: jax.Array = draw_shared(residual, own, scale, parts.buckets, data, steps, jnp)
        return found

    with jax.enable_x64(True):
        arrays = {name: jnp.asarray(values) for name, values in parts.arrays.items()}
        drawn = (log_response - mean, variance, numbers, flat[SUITE_SCALE], at_tokens, normal)
        found = jax.jit(lambda all_: jax.lax.map(one, all_))(tuple(jnp.asarray(values) for values in drawn))
        return np.asarray(found)
