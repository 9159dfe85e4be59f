"""Parts of a sum added one after another by one kernel, in which order nothing else has a say."""

from typing import Any

import triton
import triton.language as tl
from torch import Tensor


@triton.jit  # type: ignore[untyped-decorator]
def _kernel(into, parts, count, columns, stride, size, BLOCK: tl.constexpr) -> None:  # type: ignore[no-untyped-def]
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < columns
    total = tl.load(into + row * stride + column, mask=inside, other=0.0)
    parts += row * columns
    for _ in range(count):
        total += tl.load(parts + column, mask=inside, other=0.0)
        parts += size
    tl.store(into + row * stride + column, total, mask=inside)


def add_parts(into: Tensor, parts: Tensor) -> None:
    """Add parts `[n, rows, columns]` to a matrix, whose rows may be some way apart, one after another."""
    count, rows, columns = parts.shape
    launch: Any = _kernel[(rows, triton.cdiv(columns, 1024))]
    launch(into, parts, count, columns, into.stride(0), rows * columns, BLOCK=1024)
