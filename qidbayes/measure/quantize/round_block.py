"""The loop inside GPTQ: round a block's columns one after another, each error spread over the rest of the block."""

import torch

from qidbayes.measure.quantize.block import Block, Rounded

try:
    from qidbayes.measure.quantize import round_block_triton
except ImportError:  # Triton comes with torch's CUDA builds only
    round_block_triton = None  # type: ignore[assignment]


def round_block(block: Block) -> Rounded:
    """Round a block: by one Triton kernel on a GPU, else by `round_block_plain`."""
    if round_block_triton is not None and block.weight.is_cuda and block.weight.dtype == torch.float32:
        return round_block_triton.round_block(block)
    return round_block_plain(block)


def round_block_plain(block: Block) -> Rounded:
    """Round a block column by column, as `GPTQ.solve` does.

    Examples
    --------
    >>> one = torch.ones(1, 1, 1)
    >>> done = round_block_plain(
    ...     Block(torch.tensor([[[0.6, 0.6]]]), torch.tensor([[[1.0, -0.5], [0.0, 1.0]]]), one, 0 * one,
    ...           torch.zeros(1, 2, dtype=torch.int32), torch.tensor([3.0])))
    >>> done.quantized, done.errors
    (tensor([[[1., 0.]]]), tensor([[[-0.4000,  0.4000]]]))
    """
    left = block.weight.clone()
    errors, quantized = torch.empty_like(left), torch.empty_like(left)
    top = block.top[:, None]
    for i in range(left.shape[2]):
        which = block.index[:, None, i : i + 1].long().expand(-1, left.shape[1], 1)
        scale, zero = block.scale.gather(2, which)[:, :, 0], block.zero.gather(2, which)[:, :, 0]
        codes = torch.minimum((torch.round(left[:, :, i] / scale) + zero).clamp(min=0), top)
        quantized[:, :, i] = scale * (codes - zero)
        errors[:, :, i] = (left[:, :, i] - quantized[:, :, i]) / block.spread[:, i : i + 1, i]
        left[:, :, i:] -= errors[:, :, i : i + 1] * block.spread[:, i : i + 1, i:]
    return Rounded(quantized, errors)
