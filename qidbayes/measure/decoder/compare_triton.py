"""Two models' next-token distributions as one kernel: each program reads one token's logits of both, twice."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_LEAST = tl.constexpr(-1e30)  # stands for no logit yet: its exponential is 0, and no difference with it is NaN
_NONE = tl.constexpr(2**30)  # stands for no token


@triton.jit  # type: ignore[untyped-decorator]
def _kernel(  # type: ignore[no-untyped-def]
    logits, reference, targets, losses, divergences, agreements, vocabulary, stride, reference_stride,
    BLOCK: tl.constexpr, LEAST: tl.constexpr, NONE: tl.constexpr,
) -> None:  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    logits += row * stride
    reference += row * reference_stride
    lane = tl.arange(0, BLOCK)
    most_q = tl.full([BLOCK], LEAST, tl.float32)
    most_p = tl.full([BLOCK], LEAST, tl.float32)
    first_q = tl.full([BLOCK], NONE, tl.int32)
    first_p = tl.full([BLOCK], NONE, tl.int32)
    total_q = tl.zeros([BLOCK], tl.float32)
    total_p = tl.zeros([BLOCK], tl.float32)
    for start in range(0, vocabulary, BLOCK):
        inside = start + lane < vocabulary
        q = tl.load(logits + start + lane, mask=inside, other=LEAST).to(tl.float32)
        p = tl.load(reference + start + lane, mask=inside, other=LEAST).to(tl.float32)
        first_q = tl.where(q > most_q, start + lane, first_q)
        first_p = tl.where(p > most_p, start + lane, first_p)
        above_q = tl.maximum(most_q, q)
        above_p = tl.maximum(most_p, p)
        total_q = total_q * tl.exp(most_q - above_q) + tl.exp(q - above_q)
        total_p = total_p * tl.exp(most_p - above_p) + tl.exp(p - above_p)
        most_q = above_q
        most_p = above_p
    top_q = tl.max(most_q, axis=0)
    top_p = tl.max(most_p, axis=0)
    log_q = top_q + tl.log(tl.sum(total_q * tl.exp(most_q - top_q), axis=0))
    log_p = top_p + tl.log(tl.sum(total_p * tl.exp(most_p - top_p), axis=0))
    # Of equals the first counts, in both.
    best_q = tl.min(tl.where(most_q == top_q, first_q, NONE), axis=0)
    best_p = tl.min(tl.where(most_p == top_p, first_p, NONE), axis=0)
    tl.store(agreements + row, (best_q == best_p).to(tl.float32))
    tl.store(losses + row, log_q - tl.load(logits + tl.load(targets + row)).to(tl.float32))
    divergence = tl.zeros([BLOCK], tl.float32)
    for start in range(0, vocabulary, BLOCK):
        inside = start + lane < vocabulary
        q = tl.load(logits + start + lane, mask=inside, other=LEAST).to(tl.float32) - log_q
        p = tl.load(reference + start + lane, mask=inside, other=LEAST).to(tl.float32) - log_p
        d = q - p
        p = tl.exp(p)
        q = tl.exp(q)
        series = 1 / 362880 * d + 1 / 40320
        series = series * d + 1 / 5040
        series = series * d + 1 / 720
        series = series * d + 1 / 120
        series = series * d + 1 / 24
        series = series * d + 1 / 6
        series = series * d + 1 / 2
        far = tl.where(p > 0.0, q - p - p * d, q)
        term = tl.where(tl.abs(d) <= 0.5, p * (series * d * d), far)
        divergence += tl.where(inside, term, 0.0)
    tl.store(divergences + row, tl.sum(divergence, axis=0))


def compare_tokens(logits: Tensor, reference: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return losses, divergences and agreements as `qidbayes.measure.decoder.compare.compare_tokens` does."""
    made = [torch.empty(len(logits), dtype=torch.float32, device=logits.device) for _ in range(3)]
    launch: Any = _kernel[(len(logits),)]
    launch(
        logits, reference, targets, *made, logits.shape[1], logits.stride(0), reference.stride(0),
        BLOCK=4096, LEAST=_LEAST, NONE=_NONE, num_warps=8,
    )  # fmt: skip
    losses, divergences, agreements = made
    return losses, divergences, agreements
