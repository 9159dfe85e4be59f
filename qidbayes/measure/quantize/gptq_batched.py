"""GPTQ on one matrix for several settings at once: the sweep's solver. `GPTQ.solve` is what it is held against."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

import torch
from torch import Tensor

from qidbayes.measure.quantize.block import WHOLE, Block, Codes
from qidbayes.measure.quantize.float_grid import FORMATS
from qidbayes.measure.quantize.gptq import GPTQ, GPTQFloats, GPTQKind, Prepared
from qidbayes.measure.quantize.grid import fit_scale
from qidbayes.measure.quantize.round_block import round_block

type Scales = tuple[Tensor, Tensor]
"""Scales and zeros, `[settings, out, grids]` each."""


def solve_together(quantizers: Sequence[GPTQKind], prepared: Sequence[Prepared]) -> list[Tensor]:
    """Round the columns of one matrix once for each quantizer; returns it dequantized, `[out, in]` each.

    Parameters
    ----------
    quantizers
        With one `block_size`; everything else may differ. Grids of neighbours that differ in bits alone are fitted
        together.
    prepared
        From each one's `prepare`; their weights are used up.

    Examples
    --------
    >>> weight = torch.tensor([[0.3, 1.0, -0.8, 0.25]])
    >>> inputs = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 1.0, 1.0, 1.0]])
    >>> both = [GPTQ(bits=2, group_size=None), GPTQ(bits=4, group_size=None)]
    >>> for solved in solve_together(both, [q.prepare(weight, inputs.T @ inputs) for q in both]):
    ...     print(solved)
    tensor([[ 0.0000,  0.6667, -0.6667,  0.6667]])
    tensor([[ 0.2667,  0.9333, -0.8000,  0.2667]])
    """
    quantized = round_columns(quantizers, torch.stack([p.weight for p in prepared]), prepared)
    return [ready.put_back(quantized[v]) for v, ready in enumerate(prepared)]


def round_columns(quantizers: Sequence[GPTQKind], weight: Tensor, prepared: Sequence[Prepared]) -> Tensor:
    """Return the columns as they are rounded, `[settings, out, in]`, in the order in which they are.

    Parameters
    ----------
    quantizers, prepared
        As `solve_together` takes them.
    weight
        The weights of `prepared`, likewise; they are used up.
    """
    (block_size,) = {quantizer.block_size for quantizer in quantizers}
    quantized = torch.empty_like(weight)
    codes = _codes(quantizers, weight)
    alike = [_Alike(quantizers[part.start], prepared[part.start], part) for part in _neighbours(quantizers)]
    columns = weight.shape[2]
    for start in range(0, columns, block_size):
        stop = min(start + block_size, columns)
        grids = [one.grids(weight, codes.top, start, stop) for one in alike]
        index = tuple(tuple(which) for one, (_, which) in zip(alike, grids, strict=True) for _ in range(one.count))
        scale, zero = _side_by_side([scales for scales, _ in grids])
        done = round_block(
            Block(
                weight[:, :, start:stop],
                torch.stack([p.spread[start:stop, start:stop] for p in prepared]),
                scale,
                zero,
                _on_device(index, weight.device),
                codes,
            )
        )
        quantized[:, :, start:stop] = done.quantized
        for v, ready in enumerate(prepared):
            weight[v, :, stop:].addmm_(done.errors[v], ready.spread[start:stop, stop:], alpha=-1)
    return quantized


@dataclass
class _Alike:
    """Neighbouring settings whose grids cover the same columns: those of `part`."""

    quantizer: GPTQKind
    prepared: Prepared
    part: slice
    open: Scales | None = None
    """The grids of the group that the last block ended in."""

    @property
    def count(self) -> int:
        found: int = self.part.stop - self.part.start
        return found

    def grids(self, weight: Tensor, tops: Tensor, start: int, stop: int) -> tuple[Scales, list[int]]:
        """The grids that a block's columns round to, and which of them each column does."""
        if self.prepared.grids is not None:
            born = self.prepared.group_of[start:stop]
            used = sorted(set(born))
            static = [self.prepared.grids[group] for group in used]
            scales = torch.cat([grid.scale for grid in static], dim=1), torch.cat([grid.zero for grid in static], dim=1)
            return (scales[0][None], scales[1][None]), [used.index(group) for group in born]
        own, top = weight[self.part], tops[self.part, None, None]
        size = self.quantizer.group_size or weight.shape[2]
        # A group that starts within a block is fitted before the block's own errors reach it, as in every GPTQ.
        first = -(-start // size) * size
        groups = [own[:, :, column : column + size] for column in range(first, stop, size)]
        if isinstance(self.quantizer, GPTQ):
            fitted = [fit_scale(group, top, self.quantizer.symmetric) for group in groups]
        else:
            alone = [self.prepared.fitter.fit(group[0]) for group in groups]
            fitted = [(grid.scale[None], grid.zero[None]) for grid in alone]
        found = fitted if first == start or self.open is None else [self.open, *fitted]
        self.open = found[-1]
        scale, zero = found[0] if len(found) == 1 else (torch.cat([one[i] for one in found], dim=2) for i in (0, 1))
        return (scale, zero), [column // size - start // size for column in range(start, stop)]


def _neighbours(quantizers: Sequence[GPTQKind]) -> list[slice]:
    """Runs of settings that differ in bits alone; one whose grids are static, or floating-point, is by itself."""
    found, start = [], 0
    for _, some in groupby(enumerate(quantizers), _alike):
        stop = start + len(list(some))
        found.append(slice(start, stop))
        start = stop
    return found


def _alike(one: tuple[int, GPTQKind]) -> object:
    number, quantizer = one
    by_itself = quantizer.static_groups or not isinstance(quantizer, GPTQ)
    return gridded(quantizer), by_itself and number


def gridded(quantizer: GPTQKind) -> tuple[bool, bool, tuple[str, bool, int]]:
    """Return what settings whose grids are fitted together have in common; it sorts."""
    return quantizer.static_groups, quantizer.rotate, quantizer.grids_alike


def _codes(quantizers: Sequence[GPTQKind], weight: Tensor) -> Codes:
    elements = [FORMATS[q.kind].element if isinstance(q, GPTQFloats) else None for q in quantizers]
    low = tuple(-e.highest if e else 0.0 for e in elements)
    top = tuple(e.highest if e else 2.0**q.bits - 1 for e, q in zip(elements, quantizers, strict=True))
    least, mantissa = (tuple(getattr(e, name) if e else WHOLE for e in elements) for name in ("least", "mantissa"))
    low_, top_ = (_on_device(numbers, weight.device, weight.dtype) for numbers in (low, top))
    return Codes(low_, top_, _on_device(least, weight.device), _on_device(mantissa, weight.device))


def _side_by_side(parts: list[Scales]) -> Scales:
    """Join the scales and zeros of all settings; one with fewer grids repeats its last, which no column uses."""
    if len(parts) == 1:
        return parts[0]
    most = max(scale.shape[2] for scale, _ in parts)

    def filled(x: Tensor) -> Tensor:
        return torch.cat([x, x[:, :, -1:].expand(-1, -1, most - x.shape[2])], dim=2)

    return torch.cat([filled(scale) for scale, _ in parts]), torch.cat([filled(zero) for _, zero in parts])


@lru_cache(maxsize=1_024)
def _on_device(
    numbers: tuple[float, ...] | tuple[tuple[int, ...], ...], device: torch.device, dtype: torch.dtype = torch.int32
) -> Tensor:
    """Return numbers as a tensor on the device; it is kept, as copying a list waits for the GPU."""
    return torch.tensor(numbers, dtype=dtype, device=device)
