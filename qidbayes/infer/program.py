"""Compiled programs, each made from one description and kept for later fits of the same.

The description is all that `_compile` takes, and so the key of a program cannot leave out what it depends on.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jax.experimental import io_callback
from numpyro.infer import NUTS

from qidbayes.infer import measurement_error
from qidbayes.infer.jax_log_density import log_density
from qidbayes.infer.jax_settings import kept_on_disk
from qidbayes.infer.laplace import Gradient
from qidbayes.infer.model import model_of
from qidbayes.infer.spec import ModelSpec

WHITENED = "whitened"
"""What chains in whitened directions call their position."""
BLOCK = 100
"""The most transitions that one call of a program runs."""
_DENSE_UP_TO = 100
"""The most parameters whose covariance is learnt; beyond it, only their variances."""
_LEARNT_AT_ONCE = 20
"""The first adaptation window has 25 draws: the covariance of more parameters than this has to be regularised in it."""
_LISTENS_FROM = 5_000
"""Rows from which a gradient may cost a millisecond or so; asking whether to stop costs 20 microseconds."""
_IDLE: dict["ProgramSpec", list["Program"]] = {}
_LOCK = threading.Lock()


@dataclass(frozen=True)
class ProgramSpec:
    """What a program is compiled from, and nothing else.

    Attributes
    ----------
    model
        The model.
    tune
        Warm-up transitions.
    chains
        How many chains one call runs together; 0 if it runs one, without a dimension of chains.
    listens
        Whether the program asks before every gradient if it is to stop.
    whitened
        Whether chains step in the directions of the posterior's curvature at its mode, which two further arrays give.
    """

    model: ModelSpec
    tune: int
    chains: int
    listens: bool
    whitened: bool


@dataclass
class Program:
    """A compiled program. It runs one job at a time: `stopped` is of all chains in it."""

    init: Callable[..., Any]
    block: Callable[..., Any]
    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    data_names: tuple[str, ...]
    together: bool
    listens: bool
    stopped: threading.Event
    memory: float
    """Bytes that one call takes beside its arguments; 0 if the device does not say."""
    gradient: Gradient | None = None
    """Of the negative log density at a position of all numbers, where chains step in whitened directions."""
    gradients: int = 0
    """How many gradients the job has begun."""

    def parts(self, position: np.ndarray) -> list[np.ndarray]:
        """Return each variable of positions of all numbers; shape ``(…, numbers)``."""
        ends = np.cumsum([int(np.prod(shape)) for shape in self.shapes])[:-1]
        split = np.split(position, ends, axis=-1)
        return [part.reshape(*position.shape[:-1], *shape) for part, shape in zip(split, self.shapes, strict=True)]


def spec_of(model: ModelSpec, tune: int, chains: int) -> ProgramSpec:
    """Return the description of a program on this machine's device."""
    whitened = model.discrepancy == "families"
    if jax.default_backend() != "cpu":
        return ProgramSpec(model, tune, chains, listens=False, whitened=whitened)
    listens = not whitened and (model.blocks is not None or model.count("log_response") > _LISTENS_FROM)
    return ProgramSpec(model, tune, chains=0, listens=listens, whitened=whitened)


@contextmanager
def program(spec: ProgramSpec) -> Iterator[Program]:
    """Lend a program to one job; it is compiled unless one of the same description is idle.

    A program whose job ended otherwise than well is not lent again: a chain of it may still be under way.
    """
    with _LOCK:
        idle = _IDLE.setdefault(spec, [])
        found = idle.pop() if idle else None
    found = found or _compile(spec)
    found.gradients = 0
    yield found
    with _LOCK:
        _IDLE[spec].append(found)


