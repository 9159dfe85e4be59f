"""Markov chains that keep their state, so that they can draw more from where they stopped."""

import os
import time
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from qidbayes.infer.pace import GRADIENTS, Pace
from qidbayes.infer.program import BLOCK, Program
from qidbayes.infer.threads import StoppedError, run
from qidbayes.progress import Progress

_DEEPEST = 1023
"""The most gradients of a transition."""
_HEARD = 0.5
"""Seconds that a block of transitions should take."""


@dataclass(frozen=True)
class Job:
    """What chains run: a program, a key and a start for each, and the data, sampled at an acceptance probability."""

    program: Program
    keys: jax.Array
    start: list[np.ndarray]
    data: list[jax.Array]
    accept: float
    progress: Progress | None
    pace: Pace


class Chains:
    """Chains of one job: on CPUs a thread each, since XLA leaves Python's lock while it computes; all in one program on
    an accelerator, which is kept busy by width and not by threads.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        together = job.program.together
        keys = [job.keys] if together else list(job.keys)
        starts = [job.start] if together else [[v[i] for v in job.start] for i in range(len(keys))]
        self._begin = list(zip(keys, starts, strict=True))
        self._states: list[Any] = [None for _ in keys]
        self._tell = _Tell(job.progress)

    def advance(self, count: int) -> list[np.ndarray]:
        """Return that many transitions more of all chains, ``(chains, count, …)`` each."""
        job = self._job
        self._tell.expect(count * len(job.keys))
        found = run(
            [lambda i=i: self._run(i, count) for i in range(len(self._states))],  # type: ignore[misc]
            job.program.stopped.set,
            width=os.cpu_count() or 1,
            awake=lambda: job.pace.look(job.program.gradients),
        )
        if job.program.together:
            return found[0]
        return [np.stack(parts) for parts in zip(*found, strict=True)]

    def _run(self, i: int, count: int) -> list[np.ndarray]:
        job, state = self._job, self._states[i]
        along = int(job.program.together)  # the axis of transitions
        with jax.enable_x64(True):
            if state is None:
                state = job.program.init(*self._begin[i], job.data)
            blocks: list[list[np.ndarray]] = []
            done, size = 0, 1
            while done < count:
                size = min(size, count - done)
                begun = time.monotonic()
                state, drawn = job.program.block(state, job.data, job.accept, size)
                leaves = [np.asarray(v)[:, :size] if along else np.asarray(v)[:size] for v in drawn]
                if job.program.stopped.is_set():
                    raise StoppedError
                blocks.append(leaves)
                done += size
                self._tell.done(size * len(job.keys) if along else size)
                gradients = int(leaves[_N_STEPS].sum()) // (len(job.keys) if along else 1)
                size = _next(job.program, gradients, time.monotonic() - begun)
        self._states[i] = state
        return [np.concatenate(parts, axis=along) for parts in zip(*blocks, strict=True)]


_N_STEPS = 2
"""Where `Program.block` has the gradients of each transition."""


def _next(program: Program, gradients: int, seconds: float) -> int:
    """Return how many transitions can be heard the end of soon, whatever tree they grow."""
    if not program.listens:
        program.gradients += gradients
    deepest = GRADIENTS if program.listens else _DEEPEST
    return int(np.clip(_HEARD * gradients / (seconds * deepest), 1, BLOCK))


class _Tell:
    """Counts the transitions of all chains, and reports how many are done of how many."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress, self._done, self._expected = progress, 0, 0

    def expect(self, count: int) -> None:
        self._expected += count

    def done(self, count: int) -> None:
        self._done += count
        if self._progress:
            self._progress(self._done, self._expected)
