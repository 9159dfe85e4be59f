"""Two models' next-token distributions by two kernels: one reads a token's logits of one model, the other of both."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from qidbayes.measure.decoder.token_losses_triton import summarize


@triton.jit  # type: ignore[untyped-decorator]
def _kernel(  # type: ignore[no-untyped-def]
    logits, reference, logs, reference_logs, divergences, vocabulary, stride, reference_stride, BLOCK: tl.constexpr
) -> None:  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    logits += row * stride
    reference += row * reference_stride
    lane = tl.arange(0, BLOCK)
    log_q = tl.load(logs + row)
    log_p = tl.load(reference_logs + row)
    divergence = tl.zeros([BLOCK], tl.float32)
    for start in range(0, vocabulary, BLOCK):
        inside = start + lane < vocabulary
        q = tl.load(logits + start + lane, mask=inside, other=-1e30).to(tl.float32) - log_q
        p = tl.load(reference + start + lane, mask=inside, other=-1e30).to(tl.float32) - log_p
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


def compare_tokens(
    logits: Tensor, reference: Tensor, targets: Tensor, known: tuple[Tensor, Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return losses, divergences and agreements as `qidbayes.measure.decoder.compare.compare_tokens` does.

    Parameters
    ----------
    logits, reference, targets
        As it takes them.
    known
        What `summarize` says of the reference, if it has been asked.
    """
    losses, logs, firsts = summarize(logits, targets)
    _, reference_logs, reference_firsts = known or summarize(reference, targets)
    divergences = torch.empty_like(losses)
    launch: Any = _kernel[(len(logits),)]
    launch(
        logits, reference, logs, reference_logs, divergences, logits.shape[1], logits.stride(0), reference.stride(0),
        BLOCK=4096, num_warps=8,
    )  # fmt: skip
    return losses, divergences, (firsts == reference_firsts).float()
