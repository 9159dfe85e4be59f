"""Grids of small floats: elements times a scale that inputs, rows or a whole matrix share."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from qidbayes.measure.quantize.elements import E2M1, E2M3, E3M2, E4M3, Element

_BLOCK_ROWS = 128
_FLOAT32, _FLOAT8 = 32, 8  # bits of a scale


@dataclass(frozen=True)
class FloatFormat:
    """A storage format.

    Attributes
    ----------
    element
        What codes stand for.
    group_size
        Inputs that share a scale; None for all of a row.
    scale
        `row`, `block` (of 128 rows) and `tensor`: a float32 that puts the largest magnitude on the largest element.
        `power`: a power of 2 (OCP MX). `two-level`: a float8 for each group, times a float32 for the matrix (NVFP4).
    """

    element: Element
    group_size: int | None
    scale: Literal["row", "block", "tensor", "power", "two-level"]

    def stored_bits(self, rows: int, columns: int) -> int:
        """Return the bits that a matrix takes, scales included.

        Examples
        --------
        >>> FORMATS["mxfp4"].stored_bits(1, 32) / 32
        4.25
        """
        groups = -(-columns // (self.group_size or columns))
        scales = {
            "row": _FLOAT32 * rows,
            "block": _FLOAT32 * -(-rows // _BLOCK_ROWS) * groups,
            "tensor": _FLOAT32,
            "power": _FLOAT8 * rows * groups,
            "two-level": _FLOAT8 * rows * groups + _FLOAT32,
        }
        return self.element.bits * rows * columns + scales[self.scale]


FORMATS: Mapping[str, FloatFormat] = {
    "fp8": FloatFormat(E4M3, None, "row"),
    "fp8-tensor": FloatFormat(E4M3, None, "tensor"),
    "fp8-block": FloatFormat(E4M3, 128, "block"),
    "mxfp4": FloatFormat(E2M1, 32, "power"),
    "mxfp6": FloatFormat(E2M3, 32, "power"),
    "mxfp6-e3m2": FloatFormat(E3M2, 32, "power"),
    "nvfp4": FloatFormat(E2M1, 16, "two-level"),
}


@dataclass(frozen=True)
class FloatGrid:
    """The values `scale * element`; `scale` broadcasts against the weights."""

    scale: Tensor
    element: Element

    @property
    def zero(self) -> Tensor:
        """Zeros in the shape of `scale`: an element of 0 stands for 0."""
        return torch.zeros_like(self.scale)

    def nearest(self, weights: Tensor) -> Tensor:
        """Round weights to the grid's nearest values."""
        return self.scale * self.element.nearest(weights / self.scale)


class FloatScales:
    """Fits the scales of one matrix, group by group.

    Parameters
    ----------
    form
        Its format.
    weight
        `[out, in]`, before any of it is rounded: what a whole matrix shares is taken from it.
    sizes
        The rows of each linear, if it holds several: what a matrix shares, each of them shares by itself. None: each
        row does, as the tokens of an input.
    """

    def __init__(self, form: FloatFormat, weight: Tensor, sizes: Sequence[int] | None) -> None:
        self._form, self._sizes = form, list(sizes or [])
        if form.scale in ("tensor", "two-level") and sizes is None:
            self._of_matrix = weight.abs().amax(dim=1)
        elif form.scale in ("tensor", "two-level"):
            parts = [part.abs().amax().expand(len(part)) for part in torch.split(weight, self._sizes)]
            self._of_matrix = torch.cat(parts)

    def fit(self, weights: Tensor) -> FloatGrid:
        """Return the grid of groups of inputs, `[out, ..., n]`, whose scale is `[out, ..., 1]`."""
        scale = self._scale(weights.abs().amax(-1, keepdim=True))
        return FloatGrid(torch.where(scale > 0, scale, 1.0), self._form.element)  # zeros stay zeros at any scale

    def _scale(self, most: Tensor) -> Tensor:
        element = self._form.element
        # Tensors, since CUDA divides by a number through its reciprocal, which rounds otherwise than a CPU does.
        highest = most.new_full((1,), element.highest)
        if self._form.scale == "power":
            return _power_of_two(most, element)
        if self._form.scale == "block":
            blocks = [rows for part in torch.split(most, self._sizes) for rows in torch.split(part, _BLOCK_ROWS)]
            most = torch.cat([rows.amax(0, keepdim=True).expand_as(rows) for rows in blocks])
        if self._form.scale in ("row", "block"):
            return most / highest
        whole = self._of_matrix.to(most.dtype).view(-1, *[1] * (most.dim() - 1))
        if self._form.scale == "tensor":
            return (whole / highest).expand_as(most)
        # The reciprocal first, as compressed-tensors does: it rounds otherwise than a division.
        tiny = torch.finfo(most.dtype).tiny
        shared = torch.nan_to_num(whole.clamp(min=tiny).reciprocal() * (E4M3.highest * element.highest), posinf=1.0)
        own = E4M3.nearest(shared * (most / highest))
        return torch.where(own > 0, own, 0.125) / shared  # compressed-tensors' least scale


def _power_of_two(most: Tensor, element: Element) -> Tensor:
    """The power of 2 that puts the largest magnitude, rounded to an element's fraction, below its highest exponent's
    end: what compressed-tensors writes and torchao calls "even".
    """
    fraction, exponent = torch.frexp(most)  # most = 2·fraction · 2^(exponent − 1)
    # From halfway between the largest fraction and 1 on, rounding leads to the next power of 2.
    carried = fraction >= 1 - 2.0 ** -(element.mantissa + 2)
    power = (exponent - math.frexp(element.highest)[1] + carried).clamp(-127, 127)
    return torch.where(most > 0, torch.ldexp(torch.ones_like(most), power), 0.0)
