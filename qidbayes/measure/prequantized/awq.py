"""AWQ files as AutoAWQ writes them in its `gemm` packing: four bits, eight codes of neighbouring outputs in a word."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from qidbayes.errors import InputError
from qidbayes.measure.prequantized.formats import Steps
from qidbayes.measure.prequantized.packing import require, unpack_rows

_NIBBLE_OF_OUTPUT = (0, 4, 1, 5, 2, 6, 3, 7)  # its kernel wants even outputs in the low half of a word, odd in the high


@dataclass(frozen=True)
class AWQFormat:
    """An AutoAWQ checkpoint's format.

    Attributes
    ----------
    group_size
        Inputs that share a scale; None for one group per output channel.
    method
        AutoRound writes this packing too.
    """

    bits: ClassVar[int] = 4
    runtime: ClassVar[frozenset[str]] = frozenset()
    marker: ClassVar[str] = "qweight"
    parts: ClassVar[frozenset[str]] = frozenset({"qweight", "qzeros", "scales"})

    group_size: int | None
    method: str = "awq"

    @property
    def rescaled(self) -> bool:
        """Whether inputs were scaled: AWQ does, AutoRound does not."""
        return self.method == "awq"

    def of_linear(self, parts: Mapping[str, Tensor]) -> "AWQFormat":  # noqa: ARG002 (of the protocol)
        """Every linear has this format."""
        return self

    def dequantize(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Dequantize one linear; see `Format.dequantize`."""
        qweight = require(parts, "qweight", (None, None), torch.int32)
        n_in, words = qweight.shape
        group_size = self.group_size or n_in
        if n_in % group_size:
            raise InputError(f"qweight has {n_in} inputs, which groups of {group_size} do not divide")
        scales = require(parts, "scales", (n_in // group_size, words * 8), torch.float16, torch.bfloat16, torch.float32)
        qzeros = require(parts, "qzeros", (n_in // group_size, words), torch.int32)
        codes = _unpack(qweight).reshape(-1, group_size, words * 8)
        weight = scales.float()[:, None] * (codes - _unpack(qzeros)[:, None])
        return weight.reshape(n_in, -1).T.contiguous()

    def steps(self, parts: Mapping[str, Tensor]) -> Steps:
        """The linear's grid steps; see `Format.steps`."""
        n_in = parts["qweight"].shape[0]
        inputs = torch.arange(n_in, device=parts["scales"].device)
        return Steps(parts["scales"].float().T, inputs // (self.group_size or n_in))


def _unpack(words: Tensor) -> Tensor:
    """`[rows, n]` int32 words to `[rows, 8n]` codes."""
    rows, n = words.shape
    nibbles = unpack_rows(words.reshape(1, -1), bits=4).T.reshape(rows, n, 8)
    return nibbles[..., list(_NIBBLE_OF_OUTPUT)].reshape(rows, n * 8)
