"""Work that is too small to fill a GPU, side by side on streams of its own."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import torch


class Beside:
    """Up to so many pieces of work at a time; each waits for all that was asked of the GPU before it was started.

    A piece that asks the GPU for an answer stands still, so each has a thread. On a CPU, and where there is one at a
    time, it is done at once.

    Parameters
    ----------
    device
        The device that computes.
    count
        How many at a time.
    """

    def __init__(self, device: torch.device, count: int) -> None:
        self._device = device
        self._streams = [_stream(device, n) for n in range(count)] if device.type == "cuda" and count > 1 else []
        self._started = 0
        self._held: list[object] = []

    def start[T](self, work: Callable[..., T], *arguments: Any) -> "Future[T]":
        """Have something done; what it is given must not be changed until `wait`."""
        if not self._streams:
            return _at_once(work, *arguments)
        stream = self._streams[self._started % len(self._streams)]
        self._started += 1
        # What was made on this stream would be handed out again here while the other one still reads it.
        self._held.append(arguments)
        here = torch.cuda.current_stream(self._device).record_event()
        return _threads(self._device).submit(self._run, stream, here, work, *arguments)

    @torch.no_grad()
    def _run[T](self, stream: torch.cuda.Stream, after: torch.cuda.Event, work: Callable[..., T], *arguments: Any) -> T:
        with torch.cuda.device(self._device), torch.cuda.stream(stream):
            stream.wait_event(after)
            return work(*arguments)

    def wait(self) -> None:
        """What is asked of the GPU from here on comes after all that was started, whose results have been taken."""
        for stream in self._streams:
            torch.cuda.current_stream(self._device).wait_stream(stream)
        self._held.clear()


def _at_once[T](work: Callable[..., T], *arguments: Any) -> "Future[T]":
    done: Future[T] = Future()
    try:
        done.set_result(work(*arguments))
    except Exception as error:  # noqa: BLE001 (it belongs to who takes the result)
        done.set_exception(error)
    return done


@lru_cache
def _threads(device: torch.device) -> ThreadPoolExecutor:
    """They outlive a pass: a library's handle takes a thread some tenths of a second."""
    torch.linalg.cholesky_ex(torch.eye(1, device=device))  # what torch loads at the first call, it loads in one thread
    return ThreadPoolExecutor(8, "beside")


@lru_cache
def _stream(device: torch.device, number: int) -> torch.cuda.Stream:  # noqa: ARG001 (each has its own)
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
