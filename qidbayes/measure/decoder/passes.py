"""A layer run over calibration states that stop at one linear after another, each time until it has been rounded.

Sequential GPTQ rounds a linear once it has seen its inputs on every batch, and what comes after runs on the rounded
one. Started anew from the layer's input for every linear (`Replayed`), that takes two and a half times the operations
of one pass. Where memory allows, each batch's pass is suspended instead and goes on later (`Suspended`).
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from queue import SimpleQueue
from typing import Protocol

import torch
from torch import Tensor, nn

from qidbayes.measure.decoder.hidden_states import HiddenStates
from qidbayes.measure.decoder.layers import Call, Tap, replay_until, run_layer, tapped
from qidbayes.measure.errors import MeasureError


class Passes(Protocol):
    """All of a stream's batches on their way through one layer, whose weights may change wherever they stop."""

    def run_to(self, taps: Mapping[str, Tap]) -> None:
        """Give every batch's inputs to `taps`, by the linears' names in the order in which they run; stop at the last.

        Raises
        ------
        MeasureError
            If that is not reached.
        """

    def finish(self) -> None:
        """Move the stream past the layer."""

    def close(self) -> None:
        """Let go of what is held; `run_to` and `finish` are over."""


class Replayed:
    """From the layer's input each time: nothing is held."""

    def __init__(self, layer: nn.Module, stream: HiddenStates, calls: Sequence[Call]) -> None:
        self._layer, self._stream, self._calls = layer, stream, calls

    def run_to(self, taps: Mapping[str, Tap]) -> None:
        """See `Passes.run_to`."""
        replay_until(self._layer, self._stream, self._calls, taps)

    def finish(self) -> None:
        """See `Passes.finish`."""
        self._stream.advance(partial(run_past, self._layer, self._calls))

    def close(self) -> None:
        """See `Passes.close`."""


class Suspended:
    """Each batch's pass stands still where it is: a thread that waits in a hook. One runs at a time.

    The layer must be in evaluation mode.
    """

    def __init__(self, layer: nn.Module, stream: HiddenStates, calls: Sequence[Call]) -> None:
        self._layer, self._stream = layer, stream
        self._passes = [_SuspendedPass(layer, hidden, call) for hidden, call in zip(stream, calls, strict=True)]
        self._running = self._passes[0]

    def run_to(self, taps: Mapping[str, Tap]) -> None:
        """See `Passes.run_to`."""
        *_, last = taps

        def tap_and_wait(x: Tensor) -> None:
            taps[last](x)
            self._running.wait()

        with ExitStack() as stack:
            for name, tap in taps.items():
                stack.enter_context(tapped(self._layer.get_submodule(name), tap_and_wait if name == last else tap))
            for one in self._passes:
                self._running = one
                if one.go_on() is not None:
                    raise MeasureError(f"{last} was not reached when its layer was run")

    def finish(self) -> None:
        """See `Passes.finish`."""
        outputs = []
        for one in self._passes:
            output = one.go_on()
            assert output is not None
            outputs.append(output)
        self._stream.advance(lambda number, _: outputs[number])

    def close(self) -> None:
        """See `Passes.close`."""
        for one in self._passes:
            one.give_up()


class _SuspendedPass:
    def __init__(self, layer: nn.Module, hidden: Tensor, call: Call) -> None:
        self._job = (layer, hidden, call)
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._worker: _Worker | None = None
        self._given_up = self._over = False
        self._output: Tensor | None = None
        self._error: BaseException | None = None

    def go_on(self) -> Tensor | None:
        """Run until the pass waits (None) or ends (the layer's output)."""
        if self._worker is None:
            self._worker = next((worker for worker in _WORKERS if not worker.busy), None) or _Worker()
            self._worker.busy = True
            self._worker.jobs.put(self._run)
        else:
            self._go.release()
        self._back.acquire()
        self._worker.busy = not self._over
        if self._error:
            raise self._error
        return self._output

    def wait(self) -> None:
        self._back.release()
        self._go.acquire()
        if self._given_up:
            raise _GivenUpError

    def give_up(self) -> None:
        if self._worker is not None and not self._over:
            self._given_up = True
            self.go_on()

    @torch.no_grad()
    def _run(self) -> None:
        layer, hidden, call = self._job
        try:
            if hidden.is_cuda:
                torch.cuda.set_device(hidden.device)
            self._output = run_layer(layer, hidden, call)
        except _GivenUpError:
            pass
        except BaseException as error:  # noqa: BLE001 (it belongs to the thread that asked)
            self._error = error
        del layer, hidden, call
        self._over = True
        self._back.release()


class _Worker:
    """A thread that outlives its pass: what libraries prepare for each thread (cuDNN's plans: 60 ms) they do once."""

    def __init__(self) -> None:
        self.jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.busy = False
        _WORKERS.append(self)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            self.jobs.get()()


_WORKERS: list[_Worker] = []


class _GivenUpError(Exception):
    """Ends a pass that nobody waits for."""


def run_past(layer: nn.Module, calls: Sequence[Call], number: int, hidden: Tensor) -> Tensor:
    """Return a batch's states after the layer, for `HiddenStates.advance`."""
    return run_layer(layer, hidden, calls[number])
