"""Calls into a C library that may never come back."""

import atexit
import os
import sys
import threading
from collections.abc import Callable


def in_time[T](work: Callable[[], T], seconds: float) -> T:
    """Return what a call returns, or raise what it raises, if that takes no longer than so many seconds.

    It has to let go of Python's lock while it works. A call that does not come back goes on in its thread; the process
    then ends without the libraries' own farewells, which crash where a thread of theirs still runs.

    Raises
    ------
    TimeoutError
        If it takes longer.

    Examples
    --------
    >>> in_time(lambda: 6 * 7, seconds=10)
    42
    """
    returned: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            returned.append(work())
        except BaseException as error:  # noqa: BLE001 (raised again by who waits)
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        atexit.register(_leave)
        raise TimeoutError(f"no answer within {seconds:g} seconds")
    if raised:
        raise raised[0]
    return returned[0]


def _leave() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(2)
