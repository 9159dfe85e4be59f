"""Turn the sampler's draws into the numbers that a fit keeps."""

from dataclasses import dataclass

import numpy as np
from scipy import special

from qidbayes.infer import measurement_error
from qidbayes.infer.draws import Draws
from qidbayes.infer.inputs import Inputs
from qidbayes.infer.shared_effects import shared_effects
from qidbayes.infer.untold_tokens import untold_tokens
from qidbayes.law import Law
from qidbayes.noise import unknown_tokens
from qidbayes.noise.coordinates import Fitted
from qidbayes.noise.families import SHARED_EFFECT, Families
from qidbayes.noise.family_kernel import SUITE_SCALE
from qidbayes.noise.random_effects import sample_effects
from qidbayes.noise.unknown_tokens import UNKNOWN
from qidbayes.posterior.constants import Curve, dimensions, raw_constants
from qidbayes.posterior.predictive_noise import MODEL_EFFECT, TRUE_LOG_QID
from qidbayes.seeds import Stream, generator
from qidbayes.table.groups import dimension


@dataclass(frozen=True)
class Numbers:
    """Every number that a fit keeps.

    Attributes
    ----------
    flat
        The draws by name, all chains one after the other; shape ``(draws,)`` or ``(draws, groups)``.
    dims, coords
        As in `qidbayes.posterior.posterior.Posterior`.
    """

    flat: dict[str, np.ndarray]
    dims: dict[str, str]
    coords: dict[str, tuple[str, ...]]


def assemble(rows: Inputs, law: Law, found: Draws, random_seed: int) -> Numbers:
    """Return the parameters, the law's constants, the noise's numbers, and the effects that were integrated out."""
    unconstrained = dict(found.unconstrained)
    whitened = unconstrained.pop(measurement_error.NAME, None)
    normal = {name: unconstrained.pop(name).reshape(-1, size) for name, size in rows.vectors.items()}
    flat = {name: v.reshape(-1, *v.shape[2:]) for name, v in _constrained(rows, unconstrained).items()}
    flat |= raw_constants(law, flat)
    coords = {dim: rows.coords[dim] for dim in dict.fromkeys(dimension(p.by) for p in law.priors.values() if p.by)}
    dims = {law.sampled_name(name): dimension(prior.by) for name, prior in law.priors.items() if prior.by}
    dims |= {law.sampled_name(name): dim for name, dim in dimensions(law).items() if name in law.define}
    dims |= {name: dim for name, dim in dimensions(law).items() if name in law.unit_powers}
    if rows.noise.by_draw and whitened is not None:
        noisy = rows.latent["latent_row"]
        values = whitened.reshape(-1, len(noisy))
        flat[TRUE_LOG_QID] = measurement_error.from_normal(rows.log_response[noisy], rows.variance[noisy], values, np)
        coords["row"], dims[TRUE_LOG_QID] = tuple(str(row) for row in noisy), "row"
    if isinstance(rows.noise, Families):
        flat[SUITE_SCALE] = np.exp(flat[f"{SUITE_SCALE}_sd"][:, None] * normal[SUITE_SCALE])
        if UNKNOWN in normal:
            flat[UNKNOWN] = np.exp(unknown_tokens.log_tokens(normal[UNKNOWN], special))
        measured = _measured(rows, flat)
        flat[SHARED_EFFECT] = shared_effects(rows, flat, *measured, random_seed)
        if rows.unknown[1]:
            flat[UNKNOWN] = untold_tokens(rows, flat, *measured, random_seed)
        fitted = Fitted(rows.frame)
        coords["suite"], dims[SUITE_SCALE] = fitted.labels("suite"), "suite"
        coords["effect"], dims[SHARED_EFFECT] = rows.noise.labels(fitted), "effect"
        if rows.unknown[1]:
            coords["untold"], dims[UNKNOWN] = rows.unknown[1], "untold"
    if any(level.name == "model" for level in rows.levels):
        flat[MODEL_EFFECT] = model_effect(rows, flat, whitened, coords, random_seed)
        coords["model"], dims[MODEL_EFFECT] = rows.coords["model"], "model"
    return Numbers(flat, dims, coords)


def _constrained(rows: Inputs, unconstrained: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Carry the draws from the real line to where the model has them; the same transforms as PyMC's."""
    law = rows.law
    priors = {law.sampled_name(name): prior for name, prior in law.priors.items()}
    priors |= {law.population_name(name): prior for name, prior in law.priors.items()}
    priors |= rows.errors
    return {n: priors[n].constrain(v) if n in priors else np.exp(v) for n, v in unconstrained.items()}


def _measured(rows: Inputs, flat: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return each draw's log responses, of noisy rows the drawn ones, and the variances of their errors."""
    shape = (len(flat["sigma"]), len(rows.log_response))
    log_response, variance = (np.broadcast_to(v, shape).copy() for v in (rows.log_response, rows.variance))
    if TRUE_LOG_QID in flat:
        noisy = rows.latent["latent_row"]
        log_response[:, noisy], variance[:, noisy] = flat[TRUE_LOG_QID], 0.0
    return log_response, variance


def model_effect(
    rows: Inputs,
    flat: dict[str, np.ndarray],
    whitened: np.ndarray | None,
    coords: dict[str, tuple[str, ...]],
    seed: int,
) -> np.ndarray:
    """Draw the models' effects, which the sampler integrated out, given each draw of the rest."""
    law = rows.law
    log_raw = {c: v + law.log_reference.get(c, 0.0) for c, v in rows.log_covariates.items()}
    mean = Curve(law, flat, coords).log_response(log_raw, rows.index)
    rng = generator(seed, Stream.MODEL_EFFECTS)
    normal = {level.name: rng.standard_normal((len(mean), level.size)) for level in rows.levels}
    if whitened is not None:  # the effects that noisy rows share are among what was sampled
        values, start = whitened.reshape(len(mean), -1), len(rows.latent["latent_row"])
        for level in rows.levels:
            groups = rows.latent[f"latent_{level.name}"]
            normal[level.name][:, groups] = values[:, start : start + len(groups)]
            start += len(groups)
    return sample_effects(
        rows.log_response - mean,
        np.square(flat["sigma"])[:, None] + rows.variance,
        rows.levels,
        {level.name: np.square(flat[f"{level.name}_sd"]) for level in rows.levels},
        normal,
    )["model"]
