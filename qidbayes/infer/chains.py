"""Chains under way, which can be taken on from where they are."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

BLOCK = 100
"""Transitions run by one call of the compiled program; progress is told between calls."""
_AWAKE = 0.1  # seconds

type Progress = Callable[[int, int], None]
"""Called with the transitions done and their total, over all chains."""


@dataclass(frozen=True)
class Program:
    """A law's compiled program for data of some shapes."""

    init: Callable[..., Any]
    block: Callable[..., Any]
    names: list[str]
    data_names: list[str]
    shapes: list[tuple[int, ...]]


@dataclass(frozen=True)
class Job:
    """What chains run: a program, a key and a start for each, and the data, sampled at an acceptance probability."""

    program: Program
    keys: jax.Array
    start: list[jax.Array]
    data: list[jax.Array]
    accept: float
    progress: Progress | None


class Threads:
    """Chains on CPUs, a thread each: XLA leaves Python's lock while it computes, so that every core is busy."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._states: list[Any] = [None for _ in job.keys]
        self._tell = _Tell(job.progress)

    def advance(self, count: int) -> list[np.ndarray]:
        """Return that many transitions more of all chains, ``(chains, count, …)`` each."""
        stopped = threading.Event()
        self._tell.expect(count * len(self._states))

        def chain(i: int) -> list[np.ndarray]:
            job, state = self._job, self._states[i]
            if state is None:
                state = job.program.init(job.keys[i], [v[i] for v in job.start], job.data)
            blocks = []
            for _ in range(0, count, BLOCK):
                if stopped.is_set():
                    break
                state, found = job.program.block(state, job.data, job.accept)
                # The last block runs in full, and what is beyond is left off: a shorter one would compile anew.
                blocks.append([np.asarray(v) for v in jax.tree.leaves(found)])
                self._tell.done(BLOCK)
            self._states[i] = state
            return [np.concatenate(parts)[:count] for parts in zip(*blocks, strict=True)]

        with ThreadPoolExecutor(min(len(self._states), os.cpu_count() or 1)) as pool:
            try:  # from the first thread on: Ctrl-C may come while the others are being started
                under_way = [pool.submit(chain, i) for i in range(len(self._states))]
                # Woken now and then: a signal that came to another thread is only noticed by a main thread that is
                # awake.
                while wait(under_way, _AWAKE, FIRST_EXCEPTION).not_done and not any(map(_failed, under_way)):
                    pass
                chains = [future.result() for future in under_way]
            except BaseException:  # Ctrl-C, as a rule: the pool waits for its threads, which need not draw to the end
                stopped.set()
                raise
        return [np.stack(parts) for parts in zip(*chains, strict=True)]


class Together:
    """Every chain in one program: an accelerator is kept busy by width, not by threads."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._state = jax.jit(jax.vmap(job.program.init, in_axes=(0, 0, None)))(job.keys, job.start, job.data)
        self._block = jax.jit(jax.vmap(job.program.block, in_axes=(0, None, None)))
        self._tell = _Tell(job.progress)

    def advance(self, count: int) -> list[np.ndarray]:
        """See `Threads.advance`."""
        chains = len(self._job.keys)
        self._tell.expect(count * chains)
        blocks = []
        for _ in range(0, count, BLOCK):
            self._state, found = self._block(self._state, self._job.data, self._job.accept)
            blocks.append([np.asarray(v) for v in jax.tree.leaves(found)])
            self._tell.done(BLOCK * chains)
        return [np.concatenate(parts, axis=1)[:, :count] for parts in zip(*blocks, strict=True)]


class _Tell:
    """Transitions done and expected, over all chains, for whoever wants to know."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress, self._done, self._expected = progress, 0, 0

    def expect(self, count: int) -> None:
        self._done = self._expected  # blocks run in full, and what was beyond is no progress
        self._expected += count

    def done(self, count: int) -> None:
        self._done += count
        if self._progress:
            self._progress(min(self._done, self._expected), self._expected)


def _failed(future: "Future[list[np.ndarray]]") -> bool:
    return future.done() and future.exception() is not None
