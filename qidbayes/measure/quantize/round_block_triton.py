"""The loop inside GPTQ as one kernel: each program takes some rows of a block through all its columns, in parts."""

from typing import Any

import torch
import triton
import triton.language as tl

from qidbayes.measure.quantize.block import Block, Rounded

_ROWS, _PART = 16, 16  # of a program; columns that it holds at a time: the fewer, the fewer threads repeat a row's sums
_ROUNDING = tl.constexpr(1.5 * 2.0**23)  # added and taken away, it rounds a float32 to a whole number, ties to even


@triton.jit  # type: ignore[untyped-decorator]
def _kernel(  # type: ignore[no-untyped-def]
    weight, spread, scale, zero, index, low, top, least, mantissa, quantized, errors,
    rows, columns, grids, weight_setting, weight_row,
    ROWS: tl.constexpr, PART: tl.constexpr, ROUNDING: tl.constexpr,
) -> None:  # fmt: skip
    setting = tl.program_id(1)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    lowest = tl.load(low + setting)
    highest = tl.load(top + setting)
    least_exponent = tl.load(least + setting)
    fraction_bits = tl.load(mantissa + setting)
    weight += setting.to(tl.int64) * weight_setting
    spread += setting * columns * columns
    grid_of_row = (setting * rows + row) * grids
    out = (setting * rows + row).to(tl.int64) * columns
    for start in range(0, columns, PART):
        column = start + tl.arange(0, PART)
        inside = (row[:, None] < rows) & (column[None, :] < columns)
        left = tl.load(weight + row[:, None].to(tl.int64) * weight_row + column[None, :], mask=inside, other=0.0)
        for i in range(start):  # what earlier parts pass on, column by column
            off = tl.load(errors + out + i, mask=row < rows, other=0.0)
            onward = tl.load(spread + i * columns + column, mask=column < columns, other=0.0)
            left -= off[:, None] * onward[None, :]
        rounded = tl.zeros_like(left)
        error = tl.zeros_like(left)
        for i in range(start, min(start + PART, columns)):
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
        tl.store(quantized + out[:, None] + column[None, :], rounded, mask=inside)
        tl.store(errors + out[:, None] + column[None, :], error, mask=inside)
        tl.debug_barrier()  # other threads of the program read these errors


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
        ROWS=_ROWS, PART=_PART, ROUNDING=_ROUNDING, num_warps=1, enable_fp_fusion=False,
    )  # fmt: skip
    return Rounded(quantized, errors)
