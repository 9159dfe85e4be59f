"""Some columns of a matrix, before they are rounded and after: what GPTQ's kernels take and give."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Block:
    """Some columns of a matrix, for V settings.

    Attributes
    ----------
    weight
        `[V, out, columns]`.
    spread
        `[V, columns, columns]`: the block on the diagonal of each factor.
    scale, zero
        `[V, out, grids]`.
    index
        `[V, columns]`: which grid a column rounds to.
    top
        `[V]`: the highest code.
    """

    weight: Tensor
    spread: Tensor
    scale: Tensor
    zero: Tensor
    index: Tensor
    top: Tensor


@dataclass(frozen=True)
class Rounded:
    """A block's rounded columns, and what each was off by over its diagonal: `[V, out, columns]` both."""

    quantized: Tensor
    errors: Tensor
