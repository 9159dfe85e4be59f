"""Cross-entropy as one kernel: each program reads one token's logits once, in whatever type they are."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_LEAST = tl.constexpr(-1e30)  # stands for no logit yet: its exponential is 0, and no difference with it is NaN


@triton.jit  # type: ignore[untyped-decorator]
def _kernel(  # type: ignore[no-untyped-def]
    logits, targets, losses, vocabulary, row_stride, BLOCK: tl.constexpr, LEAST: tl.constexpr
) -> None:  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    logits += row * row_stride
    lane = tl.arange(0, BLOCK)
    highest = tl.full([BLOCK], LEAST, tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(0, vocabulary, BLOCK):
        value = tl.load(logits + start + lane, mask=start + lane < vocabulary, other=LEAST).to(tl.float32)
        above = tl.maximum(highest, value)
        total = total * tl.exp(highest - above) + tl.exp(value - above)
        highest = above
    top = tl.max(highest, axis=0)
    everything = tl.sum(total * tl.exp(highest - top), axis=0)
    wanted = tl.load(logits + tl.load(targets + row)).to(tl.float32)
    tl.store(losses + row, top + tl.log(everything) - wanted)


def token_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Return what `qidbayes.measure.decoder.evaluate.token_losses` does."""
    losses = torch.empty(len(logits), dtype=torch.float32, device=logits.device)
    launch: Any = _kernel[(len(logits),)]
    launch(logits, targets, losses, logits.shape[1], logits.stride(0), BLOCK=4096, LEAST=_LEAST, num_warps=8)
    return losses
