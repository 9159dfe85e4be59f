"""GPTQ files as AutoGPTQ and GPTQModel write them: `qweight`, `qzeros`, `scales`, `g_idx`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from qidbayes.errors import InputError
from qidbayes.measure.prequantized.formats import Steps
from qidbayes.measure.prequantized.packing import require, unpack_rows

_FLOATS = (torch.float16, torch.bfloat16, torch.float32)


@dataclass(frozen=True)
class GPTQFormat:
    """A GPTQ checkpoint's format.

    Attributes
    ----------
    bits
        2 to 8. GPTQModel and AutoGPTQ write 2, 3, 4 and 8, AutoRound the others too.
    group_size
        Inputs that share a scale; None for one group per output channel.
    version
        1 (AutoGPTQ's, `checkpoint_format = "gptq"`) stores zero points less one, 2 (`"gptq_v2"`) as they are. A zero
        point of 0 cannot be said in version 1: AutoGPTQ's own kernels read what its writer left there as 2^bits, and so
        does this.
    symmetric
        Whether the file says that its grids are symmetric (`sym`): every zero point is then 2^(bits-1). Where a
        linear's zero points are that value in the other version, the file was written in the other version.
    mixed
        Whether linears differ in width or group size (GPTQModel's `dynamic`): `of_linear` tells each one's.
    method
        AutoRound writes this packing too.
    """

    rescaled: ClassVar[bool] = False
    runtime: ClassVar[frozenset[str]] = frozenset()
    marker: ClassVar[str] = "qweight"
    parts: ClassVar[frozenset[str]] = frozenset({"qweight", "qzeros", "scales", "g_idx"})

    bits: int
    group_size: int | None
    version: Literal[1, 2]
    symmetric: bool = False
    mixed: bool = False
    method: str = "gptq"

    def __post_init__(self) -> None:
        """Check the settings."""
        if not 2 <= self.bits <= 8:
            raise InputError(f"bits = {self.bits!r} is not a width of GPTQ files; accepted: 2 to 8")

    def dequantize(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Dequantize one linear; see `Format.dequantize`."""
        qweight = require(parts, "qweight", (None, None), torch.int32)
        n_in, n_out = qweight.shape[0] * 32 // self.bits, qweight.shape[1]
        group_size = self.group_size or n_in
        groups = -(-n_in // group_size)
        scales = require(parts, "scales", (groups, n_out), *_FLOATS).float()
        qzeros = require(parts, "qzeros", (groups, n_out * self.bits // 32), torch.int32)
        group_of = self._group_of(parts, n_in)
        if int(group_of.min()) < 0 or int(group_of.max()) >= groups:
            raise InputError(f"g_idx points outside the {groups} groups there are")
        zeros = self._zeros(unpack_rows(qzeros.T, self.bits).T)
        codes = unpack_rows(qweight, self.bits)
        return (scales[group_of] * (codes - zeros[group_of])).T.contiguous()

    def of_linear(self, parts: Mapping[str, Tensor]) -> "GPTQFormat":
        """Return the format of one linear, whose width and group size the shapes of its tensors tell.

        Raises
        ------
        InputError
            If they fit together at no width; the message starts with a tensor's name.
        """
        if not self.mixed:
            return self
        qweight = require(parts, "qweight", (None, None), torch.int32)
        qzeros = require(parts, "qzeros", (None, None), torch.int32)
        scales = require(parts, "scales", (qzeros.shape[0], qweight.shape[1]), *_FLOATS)
        bits, left = divmod(32 * qzeros.shape[1], qweight.shape[1] or 1)
        if left or not 2 <= bits <= 8:
            raise InputError(f"qzeros has {qzeros.shape[1]} words for {qweight.shape[1]} outputs: no width from 2 to 8")
        n_in, groups = qweight.shape[0] * 32 // bits, max(scales.shape[0], 1)
        declared = self.group_size
        fits = declared is not None and -(-n_in // declared) == groups
        group_size = None if groups == 1 else declared if fits else n_in // groups
        return replace(self, bits=bits, group_size=group_size, mixed=False)

    def steps(self, parts: Mapping[str, Tensor]) -> Steps:
        """The linear's grid steps; see `Format.steps`."""
        n_in = parts["qweight"].shape[0] * 32 // self.bits
        return Steps(parts["scales"].float().T, self._group_of(parts, n_in))

    def _group_of(self, parts: Mapping[str, Tensor], n_in: int) -> Tensor:
        if "g_idx" in parts:
            return require(parts, "g_idx", (n_in,), torch.int32, torch.int64).long()
        return torch.arange(n_in, device=parts["qweight"].device) // (self.group_size or n_in)

    def _zeros(self, stored: Tensor) -> Tensor:
        declared, other = (1, 0) if self.version == 1 else (0, 1)
        middle = 2 ** (self.bits - 1)
        if self.symmetric and bool((stored + other == middle).all()):
            return stored + other
        return stored + declared
