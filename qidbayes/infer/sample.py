"""NumPyro's NUTS on a compiled program that takes the data as arguments."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from numpyro.infer import NUTS

from qidbayes.infer import latent, pooling
from qidbayes.infer.bridge import log_density
from qidbayes.infer.chains import BLOCK, Job, Program, Progress, Threads, Together
from qidbayes.infer.convergence import convergence
from qidbayes.infer.design import Design
from qidbayes.infer.model import build_model, model_data, sampled_names
from qidbayes.infer.problem import Problem
from qidbayes.law.prior import Prior
from qidbayes.posterior.diagnostics import Convergence
from qidbayes.resources import cache_folder

_DENSE_UP_TO = 100
"""The most parameters whose covariance is learnt; beyond it, only their variances."""
_LEARNT_AT_ONCE = 20
"""The first adaptation window has 25 draws: the covariance of more parameters than this has to be regularised in it."""
_PROGRAMS: dict[Any, Program] = {}

_SMALLER_STEPS = (0.97, 0.99, 0.997)
_STATS = ("diverging", "energy", "n_steps", "acceptance_rate", "lp")

type Values = Mapping[str, np.ndarray]
"""The parameters on the real line, as `Draws.unconstrained` has them."""


@dataclass(frozen=True)
class Draws:
    """What the sampler gives back.

    Attributes
    ----------
    unconstrained
        The parameters on the real line, by their names in the model, with the populations and standard deviations of
        those that are partially pooled; shape ``(chains, draws)`` or ``(chains, draws, groups)``. Under `latent.NAME`,
        what noisy rows are drawn from.
    stats
        For each draw, by ArviZ's names: ``diverging``, ``energy``, ``n_steps``, ``acceptance_rate``, ``lp``; shape
        ``(chains, draws)``.
    target_accept
        The acceptance probability the steps were adapted to in the end.
    convergence
        How well each number is known, by its label.
    """

    unconstrained: Values
    stats: Mapping[str, np.ndarray]
    target_accept: float
    convergence: Mapping[str, Convergence]


def sample(
    design: Design,
    *,
    draws: int,
    tune: int,
    chains: int,
    target_accept: float,
    random_seed: int,
    progress: Progress | None = None,
    most: int | None = None,
) -> Draws:
    """Sample the posterior of a law given a design.

    A program is compiled once for a law and the shapes of its data; later fits in this process reuse it, and later
    processes find it in the compilation cache. Where transitions diverge, the run is repeated with smaller steps. While
    R-hat or ESS is out of bounds, the chains draw on, by as many again each time, up to `most`.
    """
    _configure()
    arrays = model_data(design)
    program = _program(design, arrays, tune)
    data = [jnp.asarray(arrays[name]) for name in program.data_names]
    rng = np.random.default_rng(random_seed)
    start = [jnp.asarray(v) for v in _start(design, program.shapes, chains, rng)]
    keys = jax.random.split(jax.random.key(random_seed), chains)
    begin = Threads if jax.default_backend() == "cpu" else Together

    def known(leaves: list[np.ndarray]) -> Values:
        drawn = dict(zip(program.names, leaves[len(_STATS) :], strict=True))
        return pooling.groups_and_populations(design.law, drawn, design.centring)

    for accept in (target_accept, *(a for a in _SMALLER_STEPS if a > target_accept)):
        run = begin(Job(program, keys, start, data, accept, progress))
        leaves = [v[:, tune:] for v in run.advance(tune + draws)]
        while True:
            values, diverging = known(leaves), leaves[0]
            converged = convergence(design, values)
            enough = all(one.enough for one in converged.values())
            if enough or diverging.any() or diverging.shape[1] >= (most or draws):
                break
            leaves = [np.concatenate(parts, axis=1) for parts in zip(leaves, run.advance(draws), strict=True)]
        if not diverging.any():
            break
    return Draws(values, dict(zip(_STATS, leaves, strict=False)), accept, converged)


def _program(design: Design, arrays: Mapping[str, np.ndarray], tune: int) -> Program:
    shapes = tuple((name, v.shape) for name, v in arrays.items())
    levels = tuple((level.name, level.regular) for level in design.levels)
    # How many groups there are is part of the program only where it works on rows.
    sizes = tuple((name, len(labels)) for name, labels in design.coords.items()) if "root" not in arrays else ()
    blocks = design.reduced.shape if design.smooth else None
    # Where the reference is, is in the data.
    law = replace(design.law, reference=dict.fromkeys(design.law.reference, 1.0))
    key = (law.fingerprint(), shapes, levels, sizes, blocks, tuple(Problem(design).sizes), tune)
    if key not in _PROGRAMS:
        _PROGRAMS[key] = _compile(design, tune)
    return _PROGRAMS[key]


def _compile(design: Design, tune: int) -> Program:
    model = build_model(design)
    density, data_names = log_density(model)
    names = sampled_names(design)
    initial = model.initial_point()
    shapes = [np.shape(initial[v.name]) for v in model.value_vars]
    # What noisy rows are drawn from is nearly independent standard normals, whatever the parameters are.
    correlated = [name for name in names if name != latent.NAME]
    dimension = sum(int(np.prod(s)) for name, s in zip(names, shapes, strict=True) if name in correlated)

    def kernel(data: list[jax.Array], accept: Any) -> NUTS:
        return NUTS(
            potential_fn=lambda z: -density([z[name] for name in names], data),
            target_accept_prob=accept,
            dense_mass=[tuple(correlated)] if dimension <= _DENSE_UP_TO else False,
            # NumPyro shrinks the mass matrix towards 1e-3, which swamps posterior standard deviations below 3e-3.
            regularize_mass_matrix=_LEARNT_AT_ONCE < dimension <= _DENSE_UP_TO,
        )

    def start(key: jax.Array, z: list[jax.Array], data: list[jax.Array]) -> Any:
        return kernel(data, 0.8).init(key, tune, dict(zip(names, z, strict=True)), (), {})

    def advance(state: Any, data: list[jax.Array], accept: Any) -> Any:
        nuts = kernel(data, accept)
        nuts.init(state.rng_key, tune, state.z, (), {})  # only sets the kernel up; its state is not used

        def step(state: Any, _: None) -> Any:
            state = nuts.sample(state, (), {})
            stats = (state.diverging, state.energy, state.num_steps, state.accept_prob, -state.potential_energy)
            return state, (*stats, [state.z[name] for name in names])

        return jax.lax.scan(step, state, None, length=BLOCK)

    return Program(jax.jit(start), jax.jit(advance), names, data_names, shapes)


def _start(design: Design, shapes: list[tuple[int, ...]], chains: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Start every chain near the middle of the prior, a tenth of its spread away."""
    law = design.law
    where: dict[str, tuple[float | np.ndarray, float]] = {latent.NAME: (0.0, 1.0)}
    for name, prior in law.priors.items():
        sampled, (center, within) = law.sampled_name(name), _middle(prior)
        if prior.spread is None:
            where[sampled] = center, within
        else:
            where[pooling.offset_name(law.population_name(name))] = 0.0, 0.1
            where[law.spread_name(name)] = float(np.log(prior.spread)), 0.5
            where[pooling.offset_name(sampled)] = design.centring[name] * center, 0.1 * prior.spread
    where |= {name: _middle(prior) for name, prior in design.errors.items()}
    if design.borrowed:
        ends = np.cumsum(list(design.borrowed.sizes.values()))[:-1]
        means, sds = np.split(design.borrowed.mean, ends), np.split(design.borrowed.sd, ends)
        for name, mean, sd in zip(design.borrowed.sizes, means, sds, strict=True):
            where[name] = mean if len(mean) > 1 else float(mean[0]), 0.1 * float(sd.min())
    found = []
    for name, shape in zip(sampled_names(design), shapes, strict=True):
        around, within = where[name]
        found.append(around + within * rng.uniform(-1, 1, (chains, *shape)))
    return found


def _middle(prior: Prior) -> tuple[float, float]:
    draws = prior.unconstrain(prior.sample(1000, np.random.default_rng(0)))
    return float(np.median(draws)), 0.1 * float(np.std(draws))


def _configure() -> None:
    """Compute in 64 bits, and keep compiled programs for the next process."""
    jax.config.update("jax_enable_x64", True)
    if jax.config.jax_compilation_cache_dir is None and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = cache_folder()
        if folder is None:  # compiled again by every process, then
            return
        jax.config.update("jax_compilation_cache_dir", str(folder / "jax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
