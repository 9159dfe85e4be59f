"""NumPyro's NUTS on a compiled program that takes the data as arguments."""

import os
import queue
import threading
import warnings
from contextlib import suppress
from pathlib import Path

import jax
import numpy as np
from jax import numpy as jnp

from qidbayes.errors import SlowWarning
from qidbayes.infer import measurement_error, pooling
from qidbayes.infer.chains import Chains, Job
from qidbayes.infer.convergence import convergence
from qidbayes.infer.draws import STATS, Draws, Values
from qidbayes.infer.inputs import Inputs
from qidbayes.infer.laplace import laplace
from qidbayes.infer.model import model_data
from qidbayes.infer.pace import Pace
from qidbayes.infer.program import Program, program, spec_of
from qidbayes.infer.settings import Settings
from qidbayes.infer.spec import describe
from qidbayes.infer.threads import run
from qidbayes.law.prior import Prior
from qidbayes.memory import check
from qidbayes.progress import Progress

_SMALLER_STEPS = (0.97, 0.99, 0.997)


def sample(rows: Inputs, settings: Settings, progress: Progress | None = None) -> Draws:
    """Sample the posterior of a law given its rows.

    A program is compiled once for a law and the shapes of its data; later fits in this process reuse it, and later
    processes find it in the compilation cache. Where transitions diverge, the run is repeated with smaller steps. While
    R-hat or ESS is out of bounds, the chains draw on, by as many again each time, up to `settings.most`.

    All of it is done in threads, so that Ctrl-C is heard, and JAX computes in 64 bits there alone.
    """
    under_way = _UnderWay()

    def task() -> Draws:
        with jax.enable_x64(True):
            return _sample(rows, settings, progress, under_way)

    (found,) = run([task], under_way.stop, awake=under_way.tell)
    return found


class _UnderWay:
    """What the thread that samples and the one that waits for it have to say to each other."""

    def __init__(self) -> None:
        self.notices: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._lent: Program | None = None

    def lend(self, found: Program) -> None:
        """Note which program is to be stopped."""
        self._lent = found
        if self._stopped.is_set():
            found.stopped.set()

    def stop(self) -> None:
        """Let the chains end."""
        self._stopped.set()
        if self._lent:
            self._lent.stopped.set()

    def tell(self) -> None:
        """Warn of what there is to be warned of."""
        with suppress(queue.Empty):
            text = self.notices.get_nowait()
            warnings.warn(text, SlowWarning, skip_file_prefixes=(str(Path(__file__).parents[1]),))


def _sample(rows: Inputs, settings: Settings, progress: Progress | None, under_way: _UnderWay) -> Draws:
    draws, tune, chains = settings.draws, settings.tune, settings.chains
    arrays = model_data(rows)
    with program(spec_of(describe(rows, arrays), tune, chains)) as found:
        under_way.lend(found)
        at_once = 1 if found.together else min(chains, os.cpu_count() or 1)
        check(
            at_once * found.memory,
            f"sampling {rows.frame.height:,} rows in {at_once} chains at a time",
            'take fewer rows or a law with discrepancy = "none"',
        )
        data = [jnp.asarray(arrays[name]) for name in found.data_names]
        start = _start(rows, found, chains, np.random.default_rng(settings.random_seed))
        root = None
        if found.gradient:
            middle, root = laplace(found.gradient, np.concatenate([v[0].reshape(-1) for v in start]), data)
            data += [jnp.asarray(middle), jnp.asarray(root)]
            start = [np.random.default_rng(settings.random_seed).normal(0.0, 0.5, (chains, len(middle)))]
        keys = jax.random.split(jax.random.key(settings.random_seed), chains)
        pace = Pace(rows.frame.height, chains * (tune + draws), under_way.notices.put)

        def known(leaves: list[np.ndarray]) -> Values:
            values = leaves[len(STATS) :]
            if root is not None:
                values = found.parts(middle + values[0] @ root.T)
            drawn = dict(zip(found.names, values, strict=True))
            return pooling.groups_and_populations(rows.law, drawn, rows.centring)

        for accept in (settings.target_accept, *(a for a in _SMALLER_STEPS if a > settings.target_accept)):
            running = Chains(Job(found, keys, start, data, accept, progress, pace))
            leaves = [v[:, tune:] for v in running.advance(tune + draws)]
            while True:
                values, diverging = known(leaves), leaves[0]
                converged = convergence(rows, values)
                enough = all(one.enough for one in converged.values())
                if enough or diverging.any() or diverging.shape[1] >= settings.most:
                    break
                more = running.advance(draws)
                leaves = [np.concatenate(parts, axis=1) for parts in zip(leaves, more, strict=True)]
            if not diverging.any():
                break
    return Draws(values, dict(zip(STATS, leaves, strict=False)), accept, converged)


def _start(rows: Inputs, found: Program, chains: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Start every chain near the middle of the prior, a tenth of its spread away."""
    law = rows.law
    where: dict[str, tuple[float | np.ndarray, float]] = {measurement_error.NAME: (0.0, 1.0)}
    for name, prior in law.priors.items():
        sampled, (center, within) = law.sampled_name(name), _middle(prior)
        if prior.spread is None:
            where[sampled] = center, within
        else:
            where[pooling.offset_name(law.population_name(name))] = 0.0, 0.1
            where[law.spread_name(name)] = float(np.log(prior.spread)), 0.5
            where[pooling.offset_name(sampled)] = rows.centring[name] * center, 0.1 * prior.spread
    where |= {name: _middle(prior) for name, prior in rows.errors.items()}
    where |= dict.fromkeys(rows.vectors, (0.0, 0.1))
    if rows.power_prior:
        ends = np.cumsum(list(rows.power_prior.sizes.values()))[:-1]
        means, sds = np.split(rows.power_prior.mean, ends), np.split(rows.power_prior.sd, ends)
        for name, mean, sd in zip(rows.power_prior.sizes, means, sds, strict=True):
            where[name] = mean if len(mean) > 1 else float(mean[0]), 0.1 * float(sd.min())
    start = []
    for name, shape in zip(found.names, found.shapes, strict=True):
        around, within = where[name]
        start.append(around + within * rng.uniform(-1, 1, (chains, *shape)))
    return start


def _middle(prior: Prior) -> tuple[float, float]:
    draws = prior.unconstrain(prior.sample(1000, np.random.default_rng(0)))
    return float(np.median(draws)), 0.1 * float(np.std(draws))