def _compile(spec: ProgramSpec) -> Program:
    blank = {array.name: array.blank() for array in spec.model.arrays}
    model = model_of(spec.model, blank)
    density, data_names = log_density(model)
    initial = model.initial_point()
    names = spec.model.names
    shapes = tuple(np.shape(initial[v.name]) for v in model.value_vars)
    # What noisy rows are drawn from is nearly independent standard normals, whatever the parameters are.
    correlated = [name for name in names if name != measurement_error.NAME]
    dimension = sum(int(np.prod(s)) for name, s in zip(names, shapes, strict=True) if name in correlated)
    stopped = threading.Event()
    total = sum(int(np.prod(shape)) for shape in shapes)
    of_model = names, shapes
    if spec.whitened:
        names, shapes = (WHITENED,), ((total,),)
        correlated, dimension = [WHITENED], total

    def of_position(position: jax.Array, data: Sequence[jax.Array]) -> jax.Array:
        ends = np.cumsum([int(np.prod(shape)) for shape in of_model[1]])[:-1]
        parts = jnp.split(position, ends)
        return -density([part.reshape(shape) for part, shape in zip(parts, of_model[1], strict=True)], data)

    def is_stopped() -> Any:
        found.gradients += 1
        return np.bool_(stopped.is_set())

    def asked() -> jax.Array:
        return io_callback(is_stopped, jax.ShapeDtypeStruct((), np.bool_))  # type: ignore[no-any-return]

    def potential(z: Mapping[str, jax.Array], data: Sequence[jax.Array]) -> jax.Array:
        if spec.whitened:
            *data, mode, root = data
            value = of_position(mode + root @ z[WHITENED], data)
        else:
            value = -density([z[name] for name in names], data)
        if not spec.listens:
            return value
        # Without a number the trajectory ends here, and its block after it.
        return jnp.where(asked(), jnp.nan, value)

    def kernel(data: Sequence[jax.Array], accept: Any) -> NUTS:
        return NUTS(
            potential_fn=lambda z: potential(z, data),
            target_accept_prob=accept,
            adapt_mass_matrix=not spec.whitened,  # the curvature at the mode tells it better than a short warm-up
            dense_mass=[tuple(correlated)] if dimension <= _DENSE_UP_TO else False,
            # NumPyro shrinks the mass matrix towards 1e-3, which swamps posterior standard deviations below 3e-3.
            regularize_mass_matrix=_LEARNT_AT_ONCE < dimension <= _DENSE_UP_TO,
        )

    def start(key: jax.Array, z: list[jax.Array], data: Sequence[jax.Array]) -> Any:
        return kernel(data, 0.8).init(key, spec.tune, dict(zip(names, z, strict=True)), (), {})

    def advance(state: Any, data: Sequence[jax.Array], accept: Any, count: Any) -> Any:
        """Return the state after that many transitions, at most `BLOCK`, and what they drew."""
        nuts = kernel(data, accept)
        nuts.init(state.rng_key, spec.tune, state.z, (), {})  # only sets the kernel up; its state is not used

        def leaves(state: Any) -> list[jax.Array]:
            stats = (state.diverging, state.energy, state.num_steps, state.accept_prob, -state.potential_energy)
            return [*map(jnp.asarray, stats), *(state.z[name] for name in names)]

        def step(at: Any) -> Any:
            i, _, state, drawn = at
            state = nuts.sample(state, (), {})
            drawn = [all_.at[i].set(one) for all_, one in zip(drawn, leaves(state), strict=True)]
            return i + 1, asked() if spec.listens else False, state, drawn

        drawn = [jnp.zeros((BLOCK, *one.shape), one.dtype) for one in jax.eval_shape(leaves, state)]
        *_, state, drawn = jax.lax.while_loop(lambda at: (at[0] < count) & ~at[1], step, (0, False, state, drawn))
        return state, drawn

    if spec.chains:
        start = jax.vmap(start, in_axes=(0, 0, None))
        advance = jax.vmap(advance, in_axes=(0, None, None, None))
    of_chains = (spec.chains,) if spec.chains else ()
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), max(1, spec.chains)))
    key = jax.ShapeDtypeStruct(of_chains, keys.dtype)
    z = [jax.ShapeDtypeStruct((*of_chains, *shape), np.float64) for shape in shapes]
    data = [jax.ShapeDtypeStruct(blank[name].shape, blank[name].dtype) for name in data_names]
    if spec.whitened:
        data += [jax.ShapeDtypeStruct(shape, np.float64) for shape in ((total,), (total, total))]
    with kept_on_disk():
        lowered = jax.jit(start).lower(key, z, data)
        state = jax.tree.map(lambda one: jax.ShapeDtypeStruct(one.shape, one.dtype), lowered.out_info)
        init = lowered.compile()
        block = jax.jit(advance).lower(state, data, 0.8, BLOCK).compile()
    analysis = block.memory_analysis()
    memory = float(analysis.temp_size_in_bytes) if analysis else 0.0
    gradient = jax.jit(jax.value_and_grad(of_position)) if spec.whitened else None
    found = Program(
        init, block, *of_model, tuple(data_names), bool(spec.chains), spec.listens, stopped, memory, gradient
    )
    return found
