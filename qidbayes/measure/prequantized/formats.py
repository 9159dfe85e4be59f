"""What a format of quantized files is: which tensors make up a linear, and what weight they stand for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

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


class Format(Protocol):
    """A format with the settings that one checkpoint declares."""

    @property
    def method(self) -> str:
        """The quantizer's name, as in `qidbayes.measure.quantize`."""

    @property
    def bits(self) -> int:
        """Nominal width of a weight, in bits."""

    @property
    def group_size(self) -> int | None:
        """Weights that share a scale; None for one scale per output channel."""

    @property
    def marker(self) -> str:
        """The tensor, named from its linear on, that every quantized linear has and no other module does."""

    @property
    def parts(self) -> frozenset[str]:
        """All tensors, named from their linear on, that a quantized linear may have in place of its weight."""

    def dequantize(self, parts: Mapping[str, Tensor]) -> Tensor:
        """The linear's weight, `[out, in]` float32.

        Raises
        ------
        InputError
            If a tensor is missing or malformed; the message starts with the tensor's name.
        """

    def steps(self, parts: Mapping[str, Tensor]) -> Steps:
        """The linear's grid steps, of tensors that `dequantize` has accepted."""
