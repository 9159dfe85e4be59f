"""Cross-entropy as one kernel: each program reads one token's logits once, in whatever type they are."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_LEAST = tl.constexpr(-1e30)  # stands for no logit yet: its exponential is 0, and no difference with it is NaN
_NONE = tl.constexpr(2**30)  # stands for no token


@triton.jit  # type: ignore[untyped-decorator]
def _kernel(  # type: ignore[no-untyped-def]
    logits, targets, losses, logs, firsts, vocabulary, row_stride,
    BLOCK: tl.constexpr, LEAST: tl.constexpr, NONE: tl.constexpr,
) -> None:  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    logits += row * row_stride
    lane = tl.arange(0, BLOCK)
    highest = tl.full([BLOCK], LEAST, tl.float32)
    first = tl.full([BLOCK], NONE, tl.int32)
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(0, vocabulary, BLOCK):
        value = tl.load(logits + start + lane, mask=start + lane < vocabulary, other=LEAST).to(tl.float32)
        # Of e^(old − new) and e^(value − new), where new is the higher one, either is 1.
        higher = value > highest
        other = tl.exp(-tl.abs(value - highest))
        total = tl.where(higher, total * other + 1.0, total + other)
        first = tl.where(higher, start + lane, first)
        highest = tl.where(higher, value, highest)
    top = tl.max(highest, axis=0)
    log = top + tl.log(tl.sum(total * tl.exp(highest - top), axis=0))
    tl.store(losses + row, log - tl.load(logits + tl.load(targets + row)).to(tl.float32))
    tl.store(logs + row, log)
    # Of equals the first counts.
    tl.store(firsts + row, tl.min(tl.where(highest == top, first, NONE), axis=0))


def summarize(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return each token's loss, the logarithm of its exponentials' sum, and the top token, `[n]` each."""
    losses, logs = (torch.empty(len(logits), dtype=torch.float32, device=logits.device) for _ in range(2))
    firsts = torch.empty(len(logits), dtype=torch.int32, device=logits.device)
    launch: Any = _kernel[(len(logits),)]
    launch(
        logits, targets, losses, logs, firsts, logits.shape[1], logits.stride(0),
        BLOCK=4096, LEAST=_LEAST, NONE=_NONE, num_warps=8,
    )  # fmt: skip
    return losses, logs, firsts
