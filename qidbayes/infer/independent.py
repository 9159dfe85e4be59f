"""Chains that propose from a mixture fitted to the posterior (Metropolis and Hastings, independence sampler).

Where a law's linear constants are integrated out (`qidbayes.infer.collapsed`), some ten numbers are left, and a mixture
of t distributions follows their posterior closely (`qidbayes.infer.proposal`). A chain then needs no derivatives: it
goes from θ to a proposal θ' with probability min(1, w'/w), w = p(θ | rows) / q(θ), which leaves the posterior as it is
whatever the mixture q; a bad one only makes chains stay where they are, and R-hat and ESS tell. What is proposed does
not depend on where the chains are, so that all proposals of a block are weighed at once, on every core.
"""

import os
import queue
import threading
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from qidbayes.errors import SlowWarning
from qidbayes.infer.collapsed import CONSTANTS, Collapsed
from qidbayes.infer.convergence import convergence
from qidbayes.infer.draws import STATS, Draws
from qidbayes.infer.inputs import Inputs
from qidbayes.infer.pace import in_words
from qidbayes.infer.proposal import Mixture, proposal
from qidbayes.infer.settings import Settings
from qidbayes.infer.threads import StoppedError, run
from qidbayes.memory import check
from qidbayes.progress import Progress
from qidbayes.seeds import Stream, generator

_LEAST_EFFICIENCY = 0.1
"""Of a mixture that chains propose from."""
_BURN_IN = 25
"""Transitions that are left out: about as many as there are in a hundred autocorrelation times of a good mixture."""
_REFITS = 3
"""How often the mixture is fitted anew, to what the chains proposed too, where one stays too long at one point."""
_TAIL = 0.05
"""Of a chain, in each of the tails that ESS is worked out of: who stays so long sees one point of a tail."""
_DEAR = 3e8
_CHEAP = ((1e7, 4), (1e8, 2))
"""Operations of a density (`Gram.cost`): above the first, a quarter of the draws may do; up to each of the others, only
one in so many transitions is kept, and the mixture is fitted to so many times the draws."""
_LAST = 100
"""Draws of the last round that a mixture is fitted to, for each number; all rounds take about twice as many."""
_AT_ONCE = 2e9
"""Operations between two looks at whether to stop."""
_BATCH = 4
"""Parts of each core between two words of progress."""
_SAY_FROM = 60.0
"""Seconds from which it is said how many there will be."""
_REMEDY = 'take fewer rows or a law with discrepancy = "none"'


def sample(rows: Inputs, target: Collapsed, settings: Settings, progress: Progress | None) -> Draws | None:
    """Return draws of a law's parameters; None if no mixture follows the posterior, or the chains do not agree.

    Parameters
    ----------
    rows, target
        The rows, and their posterior without the linear constants.
    settings
        If there may be more draws than `settings.draws`, and a density is dear, a quarter of them is tried first.
        `settings.tune` counts for progress alone.
    progress
        As in `qidbayes.infer.fit.fit`.
    """
    count, width = rows.frame.height, os.cpu_count() or 1
    check(width * target.memory, f"sampling {count:,} rows on {width} cores", _REMEDY)
    task = _Task(rows, target, settings.random_seed, settings.chains * settings.draws)

    def whole() -> Draws | None:
        return _sample(task, settings, progress)

    def tell() -> None:
        with suppress(queue.Empty):
            warnings.warn(task.notices.get_nowait(), SlowWarning, skip_file_prefixes=(str(Path(__file__).parents[1]),))

    (found,) = run([whole], task.stopped.set, awake=tell)
    return found


