"""Some columns of a matrix, before they are rounded and after: what GPTQ's kernels take and give."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Codes:
    """The codes of V settings: whole numbers, or small floating-point ones; `[V]` each.

    A number x is rounded to a multiple of 2^(max(⌊log2 |x|⌋, least) − mantissa), then has the zero point added, and is
    then held between `low` and `top`.

    Attributes
    ----------
    low, top
        The lowest and the highest code, in the weights' type.
    least, mantissa
        As `qidbayes.measure.quantize.elements.Element` has them, int32. Whole numbers have `WHOLE` in both.
    """

    low: Tensor
    top: Tensor
    least: Tensor
    mantissa: Tensor


WHOLE = 40
"""The exponent from which on whole numbers would be more than 1 apart: no code is so large."""


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
    codes
        What a weight over its scale is rounded to.
    """

    weight: Tensor
    spread: Tensor
    scale: Tensor
    zero: Tensor
    index: Tensor
    codes: Codes


@dataclass(frozen=True)
class Rounded:
    """A block's rounded columns, and what each was off by over its diagonal: `[V, out, columns]` both."""

    quantized: Tensor
    errors: Tensor
