"""Against bitsandbytes' own kernels, and against formats written by hand."""

import json
from typing import Any

import bitsandbytes.functional as bnb
import pytest
import torch
from torch import Tensor

from qidbayes.errors import InputError
from qidbayes.measure.prequantized.bitsandbytes import FourBitFormat, Int8Format


def as_bytes(state: dict[str, Any]) -> Tensor:
    return torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8)


def stored(kind: str, nested: bool) -> tuple[dict[str, Tensor], Tensor]:
    """A linear's tensors from the library, and its own dequantized weight."""
    weight = torch.randn(48, 96, generator=torch.Generator().manual_seed(1))
    packed, state = bnb.quantize_4bit(weight, quant_type=kind, compress_statistics=nested)
    tensors = {"weight": packed} | {f"weight.{k}": v for k, v in state.as_dict(packed=True).items()}
    state.shape = (
        weight.flatten().shape
    )  # its CPU kernel (0.50.2) errs where blocks of 64 do not divide a matrix's rows
    return tensors, bnb.dequantize_4bit(packed, state).reshape(weight.shape)


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("nested", [False, True])
def test_reads_four_bits_as_the_library_does(kind: str, nested: bool) -> None:
    tensors, expected = stored(kind, nested)
    assert ("weight.nested_absmax" in tensors) == nested
    read = FourBitFormat(kind).dequantize(tensors)
    # A nested scale is a product and a sum in float32, which the library may fuse.
    torch.testing.assert_close(read, expected, rtol=1e-6 if nested else 0, atol=1e-7 if nested else 0)


def test_four_bits_by_hand() -> None:
    """Six weights in blocks of four, the first of each pair in the high half of its byte; the values are made up."""
    values = torch.arange(16, dtype=torch.float32) - 8
    state = {"quant_type": "nf4", "blocksize": 4, "dtype": "float32", "shape": [2, 3]}
    tensors = {
        "weight": torch.tensor([[0x09], [0xF8], [0x7A]], dtype=torch.uint8),
        "weight.absmax": torch.tensor([1.0, 10.0]),
        "weight.quant_map": values,
        "weight.quant_state.bitsandbytes__nf4": as_bytes(state),
    }
    expected = torch.tensor([[-8.0, 1.0, 7.0], [0.0, -10.0, 20.0]])
    assert torch.equal(FourBitFormat("nf4").dequantize(tensors), expected)


def test_reads_int8_as_the_library_does() -> None:
    weight = torch.randn(48, 96, generator=torch.Generator().manual_seed(1)).half()
    codes, absmax, _ = bnb.int8_vectorwise_quant(weight)
    tensors = {"weight": codes, "SCB": absmax, "weight_format": torch.tensor(0, dtype=torch.uint8)}
    expected = bnb.int8_vectorwise_dequant(codes, absmax)
    # The library multiplies by a rounded 1/127 where this divides by 127.
    torch.testing.assert_close(Int8Format().dequantize(tensors), expected, rtol=3e-7, atol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blocksize": 0}, "blocksize = 0, expected positive whole numbers"),
        ({"blocksize": "64"}, "blocksize = '64', expected positive"),
        ({"shape": [48]}, r"shape \[48\], expected \[out, in\]"),
        ({"shape": [48, 97]}, r"weight has shape \[2304, 1\], expected \[2328, 1\]"),
        ({"blocksize": 32}, r"weight.absmax has shape \[72\], expected \[144\]"),
    ],
)
def test_states_that_do_not_fit_are_named(change: dict[str, Any], message: str) -> None:
    tensors, _ = stored("nf4", nested=False)
    key = "weight.quant_state.bitsandbytes__nf4"
    state = json.loads(bytes(tensors[key].tolist())) | change
    with pytest.raises(InputError, match=message):
        FourBitFormat("nf4").dequantize(tensors | {key: as_bytes(state)})


def test_other_malformed_tensors_are_named() -> None:
    tensors, _ = stored("nf4", nested=True)
    key = "weight.quant_state.bitsandbytes__nf4"
    kind = FourBitFormat("nf4")
    with pytest.raises(InputError, match="is not JSON"):
        kind.dequantize(tensors | {key: torch.tensor([123], dtype=torch.uint8)})
    with pytest.raises(InputError, match="holds list, expected a JSON object"):
        kind.dequantize(tensors | {key: torch.tensor(list(b"[]"), dtype=torch.uint8)})
    with pytest.raises(InputError, match="nested_offset = None"):
        state = json.loads(bytes(tensors[key].tolist())) | {"nested_offset": None}
        kind.dequantize(tensors | {key: as_bytes(state)})
    with pytest.raises(InputError, match="quant_map is missing"):
        kind.dequantize({name: t for name, t in tensors.items() if name != "weight.quant_map"})
    with pytest.raises(InputError, match="old tiled layouts"):
        Int8Format().dequantize(
            {
                "weight": torch.zeros(2, 2, dtype=torch.int8),
                "SCB": torch.ones(2),
                "weight_format": torch.tensor(2, dtype=torch.uint8),
            }
        )
