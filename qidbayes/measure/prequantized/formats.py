"""What a format of quantized files is: which tensors make up a linear, and what weight they stand for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Steps:
    """How far apart a matrix's grid values are. Where they are not evenly spaced: how far on average.

    Attributes
    ----------
    size
        `[out, groups]`, float32.
    group_of
        `[in]`: each input's group.
    """

    size: Tensor
    group_of: Tensor

    def of_weights(self) -> Tensor:
        """Return the step of each weight, `[out, in]`."""
        return self.size[:, self.group_of]

    @classmethod
    def of_values(cls, weight: Tensor, bits: int, group_size: int | None) -> "Steps":
        """Tell the steps of a matrix `[out, in]` from the spread of each group's values, which `bits` bits span.

        Examples
        --------
        >>> Steps.of_values(torch.tensor([[-1.0, 2.0, 0.5, 0.5]]), bits=2, group_size=2).size
        tensor([[1., 0.]])
        """
        n_in = weight.shape[1]
        size = group_size if group_size and n_in % group_size == 0 else n_in
        groups = weight.float().reshape(len(weight), -1, size)
        spread = groups.amax(-1) - groups.amin(-1)
        return cls(spread / (2**bits - 1), torch.arange(n_in, device=weight.device) // size)


class Grid(Protocol):
    """The grid that a matrix was rounded to."""

    @property
    def method(self) -> str:
        """The quantizer's name, as in `qidbayes.measure.quantize`, or that of the file format."""

    @property
    def bits(self) -> int:
        """Nominal width of a weight, in bits."""

    @property
    def group_size(self) -> int | None:
        """Weights that share a scale; None for one scale per output channel."""

    @property
    def rescaled(self) -> bool | None:
        """Whether inputs were scaled before rounding and what comes before them by as much; None: nothing says so."""


@dataclass(frozen=True)
class Stored:
    """How one matrix is stored.

    Attributes
    ----------
    grid
        What its weights were rounded to.
    shape
        `[out, in]`.
    size
        Bits of its tensors, scales and the like included.
    steps
        How far apart the values of its grid are.
    """

    grid: Grid
    shape: tuple[int, int]
    size: int
    steps: Steps

    @property
    def n_weights(self) -> int:
        """Weights of the matrix."""
        return self.shape[0] * self.shape[1]


class Format(Grid, Protocol):
    """A format of tensors beside each other, with the settings that one checkpoint declares."""

    @property
    def marker(self) -> str:
        """The tensor, named from its linear on, that every quantized linear has and no other module does."""

    @property
    def parts(self) -> frozenset[str]:
        """All tensors, named from their linear on, that a quantized linear may have in place of its weight."""

    @property
    def runtime(self) -> frozenset[str]:
        """Last words of tensors' names that say what becomes of activations at run time; weights do without them."""

    def of_linear(self, parts: Mapping[str, Tensor]) -> "Format":
        """This format as one linear has it, where linears differ.

        Raises
        ------
        InputError
            If the tensors do not tell; the message starts with a tensor's name.
        """

    def dequantize(self, parts: Mapping[str, Tensor]) -> Tensor:
        """The linear's weight, `[out, in]` float32.

        Raises
        ------
        InputError
            If a tensor is missing or malformed; the message starts with the tensor's name.
        """

    def steps(self, parts: Mapping[str, Tensor]) -> Steps:
        """The linear's grid steps, of tensors that `dequantize` has accepted."""
