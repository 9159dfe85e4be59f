"""Work for several processes, its results in order."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

from qidbayes.errors import InputError


def each[T, R](
    function: Callable[[T], R], tasks: Sequence[T], jobs: int, progress: Callable[[int, int], None] | None = None
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
    # Started anew, since JAX and polars have threads, which do not survive a fork.
    with ProcessPoolExecutor(min(jobs, len(tasks)), multiprocessing.get_context("spawn")) as pool:
        yield from _told(pool.map(function, tasks), len(tasks), progress)


def _told[R](results: Iterator[R], total: int, progress: Callable[[int, int], None] | None) -> Iterator[R]:
    for done, result in enumerate(results, start=1):
        if progress:
            progress(done, total)
        yield result
