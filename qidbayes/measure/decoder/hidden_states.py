"""Hidden states on their way through a decoder, batch by batch: on the GPU while they fit, else in main memory."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor


class HiddenStates:
    """One model's hidden states, `[batch, length, width]` each.

    In main memory they are pinned, and travel while the GPU computes: the next batch in and the last one out.

    Parameters
    ----------
    batches
        On the device that computes, or in main memory.
    device
        The device that computes.
    kept_outside
        Whether they wait in main memory.
    """

    def __init__(self, batches: Sequence[Tensor], device: torch.device, kept_outside: bool) -> None:
        self._outside = kept_outside
        self._device = device
        self._batches = [_pinned(batch) if kept_outside else batch for batch in batches]
        if kept_outside:
            self._incoming, self._outgoing = _new_stream(device), _new_stream(device)

    def copy(self) -> "HiddenStates":
        """Return a stream that goes its own way from here."""
        made = HiddenStates.__new__(HiddenStates)
        made.__dict__.update(self.__dict__)
        # Batches that stay on the device are replaced, never written to; those in main memory are written over.
        made._batches = [_pinned(batch) for batch in self._batches] if self._outside else list(self._batches)
        return made

    def __iter__(self) -> Iterator[Tensor]:
        """Yield the batches on the device."""
        if not self._outside:
            yield from self._batches
            return
        here = torch.cuda.current_stream(self._device)
        self._incoming.wait_stream(self._outgoing)
        coming = self._fetch(0)
        for number in range(len(self._batches)):
            batch = coming
            here.wait_stream(self._incoming)
            if number + 1 < len(self._batches):
                coming = self._fetch(number + 1)
            batch.record_stream(here)
            yield batch

    def batch(self, number: int) -> Tensor:
        """Return one batch on the device."""
        if not self._outside:
            return self._batches[number]
        here = torch.cuda.current_stream(self._device)
        self._incoming.wait_stream(self._outgoing)
        batch = self._fetch(number)
        here.wait_stream(self._incoming)
        batch.record_stream(here)
        return batch

    def advance(self, step: Callable[[int, Tensor], Tensor]) -> None:
        """Put `step(number, batch)` in the place of every batch."""
        for number, batch in enumerate(self):
            after = step(number, batch)
            if self._outside:
                self._outgoing.wait_stream(torch.cuda.current_stream(self._device))
                with torch.cuda.stream(self._outgoing):
                    self._batches[number].copy_(after, non_blocking=True)
                after.record_stream(self._outgoing)
            else:
                self._batches[number] = after

    def _fetch(self, number: int) -> Tensor:
        with torch.cuda.stream(self._incoming):
            return self._batches[number].to(self._device, non_blocking=True)


def _new_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _pinned(batch: Tensor) -> Tensor:
    made = torch.empty_like(batch, device="cpu", pin_memory=True)
    return made.copy_(batch)
