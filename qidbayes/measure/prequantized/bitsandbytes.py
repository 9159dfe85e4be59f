"""bitsandbytes checkpoints: NF4 and FP4 by blocks of consecutive weights, int8 by rows."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from qidbayes.errors import InputError
from qidbayes.measure.prequantized.formats import Steps
from qidbayes.measure.prequantized.packing import require


@dataclass(frozen=True)
class FourBitFormat:
    """NF4 or FP4, with its blocks' scales in float32 or nested (8-bit codes with scales of their own).

    Attributes
    ----------
    kind
        Which sixteen values a code stands for; the file repeats them in each linear's `quant_map`.
    """

    rescaled: ClassVar[bool] = False
    runtime: ClassVar[frozenset[str]] = frozenset()
    bits: ClassVar[int] = 4
    group_size: ClassVar[int] = 64  # the library's default; each linear's own state says what it is there
    marker: ClassVar[str] = "weight.absmax"

    kind: Literal["nf4", "fp4"]

    @property
    def method(self) -> str:
        """`bnb-nf4` or `bnb-fp4`."""
        return f"bnb-{self.kind}"

    @property
    def parts(self) -> frozenset[str]:
        """A linear's tensors."""
        names = ("absmax", "quant_map", "nested_absmax", "nested_quant_map")
        return frozenset({"weight", self._state, *(f"weight.{name}" for name in names)})

    @property
    def _state(self) -> str:
        return f"weight.quant_state.bitsandbytes__{self.kind}"

    def of_linear(self, parts: Mapping[str, Tensor]) -> "FourBitFormat":  # noqa: ARG002 (of the protocol)
        """Every linear has this format."""
        return self

    def dequantize(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Dequantize one linear; see `Format.dequantize`."""
        state = _read_state(self._state, require(parts, self._state, (None,), torch.uint8))
        shape = _whole_numbers(self._state, state, "shape")
        if len(shape) != 2:
            raise InputError(f"{self._state} gives the shape {shape}, expected [out, in]")
        size = math.prod(shape)
        (block,) = _whole_numbers(self._state, state, "blocksize")
        packed = require(_as_bytes(parts), "weight", (-(-size // 2), 1), torch.uint8).flatten()
        values = require(parts, "weight.quant_map", (16,), torch.float32)
        absmax = self._absmax(parts, state, blocks=-(-size // block))
        # The first of two neighbours is in the high half of their byte.
        codes = torch.stack([packed >> 4, packed & 15], dim=1).flatten()[:size].long()
        block_of = torch.arange(size, device=packed.device) // block
        return (values[codes] * absmax[block_of]).reshape(shape)

    def _absmax(self, parts: Mapping[str, Tensor], state: Mapping[str, Any], blocks: int) -> Tensor:
        if "weight.nested_absmax" not in parts:
            return require(parts, "weight.absmax", (blocks,), torch.float32)
        (outer_block,) = _whole_numbers(self._state, state, "nested_blocksize")
        offset = state.get("nested_offset")
        if not isinstance(offset, float | int):
            raise InputError(f"{self._state} gives nested_offset = {offset!r}, expected a number")
        codes = require(parts, "weight.absmax", (blocks,), torch.uint8).long()
        values = require(parts, "weight.nested_quant_map", (256,), torch.float32)
        outer = require(parts, "weight.nested_absmax", (-(-blocks // outer_block),), torch.float32)
        return values[codes] * outer[torch.arange(blocks, device=codes.device) // outer_block] + offset

    def steps(self, parts: Mapping[str, Tensor]) -> Steps:
        """The linear's grid steps; see `Format.steps`."""
        state = _read_state(self._state, parts[self._state])
        n_out, n_in = _whole_numbers(self._state, state, "shape")
        (block,) = _whole_numbers(self._state, state, "blocksize")
        absmax = self._absmax(parts, state, blocks=-(-n_out * n_in // block))
        sizes = absmax * 2 / 15  # sixteen values from -absmax to absmax
        inputs = torch.arange(n_in, device=absmax.device)
        if n_in % block == 0:
            return Steps(sizes.reshape(n_out, -1), inputs // block)
        return Steps(sizes.repeat_interleave(block)[: n_out * n_in].reshape(n_out, n_in), inputs)


@dataclass(frozen=True)
class Int8Format:
    """LLM.int8() weights: int8 codes and `SCB`, each row's largest magnitude, which is the code 127."""

    method: ClassVar[str] = "bnb-int8"
    rescaled: ClassVar[bool] = False
    runtime: ClassVar[frozenset[str]] = frozenset()
    bits: ClassVar[int] = 8
    group_size: ClassVar[None] = None
    marker: ClassVar[str] = "SCB"
    parts: ClassVar[frozenset[str]] = frozenset({"weight", "SCB", "weight_format"})

    def of_linear(self, parts: Mapping[str, Tensor]) -> "Int8Format":  # noqa: ARG002 (of the protocol)
        """Every linear has this format."""
        return self

    def dequantize(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Dequantize one linear; see `Format.dequantize`."""
        codes = require(parts, "weight", (None, None), torch.int8)
        absmax = require(parts, "SCB", (codes.shape[0],), torch.float32)
        if "weight_format" in parts and int(require(parts, "weight_format", (), torch.uint8)) != 0:
            raise InputError("weight_format is one of the old tiled layouts; save the model again with row layout")
        return codes.float() * (absmax / 127)[:, None]

    def steps(self, parts: Mapping[str, Tensor]) -> Steps:
        """The linear's grid steps; see `Format.steps`."""
        absmax = parts["SCB"]
        return Steps((absmax / 127)[:, None], absmax.new_zeros(parts["weight"].shape[1], dtype=torch.long))


def _as_bytes(parts: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return parts whose codes are bytes also where the file calls them floating-point (`bnb_4bit_quant_storage`)."""
    stored = parts.get("weight")
    if stored is None or not stored.is_floating_point() or stored.dim() == 0:
        return parts
    return {**parts, "weight": stored.contiguous().view(torch.uint8).reshape(-1, 1)}


def _read_state(name: str, raw: Tensor) -> Mapping[str, Any]:
    try:
        state = json.loads(bytes(raw.tolist()))
    except ValueError as error:
        raise InputError(f"{name} is not JSON: {error}") from error
    if not isinstance(state, dict):
        raise InputError(f"{name} holds {type(state).__name__}, expected a JSON object")
    return state


def _whole_numbers(name: str, state: Mapping[str, Any], key: str) -> list[int]:
    value = state.get(key)
    numbers: list[Any] = value if isinstance(value, list) else [value]
    if not all(isinstance(n, int) and n > 0 for n in numbers):
        raise InputError(f"{name} gives {key} = {value!r}, expected positive whole numbers")
    return numbers
