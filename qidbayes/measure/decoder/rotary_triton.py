"""Rotary position embeddings of queries or keys as one kernel, which rounds wherever transformers' operations do."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_ROWS = 32  # of a program: a head at a position each


@triton.jit  # type: ignore[untyped-decorator]
def _kernel(  # type: ignore[no-untyped-def]
    x, cos, sin, out, rows, length, heads, x_batch, x_length, x_head, angle_batch,
    WIDTH: tl.constexpr, TURNED: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    head, position = row % heads, row // heads
    batch, position = position // length, position % length
    column = tl.arange(0, COLUMNS)
    inside = (row[:, None] < rows) & (column[None, :] < WIDTH)
    turned = inside & (column[None, :] < TURNED)
    start = (batch * x_batch + position * x_length + head * x_head)[:, None]
    own = tl.load(x + start + column[None, :], mask=inside, other=0.0)
    partner = tl.where(column < TURNED // 2, column + TURNED // 2, column - TURNED // 2)
    other = tl.load(x + start + partner[None, :], mask=turned, other=0.0)
    other = tl.where(column[None, :] < TURNED // 2, -other, other)
    angle = (batch * angle_batch + position * TURNED)[:, None] + column[None, :]
    along = tl.load(cos + angle, mask=turned, other=0.0)
    across = tl.load(sin + angle, mask=turned, other=0.0)
    # Each product and the sum are rounded to the type of x, as separate operations round them.
    along = (own.to(tl.float32) * along.to(tl.float32)).to(own.dtype)
    across = (other.to(tl.float32) * across.to(tl.float32)).to(own.dtype)
    answer = (along.to(tl.float32) + across.to(tl.float32)).to(own.dtype)
    answer = tl.where(column[None, :] < TURNED, answer, own)
    tl.store(out + row[:, None] * WIDTH + column[None, :], answer, mask=inside)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return queries or keys turned by their positions' angles.

    Parameters
    ----------
    x
        `[batch, heads, length, width]`, with any strides but the last.
    cos, sin
        `[batch or 1, length, turned]`: of the first `turned` columns, whose halves are pairs; the rest stay.

    Returns
    -------
    torch.Tensor
        Of the shape of `x`, in memory by `[batch, length, heads, width]`: so attention answers in the order in which
        its output is projected.
    """
    batch, heads, length, width = x.shape
    out = torch.empty(batch, length, heads, width, dtype=x.dtype, device=x.device)
    rows = batch * length * heads
    launch: Any = _kernel[(triton.cdiv(rows, _ROWS),)]
    launch(
        x, cos.contiguous(), sin.contiguous(), out, rows, length, heads, x.stride(0), x.stride(2), x.stride(1),
        0 if len(cos) == 1 else length * cos.shape[2],
        WIDTH=width, TURNED=cos.shape[2], ROWS=_ROWS, COLUMNS=triton.next_power_of_2(width),
        num_warps=4, enable_fp_fusion=False,
    )  # fmt: skip
    return out.transpose(1, 2)