@dataclass
class _Task:
    """Densities, on every core; each block of points draws its constants from a stream of its own."""

    rows: Inputs
    target: Collapsed
    seed: int
    draws: int
    stopped: threading.Event = field(default_factory=threading.Event)
    notices: "queue.SimpleQueue[str]" = field(default_factory=queue.SimpleQueue)
    blocks: int = 0
    told: "_Told" = field(default_factory=lambda: _Told())

    @property
    def thin(self) -> int:
        """How many transitions there are to a draw, and times `_LAST` draws to the last round."""
        return next((thin for cost, thin in _CHEAP if self.target.cost <= cost), 1)

    @property
    def before(self) -> int:
        """How many densities a mixture takes, as a rule."""
        return 2 * _LAST * self.thin * self.target.dimension

    def weigh(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        step = int(np.clip(_AT_ONCE // self.target.cost, 1, 256))
        parts = [points[first : first + step] for first in range(0, len(points), step)]
        tasks = [partial(self._part, part, self.blocks + i) for i, part in enumerate(parts)]
        self.blocks += len(parts)
        width = os.cpu_count() or 1
        found: list[tuple[np.ndarray, np.ndarray]] = []
        while len(found) < len(tasks):
            begun, already = time.monotonic(), len(found)
            some = tasks[already : already + (_BATCH * width if already else width)]
            found += run(some, self.stopped.set, width=width)
            weighed = sum(len(density) for density, _ in found[already:])
            self._say_once((time.monotonic() - begun) / weighed)
            self.told.of(weighed)
        density, constants = (np.concatenate(of_parts) for of_parts in zip(*found, strict=True))
        return density, constants

    def _say_once(self, each: float) -> None:
        """Say how long it will take, by the first densities, and how much memory, if that is more than a minute."""
        whole = self.before + (self.draws // 4 if self.target.cost > _DEAR else self.thin * self.draws)
        memory = (os.cpu_count() or 1) * self.target.memory
        if self.draws and each * whole > _SAY_FROM:
            self.notices.put(
                f"sampling {self.rows.frame.height:,} rows will take about {in_words(each * whole)}: some {whole:,} "
                f"densities, {each:.2g} s each, and {memory / 1e9:.1f} GB of memory; Ctrl-C stops it"
            )
        self.draws = 0

    def density(self, points: np.ndarray) -> np.ndarray:
        return self.weigh(points)[0]

    def _part(self, points: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray]:
        if self.stopped.is_set():
            raise StoppedError
        return self.target(points, generator(self.seed, Stream.CONSTANTS, block))


@dataclass
class _Told:
    """What whoever wants to know of progress is told: a span of transitions, by the densities that it takes."""

    progress: Progress | None = None
    whole: int = 0
    begin: int = 0
    span: int = 0
    expected: int = 1
    done: int = 0

    def of(self, densities: int) -> None:
        self.done += densities
        if self.progress:
            self.progress(self.begin + int(self.span * min(1.0, self.done / self.expected)), self.whole)


@dataclass
class _State:
    """Where a chain is: its point, log weight, log density and constants, and how often it was kept there."""

    point: np.ndarray
    log_weight: float
    log_density: float
    constants: np.ndarray
    times: int = 0


def _sample(task: _Task, settings: Settings, progress: Progress | None) -> Draws | None:
    draws, most, tune, chains = settings.draws, settings.most, settings.tune, settings.chains
    rng = generator(task.seed, Stream.PROPOSALS)
    size = task.target.dimension
    thin = task.thin
    task.told = _Told(progress, chains * (tune + draws), 0, chains * tune, task.before)
    found = proposal(task.density, size, rng, _LAST * thin)
    if found.efficiency < _LEAST_EFFICIENCY:
        return None
    each = draws // 4 if most > draws and task.target.cost > _DEAR else draws
    states: list[_State | None] = [None] * chains
    kept: list[tuple[np.ndarray, ...]] = []
    refits = 0
    while True:
        before = chains * (tune + sum(lp.shape[1] for *_, lp in kept))
        whole = max(before + chains * each, chains * (tune + draws))
        task.told = _Told(progress, whole, before, chains * each, chains * (each * thin + (0 if kept else _BURN_IN)))
        weighed, drawn = _advance(task, found.mixture, states, each, thin, rng)
        kept.append(drawn)
        points, constants, *stats = (np.concatenate(parts, axis=1) for parts in zip(*kept, strict=True))
        values = task.target.unconstrained(points, constants)
        converged = convergence(task.rows, values)
        enough = all(one.enough for one in converged.values())
        if enough or points.shape[1] >= most:
            break
        if refits < _REFITS and found.longest(*weighed) > _TAIL * thin * points.shape[1]:  # the chains begin anew
            found, refits = found.refitted(*weighed, rng), refits + 1
            states, kept = [None] * chains, []
    if not enough and most > draws:
        return None
    return Draws(values, dict(zip(STATS, stats, strict=True)), settings.target_accept, converged, "independence")


def _advance(
    task: _Task, mixture: Mixture, states: list[_State | None], count: int, thin: int, rng: np.random.Generator
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, ...]]:
    """Take every chain on; return what was proposed with its log density, and the chains' draws.

    These are points, constants and `STATS`, shapes ``(chains, count, …)``.
    """
    chains = len(states)
    before = 0 if states[0] else _BURN_IN
    each = before + count * thin
    points = mixture.draw(chains * each, rng)
    density, constants = task.weigh(points)
    weight = density - mixture.log_density(points)
    limit = np.log(rng.random(len(points)))
    size = (chains, count)
    at, of = np.empty((*size, points.shape[1])), np.empty((*size, constants.shape[2]))
    lp, accepted = np.empty(size), np.zeros(size)
    for chain in range(chains):
        state = states[chain]
        for i, here in enumerate(range(chain * each, (chain + 1) * each)):
            change = min(0.0, weight[here] - state.log_weight) if state else 0.0
            if not state or limit[here] < change:
                state = _State(points[here], weight[here], density[here], constants[here])
            assert state
            kept, last = divmod(i - before, thin)
            if kept >= 0:
                accepted[chain, kept] += np.exp(change) / thin
                if last == thin - 1:
                    at[chain, kept], lp[chain, kept] = state.point, state.log_density
                    of[chain, kept] = state.constants[state.times % CONSTANTS]
                    state.times += 1
        states[chain] = state
    return (points, density), (at, of, np.zeros(size, dtype=bool), -lp, np.full(size, thin), accepted, lp)
