"""NumPyro's NUTS on a compiled program that takes the data as arguments."""

import itertools
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import platformdirs
from jax import numpy as jnp
from numpyro.infer import NUTS

from qidbayes.infer import latent, pooling
from qidbayes.infer.bridge import log_density
from qidbayes.infer.design import Design
from qidbayes.infer.model import build_model, model_data, sampled_names
from qidbayes.infer.problem import Problem
from qidbayes.law.prior import Prior

BLOCK = 100
"""Transitions run by one call of the compiled program; progress is told between calls."""
_DENSE_UP_TO = 100
"""The most parameters whose covariance is learnt; beyond it, only their variances."""
_LEARNT_AT_ONCE = 20
"""The first adaptation window has 25 draws: the covariance of more parameters than this has to be regularised in it."""
_AWAKE = 0.1  # seconds
_PROGRAMS: dict[Any, "_Program"] = {}

_SMALLER_STEPS = (0.97, 0.99, 0.997)
_STATS = ("diverging", "energy", "n_steps", "acceptance_rate", "lp")

type Progress = Callable[[int, int], None]
"""Called with the transitions done and their total, over all chains."""


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
    """

    unconstrained: Mapping[str, np.ndarray]
    stats: Mapping[str, np.ndarray]
    target_accept: float


@dataclass(frozen=True)
class _Program:
    init: Callable[..., Any]
    block: Callable[..., Any]
    names: list[str]
    data_names: list[str]
    shapes: list[tuple[int, ...]]


def sample(
    design: Design,
    *,
    draws: int,
    tune: int,
    chains: int,
    target_accept: float,
    random_seed: int,
    progress: Progress | None = None,
) -> Draws:
    """Sample the posterior of a law given a design.

    A program is compiled once for a law and the shapes of its data; later fits in this process reuse it, and later
    processes find it in the compilation cache. Where transitions diverge, the run is repeated with smaller steps.
    """
    _configure()
    arrays = model_data(design)
    program = _program(design, arrays, tune)
    data = [jnp.asarray(arrays[name]) for name in program.data_names]
    rng = np.random.default_rng(random_seed)
    start = [jnp.asarray(v) for v in _start(design, program.shapes, chains, rng)]
    keys = jax.random.split(jax.random.key(random_seed), chains)
    for accept in (target_accept, *(a for a in _SMALLER_STEPS if a > target_accept)):
        leaves = _run(program, keys, start, data, accept, tune, tune + draws, progress)
        if not leaves[0].any():
            break
    stats, values = leaves[: len(_STATS)], leaves[len(_STATS) :]
    drawn = dict(zip(program.names, values, strict=True))
    known = pooling.groups_and_populations(design.law, drawn, design.centring)
    return Draws(known, dict(zip(_STATS, stats, strict=True)), accept)


def _run(
    program: _Program,
    keys: jax.Array,
    start: list[jax.Array],
    data: list[jax.Array],
    accept: float,
    tune: int,
    total: int,
    progress: Progress | None,
) -> list[np.ndarray]:
    if jax.default_backend() != "cpu":
        return _run_together(program, keys, start, data, accept, tune, total, progress)
    done, stopped = itertools.count(BLOCK, BLOCK), threading.Event()

    def chain(key: jax.Array, start: list[jax.Array]) -> list[np.ndarray]:
        state = program.init(key, start, data)
        blocks = []
        for _ in range(0, total, BLOCK):
            if stopped.is_set():
                break
            state, found = program.block(state, data, accept)
            # The last block runs in full, and what is beyond `total` is left off: a shorter one would compile anew.
            blocks.append([np.asarray(v) for v in jax.tree.leaves(found)])
            if progress:
                progress(min(next(done), total * len(keys)), total * len(keys))
        return [np.concatenate(parts)[tune:total] for parts in zip(*blocks, strict=True)]

    # XLA leaves Python's lock while it computes, so a thread a chain keeps every core busy.
    with ThreadPoolExecutor(min(len(keys), os.cpu_count() or 1)) as pool:
        try:  # from the first thread on: Ctrl-C may come while the others are being started
            under_way = [pool.submit(chain, keys[i], [v[i] for v in start]) for i in range(len(keys))]
            # Woken now and then: a signal that came to another thread is only noticed by a main thread that is awake.
            while wait(under_way, _AWAKE, FIRST_EXCEPTION).not_done and not any(map(_failed, under_way)):
                pass
            chains = [future.result() for future in under_way]
        except BaseException:  # Ctrl-C, as a rule: the pool waits for its threads, which need not draw to the end
            stopped.set()
            raise
    return [np.stack(parts) for parts in zip(*chains, strict=True)]


def _run_together(
    program: _Program,
    keys: jax.Array,
    start: list[jax.Array],
    data: list[jax.Array],
    accept: float,
    tune: int,
    total: int,
    progress: Progress | None,
) -> list[np.ndarray]:
    """Do the same with every chain in one program: an accelerator is kept busy by width, not by threads."""
    state = jax.jit(jax.vmap(program.init, in_axes=(0, 0, None)))(keys, start, data)
    block = jax.jit(jax.vmap(program.block, in_axes=(0, None, None)))
    blocks = []
    for done in range(BLOCK, total + BLOCK, BLOCK):
        state, found = block(state, data, accept)
        blocks.append([np.asarray(v) for v in jax.tree.leaves(found)])
        if progress:
            progress(min(done, total) * len(keys), total * len(keys))
    return [np.concatenate(parts, axis=1)[:, tune:total] for parts in zip(*blocks, strict=True)]


def _failed(future: "Future[list[np.ndarray]]") -> bool:
    return future.done() and future.exception() is not None


def _program(design: Design, arrays: Mapping[str, np.ndarray], tune: int) -> _Program:
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


def _compile(design: Design, tune: int) -> _Program:
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

    return _Program(jax.jit(start), jax.jit(advance), names, data_names, shapes)


def _start(design: Design, shapes: list[tuple[int, ...]], chains: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Start every chain near the middle of the prior, a tenth of its spread away."""
    law = design.law
    where: dict[str, tuple[float | np.ndarray, float]] = {latent.NAME: (0.0, 1.0)}
    for name, prior in law.priors.items():
        center, spread = _middle(prior)
        where[law.population_name(name) if prior.pooled else law.sampled_name(name)] = center, spread
        if prior.spread is not None:
            where[law.spread_name(name)] = float(np.log(prior.spread)), 0.5
            where[pooling.offset_name(law.sampled_name(name))] = design.centring[name] * center, 0.1 * prior.spread
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
        folder = Path(platformdirs.user_cache_dir("qidbayes")) / "jax"
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
