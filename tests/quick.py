"""What code is quick, whatever else the machine and the process do."""

import contextlib
import gc
import time
from collections.abc import Iterator


@contextlib.contextmanager
def quick(seconds: float = 0.5) -> Iterator[None]:
    """Assert that the block takes at most so many seconds of this thread's CPU.

    The collector is held off: a full collection, of all that the tests before have left, takes longer than the block.
    """
    on = gc.isenabled()
    gc.disable()
    started = time.thread_time()
    try:
        yield
        took = time.thread_time() - started
    finally:
        if on:
            gc.enable()
    assert took < seconds, f"took {took:.2f} s of CPU"
