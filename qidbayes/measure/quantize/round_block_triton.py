"""The loop inside GPTQ as one kernel: each program keeps some rows of a block in registers through all its columns."""

from typing import Any

import torch
import triton
import triton.language as tl

from qidbayes.measure.quantize.block import Block, Rounded

_ROWS = 16  # of a program: 16 × 128 weights, 16 in each thread of four warps
_ROUNDING = tl.constexpr(1.5 * 2.0**23)  # added and taken away, it rounds a float32 to a whole number, ties to even


@triton.jit  # type: ignore[untyped-decorator]
def _kernel(  # type: ignore[no-untyped-def]
    weight, spread, scale, zero, index, low, top, least, mantissa, quantized, errors,
    rows, columns, grids, weight_setting, weight_row,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, ROUNDING: tl.constexpr,
) -> None:  # fmt: skip
    setting = tl.program_id(1)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)
    inside = (row[:, None] < rows) & (column[None, :] < columns)
    left = tl.load(
        weight + setting.to(tl.int64) * weight_setting + row[:, None].to(tl.int64) * weight_row + column[None, :],
        mask=inside, other=0.0,
    )  # fmt: skip
    rounded = tl.zeros_like(left)
    error = tl.zeros_like(left)
    lowest = tl.load(low + setting)
    highest = tl.load(top + setting)
    least_exponent = tl.load(least + setting)
    fraction_bits = tl.load(mantissa + setting)
    spread += setting * columns * columns
    grid_of_row = (setting * rows + row) * grids
    for i in range(columns):
        here = column == i
        value = tl.sum(tl.where(here[None, :], left, 0.0), axis=1)
        which = tl.load(index + setting * columns + i)
        step = tl.load(scale + grid_of_row + which, mask=row < rows, other=1.0)
        middle = tl.load(zero + grid_of_row + which, mask=row < rows, other=0.0)
        code = tl.div_rn(value, step)
        exponent = ((code.to(tl.int32, bitcast=True) >> 23) & 0xFF) - 127
        exponent = tl.maximum(exponent, least_exponent) - fraction_bits
        unit = ((exponent + 127) << 23).to(tl.float32, bitcast=True)  # a power of 2: dividing by it is exact
        code = ((tl.div_rn(code, unit) + ROUNDING) - ROUNDING) * unit
        code = tl.minimum(tl.maximum(code + middle, lowest), highest)
        nearest = step * (code - middle)
        off = tl.div_rn(value - nearest, tl.load(spread + i * columns + i))
        # The factor is an upper triangle: what it holds left of the diagonal is 0.
        onward = tl.load(spread + i * columns + column, mask=column < columns, other=0.0)
        left -= off[:, None] * onward[None, :]
        rounded = tl.where(here[None, :], nearest[:, None], rounded)
        error = tl.where(here[None, :], off[:, None], error)
    out = (setting * rows + row[:, None]).to(tl.int64) * columns + column[None, :]
    tl.store(quantized + out, rounded, mask=inside)
    tl.store(errors + out, error, mask=inside)


def round_block(block: Block) -> Rounded:
    """Return what `round_block_plain` does; float32 only."""
    settings, rows, columns = block.weight.shape
    assert block.weight.stride(2) == 1
    quantized = torch.empty(settings, rows, columns, dtype=torch.float32, device=block.weight.device)
    errors = torch.empty_like(quantized)
    # Products are rounded before they are taken away, as torch does.
    launch: Any = _kernel[(triton.cdiv(rows, _ROWS), settings)]
    launch(
        block.weight, block.spread.contiguous(), block.scale.contiguous(), block.zero.contiguous(),
        block.index.contiguous(), block.codes.low, block.codes.top, block.codes.least, block.codes.mantissa,
        quantized, errors,
        rows, columns, block.scale.shape[2], block.weight.stride(0), block.weight.stride(1),
        ROWS=_ROWS, COLUMNS=max(16, triton.next_power_of_2(columns)),
        ROUNDING=_ROUNDING, num_warps=4, enable_fp_fusion=False,
    )  # fmt: skip
    return Rounded(quantized, errors)
