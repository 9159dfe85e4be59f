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
    >>> from qidbayes.measure.quantize.block import WHOLE, Codes
    >>> one = torch.ones(1, 1, 1)
    >>> done = round_block_plain(
    ...     Block(torch.tensor([[[0.6, 0.6]]]), torch.tensor([[[1.0, -0.5], [0.0, 1.0]]]), one, 0 * one,
    ...           torch.zeros(1, 2, dtype=torch.int32),
    ...           Codes(torch.tensor([0.0]), torch.tensor([3.0]), *torch.full((2, 1), WHOLE, dtype=torch.int32))))
    >>> done.quantized, done.errors
    (tensor([[[1., 0.]]]), tensor([[[-0.4000,  0.4000]]]))
    """
    left = block.weight.clone()
    errors, quantized = torch.empty_like(left), torch.empty_like(left)
    codes = block.codes
    low, top, least, mantissa = (x[:, None] for x in (codes.low, codes.top, codes.least, codes.mantissa))
    for i in range(left.shape[2]):
        which = block.index[:, None, i : i + 1].long().expand(-1, left.shape[1], 1)
        scale, zero = block.scale.gather(2, which)[:, :, 0], block.zero.gather(2, which)[:, :, 0]
        value = left[:, :, i] / scale
        _, exponent = torch.frexp(value)  # of a fraction from 1/2 to 1
        step = torch.ldexp(torch.ones_like(value), torch.maximum(exponent - 1, least) - mantissa)
        code = torch.minimum(torch.maximum(torch.round(value / step) * step + zero, low), top)
        quantized[:, :, i] = scale * (code - zero)
        errors[:, :, i] = (left[:, :, i] - quantized[:, :, i]) / block.spread[:, i : i + 1, i]
        left[:, :, i:] -= errors[:, :, i : i + 1] * block.spread[:, i : i + 1, i:]
    return Rounded(quantized, errors)
