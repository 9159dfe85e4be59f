"""GPTQ's columns on a GPU, recorded once for each shape: a layer has the shapes of the one before.

Of a matrix that is not large, rounding takes less time than telling the GPU what to do, some thirty operations for 128
columns. A CUDA graph is told once. It does the same operations on the same numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch
from torch import Tensor

from qidbayes.measure.decoder.memory import room
from qidbayes.measure.quantize.gptq import GPTQ, GPTQKind, Prepared
from qidbayes.measure.quantize.gptq_batched import round_columns, solve_together

_SHARE = 0.05  # of what is free: the most that a recording may keep


@dataclass(frozen=True)
class _Recording:
    """A graph, and where it reads and writes: weights `[settings, out, in]`, factors, what it has rounded."""

    graph: torch.cuda.CUDAGraph
    weight: Tensor
    prepared: Sequence[Prepared]
    quantized: Tensor


@dataclass
class RecordedSolver:
    """Does what `solve_together` does; from the second time on that it sees settings and a shape, by a recording.

    Attributes
    ----------
    recordings
        By settings and shape; None where a recording would take too much memory.
    """

    recordings: dict[object, _Recording | None] = field(default_factory=dict)

    def solve(self, quantizers: Sequence[GPTQKind], prepared: Sequence[Prepared]) -> list[Tensor]:
        """Round the columns of one matrix once for each quantizer; see `solve_together`."""
        first = prepared[0].weight
        # Grids that are fitted beforehand are other numbers for each matrix: they would have to be copied as well.
        fitted = any(q.static_groups or not isinstance(q, GPTQ) for q in quantizers)
        if not first.is_cuda or fitted:
            return solve_together(quantizers, prepared)
        known = tuple(quantizers), tuple(first.shape)
        recording = self.recordings.get(known)
        if recording is None:
            solved = solve_together(quantizers, prepared)  # compiles kernels and fills caches, too
            if known not in self.recordings:
                fits = _bytes(prepared) <= _SHARE * room(first.device)
                self.recordings[known] = _record(quantizers, prepared) if fits else None
            return solved
        for v, (there, here) in enumerate(zip(recording.prepared, prepared, strict=True)):
            recording.weight[v].copy_(here.weight)
            there.spread.copy_(here.spread)
        recording.graph.replay()
        quantized = recording.quantized.clone()
        return [one.put_back(quantized[v]) for v, one in enumerate(prepared)]


def _bytes(prepared: Sequence[Prepared]) -> int:
    """What is read, what is written, and what stands between."""
    return sum(4 * p.weight.nbytes + p.spread.nbytes for p in prepared)


def _record(quantizers: Sequence[GPTQKind], prepared: Sequence[Prepared]) -> _Recording:
    weight = torch.stack([p.weight for p in prepared])
    own = [replace(p, weight=weight[v], spread=p.spread.clone()) for v, p in enumerate(prepared)]
    here, aside = torch.cuda.current_stream(weight.device), _aside(weight.device)
    graph = torch.cuda.CUDAGraph()
    aside.wait_stream(here)
    with torch.cuda.stream(aside):
        graph.capture_begin(capture_error_mode="thread_local")
        quantized = round_columns(quantizers, weight, own)
        graph.capture_end()
    here.wait_stream(aside)
    return _Recording(graph, weight, own, quantized)


@lru_cache
def _aside(device: torch.device) -> torch.cuda.Stream:
    """The stream on which graphs are recorded: one, as each takes a cuBLAS workspace for good."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
