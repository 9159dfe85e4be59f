"""GPTQ on one matrix for several settings at once: the sweep's solver. `GPTQ.solve` is what it is held against."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from qidbayes.measure.quantize.gptq import GPTQ, Prepared, Solution
from qidbayes.measure.quantize.grid import Grid, fit_grid
from qidbayes.measure.quantize.round_block import Block, round_block


def solve_together(quantizers: Sequence[GPTQ], prepared: Sequence[Prepared]) -> list[Solution]:
    """Round the columns of one matrix once for each quantizer.

    Parameters
    ----------
    quantizers
        With one `block_size`; everything else may differ.
    prepared
        From each one's `prepare`; their weights are used up.

    Examples
    --------
    >>> weight = torch.tensor([[0.3, 1.0, -0.8, 0.25]])
    >>> inputs = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 1.0, 1.0, 1.0]])
    >>> both = [GPTQ(bits=2, group_size=None), GPTQ(bits=4, group_size=None)]
    >>> for solution in solve_together(both, [q.prepare(weight, inputs.T @ inputs) for q in both]):
    ...     print(solution.weight)
    tensor([[ 0.0000,  0.6667, -0.6667,  0.6667]])
    tensor([[ 0.2667,  0.9333, -0.8000,  0.2667]])
    """
    (block_size,) = {quantizer.block_size for quantizer in quantizers}
    weight = torch.stack([p.weight for p in prepared])
    quantized = torch.empty_like(weight)
    tops = torch.tensor([2.0**q.bits - 1 for q in quantizers], dtype=weight.dtype, device=weight.device)
    open_grids: list[Grid | None] = [None for _ in quantizers]
    columns = weight.shape[2]
    for start in range(0, columns, block_size):
        stop = min(start + block_size, columns)
        grids: list[list[Grid]] = []
        index: list[list[int]] = []
        for v, (quantizer, ready) in enumerate(zip(quantizers, prepared, strict=True)):
            block_grids, block_index = _grids(quantizer, ready, weight[v], start, stop, open_grids[v])
            grids.append(block_grids)
            index.append(block_index)
            open_grids[v] = block_grids[block_index[-1]]
        done = round_block(
            Block(
                weight[:, :, start:stop],
                torch.stack([p.spread[start:stop, start:stop] for p in prepared]),
                _stacked([[grid.scale for grid in of] for of in grids]),
                _stacked([[grid.zero for grid in of] for of in grids]),
                _on_device(tuple(map(tuple, index)), weight.device),
                tops,
            )
        )
        quantized[:, :, start:stop] = done.quantized
        for v, ready in enumerate(prepared):
            weight[v, :, stop:] -= done.errors[v] @ ready.spread[start:stop, stop:]
    return [ready.solution(quantized[v]) for v, ready in enumerate(prepared)]


def _grids(
    quantizer: GPTQ, prepared: Prepared, weight: Tensor, start: int, stop: int, carried: Grid | None
) -> tuple[list[Grid], list[int]]:
    """The grids that a block's columns round to, and which of them each column does."""
    if prepared.grids is not None:
        born = prepared.group_of[start:stop]
        used = sorted(set(born))
        return [prepared.grids[group] for group in used], [used.index(group) for group in born]
    group_size = quantizer.group_size or weight.shape[1]
    grids = [] if carried is None or start % group_size == 0 else [carried]
    index = []
    for column in range(start, stop):
        if column % group_size == 0:
            # A group that starts within a block is fitted before the block's own errors reach it, as in every GPTQ.
            grids.append(fit_grid(weight[:, column : column + group_size], quantizer.bits, quantizer.symmetric))
        index.append(len(grids) - 1)
    return grids, index


def _stacked(columns: list[list[Tensor]]) -> Tensor:
    """`[quantizers, out, most grids]` from `[out, 1]` each; who has fewer grids repeats the last, which none uses."""
    most = max(map(len, columns))
    return torch.stack([torch.cat(of + of[-1:] * (most - len(of)), dim=1) for of in columns])


@lru_cache(maxsize=1_024)
def _on_device(index: tuple[tuple[int, ...], ...], device: torch.device) -> Tensor:
    """Kept, since a list on its way to a GPU waits for all that the GPU has to do."""
    return torch.tensor(index, dtype=torch.int32, device=device)
