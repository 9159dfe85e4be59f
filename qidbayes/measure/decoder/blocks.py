"""Evaluation in blocks of windows, which ends once QiD is known well enough.

The blocks are fixed beforehand, and so is the order of the windows: at random, since those of one document lie together
and are alike. Whether to go on is asked at the end of a block only. Who looks at an estimate and then decides to stop
gets one that is a little off; `benchmarks/until.py` says how far.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from qidbayes.measure.decoder.evaluate import paired_difference

_FIRST = 8  # the first block is this part of the windows, and each that follows doubles what has been seen
_LEAST = 32  # windows of the first block: fewer tell too little of their own spread


def block_ends(windows: int) -> list[int]:
    """Return after how many of so many windows it is asked whether to go on.

    Examples
    --------
    >>> block_ends(320), block_ends(100), block_ends(20)
    ([40, 80, 160, 320], [32, 50, 100], [20])
    """
    ends = (max(windows * part // _FIRST, min(_LEAST, windows)) for part in (1, 2, 4, 8))
    return list(dict.fromkeys(ends))


def in_blocks(windows: Tensor, until: float | None) -> list[Tensor]:
    """Return windows `[n, length]` in blocks, all of them in one where nothing is said of `until`."""
    if until is None:
        return [windows]
    ends = block_ends(len(windows))
    return [windows[start:stop] for start, stop in zip([0, *ends], ends, strict=False)]


def in_random_order(windows: Tensor) -> Tensor:
    """Return windows `[n, length]` in an order that depends on how many there are and on nothing else."""
    return windows[torch.randperm(len(windows), generator=torch.Generator().manual_seed(len(windows)))]


def is_told(losses: Tensor, baseline: Tensor, until: float) -> bool:
    """Whether QiD's standard error is at most so large a share of it; of losses that are not finite, all is told.

    Parameters
    ----------
    losses, baseline
        Each window's mean loss, quantized and in 16 bits, nats/token; `baseline` may go on after `losses` end.
    until
        The share.

    Examples
    --------
    >>> losses, baseline = torch.tensor([2.5, 3.25, 4.25]), torch.tensor([2.0, 3.0, 4.0])
    >>> is_told(losses, baseline, 0.2), is_told(losses, baseline, 0.3)
    (False, True)
    """
    found = paired_difference(losses, baseline[: len(losses)])
    return not found.standard_error > until * abs(found.mean)


def going_on(found: Sequence[Tensor], baseline: Sequence[Tensor], until: float | None) -> bool:
    """Return whether the next block is wanted, after some blocks' losses and the 16-bit model's.

    Parameters
    ----------
    found, baseline
        `[n]` a block, as `is_told` takes them.
    until
        Likewise; None: it is.

    Examples
    --------
    >>> going_on([torch.tensor([2.5, 3.25])], [torch.tensor([2.0, 3.0])], until=0.1)
    True
    """
    return until is None or not is_told(torch.cat(list(found)), torch.cat(list(baseline)), until)
