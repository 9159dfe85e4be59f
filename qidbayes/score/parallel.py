"""Run tasks in several processes, and yield their results in order."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from qidbayes.errors import InputError
from qidbayes.progress import Progress


def each[T, R](
    function: Callable[[T], R], tasks: Sequence[T], jobs: int, progress: Progress | None = None
) -> Iterator[R]:
    """Yield the function's result for each task, in the tasks' order.

    Parameters
    ----------
    function
        A function of a module, so that a process can find it.
    tasks
        What it is called with.
    jobs
        Processes; with one, this process works.
    progress
        Called with the tasks done and their total.

    Raises
    ------
    InputError
        If there are no jobs to do the work.
    """
    if not isinstance(jobs, int) or jobs < 1:
        raise InputError(f"jobs must be a whole number of at least 1, not {jobs!r}")
    if jobs == 1 or len(tasks) == 1:
        yield from _told(map(function, tasks), len(tasks), progress)
        return
    with pool(min(jobs, len(tasks))) as processes:
        yield from _told(processes.map(function, tasks), len(tasks), progress)


def pool(jobs: int) -> ProcessPoolExecutor:
    """Return processes for fits, each on a core of its own where the system can keep it there.

    XLA's threads of several processes get in each other's way: on 16 cores, fits kept apart are three times as fast.
    """
    # Started anew, since JAX and polars have threads, which do not survive a fork.
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(jobs, spawn, _stay_on_one_core, (spawn.Value("i", 0),))


def _stay_on_one_core(started: Any) -> None:
    if hasattr(os, "sched_setaffinity"):
        with started.get_lock():
            number, started.value = started.value, started.value + 1
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[number % len(cores)]})


def _told[R](results: Iterator[R], total: int, progress: Progress | None) -> Iterator[R]:
    for done, result in enumerate(results, start=1):
        if progress:
            progress(done, total)
        yield result
