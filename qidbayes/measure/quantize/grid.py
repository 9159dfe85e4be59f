"""Uniform integer grids: the rounding that RTN, GPTQ and AWQ share."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from qidbayes.errors import InputError

SCALE_BITS = 16
"""Scales are counted as float16, as GPTQ's and AWQ's files store them."""


@dataclass(frozen=True)
class Grid:
    """The values `scale * (code - zero)` for the codes 0 to `top`. `scale` and `zero` broadcast against the weights."""

    scale: Tensor
    zero: Tensor
    top: int

    def nearest(self, weights: Tensor) -> Tensor:
        """Round weights to the grid's nearest values."""
        codes = (torch.round(weights / self.scale) + self.zero).clamp(0, self.top)
        return self.scale * (codes - self.zero)


def fit_grid(weights: Tensor, bits: int, symmetric: bool) -> Grid:
    """The smallest grid that covers each row of `weights` (its last dimension) and zero.

    The symmetric grid spans ±max|w| with the code 2^(bits-1) at zero, so its largest positive value is half a
    step short of the span's end: AutoGPTQ's rule, and everyone's since.

    Parameters
    ----------
    weights
        `[..., n]`.
    bits
        Width of a code.
    symmetric
        Whether zero sits in the middle of the codes; if not, each row stores where it sits.

    Examples
    --------
    >>> row = torch.tensor([[-1.0, 0.25, 2.0]])
    >>> fit_grid(row, bits=2, symmetric=False).nearest(row)
    tensor([[-1.,  0.,  2.]])
    >>> fit_grid(row, bits=2, symmetric=True).nearest(row)
    tensor([[-1.3333,  0.0000,  1.3333]])
    """
    top = 2**bits - 1
    return Grid(*fit_scale(weights, weights.new_full((1,), top), symmetric), top)


def fit_scale(weights: Tensor, top: Tensor, symmetric: bool) -> tuple[Tensor, Tensor]:
    """Return the scale and the zero of `fit_grid`, `[..., 1]` each.

    Parameters
    ----------
    weights
        `[..., n]`.
    top
        The highest code, a tensor beside the weights that broadcasts with `[..., 1]`.
    symmetric
        As in `fit_grid`.
    """
    low = weights.amin(-1, keepdim=True).clamp(max=0)
    high = weights.amax(-1, keepdim=True).clamp(min=0)
    if symmetric:
        high = torch.maximum(high, -low)
        low = -high
    span = high - low
    # A symmetric grid puts a row's extreme on a tie. CUDA divides by a number through its reciprocal, which would break
    # that tie otherwise than a CPU does (2% of QiD at 2 bits); by a tensor, both divide exactly.
    scale = torch.where(span > 0, span / top, 1.0)  # a row of zeros stays zeros at any scale
    zero = ((top + 1) / 2).expand_as(scale) if symmetric else torch.round(-low / scale)
    return scale, zero


def round_to_grid(weight: Tensor, bits: int, group_size: int | None, symmetric: bool) -> Tensor:
    """Round a `[out, in]` matrix to grids of its own, one per row and group of `group_size` inputs."""
    rows, columns = weight.shape
    size = group_size or columns
    grouped = weight.reshape(rows, columns // size, size)  # of inputs there may be no rows
    return fit_grid(grouped, bits, symmetric).nearest(grouped).reshape(weight.shape)


def check_groups_fit(linears: Mapping[str, nn.Linear], group_size: int | None) -> None:
    """Raise InputError for the first linear whose inputs do not divide into groups."""
    for name, linear in linears.items():
        if group_size is not None and linear.in_features % group_size:
            raise InputError(
                f"{name} has {linear.in_features} inputs, which group_size = {group_size} does not divide; "
                'give a divisor, or "channel" (None in Python) for one group per output channel'
            )


def stored_bits(linears: Iterable[nn.Linear], bits: int, group_size: int | None, symmetric: bool) -> int:
    """Bits that codes, scales and (where not symmetric) zero points take.

    Examples
    --------
    >>> stored_bits([nn.Linear(128, 1)], bits=4, group_size=64, symmetric=False) / 128
    4.3125
    """
    per_group = SCALE_BITS + (0 if symmetric else bits)
    total = 0
    for linear in linears:
        groups = linear.in_features // (group_size or linear.in_features)
        total += linear.out_features * (linear.in_features * bits + groups * per_group)
    return total
