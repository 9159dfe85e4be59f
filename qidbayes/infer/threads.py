"""Run work in threads, so that Ctrl-C is heard while they compute.

A signal reaches the main thread only while that thread runs Python. So what may compute for long runs in threads of its
own, and the one that waits for them is woken now and then. Threads that do not end soon after they were told to are
left to themselves: they hold up neither the caller nor the end of the process.
"""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

NAME = "qidbayes, computing"
"""What the threads are called."""
_AWAKE = 0.1
"""Seconds between two looks at the world."""
_PATIENCE = 1.0
"""Seconds that threads have to end."""


class StoppedError(Exception):
    """What a thread raises that was told to end; nobody waits for its result any more."""


def run[T](
    tasks: Sequence[Callable[[], T]],
    stop: Callable[[], None],
    *,
    width: int | None = None,
    awake: Callable[[], None] = lambda: None,
) -> list[T]:
    """Return the results of tasks, each run in a thread.

    Parameters
    ----------
    tasks
        What to run.
    stop
        Tells the tasks to end, after one of them has failed or Ctrl-C has come.
    width
        The most threads at a time.
    awake
        Called ten times a second while waiting.
    """
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    ended: queue.SimpleQueue[tuple[int, T | None, BaseException | None]] = queue.SimpleQueue()
    for i in range(len(tasks)):
        waiting.put(i)

    def work() -> None:
        with suppress(queue.Empty):
            while True:
                i = waiting.get_nowait()
                try:
                    ended.put((i, tasks[i](), None))
                except BaseException as error:  # noqa: BLE001 (raised again where the results are waited for)
                    ended.put((i, None, error))

    threads = [
        threading.Thread(target=work, name=NAME, daemon=True) for _ in range(min(len(tasks), width or len(tasks)))
    ]
    found: dict[int, T] = {}
    try:
        for thread in threads:
            thread.start()
        while len(found) < len(tasks):
            awake()
            with suppress(queue.Empty):
                i, result, error = ended.get(timeout=_AWAKE)
                if error is not None:
                    raise error  # noqa: TRY301
                found[i] = result  # type: ignore[assignment]  # a result of its task's type, without an error
    except BaseException:
        with suppress(queue.Empty):
            while True:
                waiting.get_nowait()
        stop()
        until = time.monotonic() + _PATIENCE
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(0.0, until - time.monotonic()))
        raise
    for thread in threads:
        thread.join()
    return [found[i] for i in range(len(tasks))]
