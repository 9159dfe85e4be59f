"""compressed-tensors files, written by that library, against its own dequantization and NumPy by hand."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.compressors.format import infer_module_format
from compressed_tensors.quantization import QuantizationConfig
from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from qidbayes.errors import InputError
from qidbayes.measure.decoder.layers import stack_linears
from qidbayes.measure.errors import MeasureError
from qidbayes.measure.prequantized import (
    check_against_original,
    format_from_config,
    load_prequantized,
    read_prequantized,
)

from .packers import write_checkpoint

BYTE = "torch.uint8"
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], dtype=np.float32)
E2M3 = np.array([m / 8 for m in range(8)] + [(1 + m / 8) * 2**e for e in range(3) for m in range(8)], dtype=np.float32)
SCHEMES: dict[str, dict[str, Any]] = {
    "w4-group": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 16},
    "w4-group-asymmetric": {
        "num_bits": 4, "type": "int", "strategy": "group", "group_size": 16, "symmetric": False,
    },
    "w3-channel": {"num_bits": 3, "type": "int", "strategy": "channel"},
    "w2-channel-asymmetric": {"num_bits": 2, "type": "int", "strategy": "channel", "symmetric": False},
    "w8a8-channel": {"num_bits": 8, "type": "int", "strategy": "channel"},
    "w8a8-tensor": {"num_bits": 8, "type": "int", "strategy": "tensor"},
    "fp8-tensor": {"num_bits": 8, "type": "float", "strategy": "tensor"},
    "fp8-channel": {"num_bits": 8, "type": "float", "strategy": "channel"},
    "fp8-block": {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [16, 16]},
    "nvfp4": {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16},
    "mxfp4": {"num_bits": 4, "type": "float", "strategy": "group", "group_size": 32, "scale_dtype": BYTE},
    "mxfp6": {"num_bits": 6, "type": "float", "strategy": "group", "group_size": 32, "scale_dtype": BYTE},
    "mxfp8": {"num_bits": 8, "type": "float", "strategy": "group", "group_size": 32, "scale_dtype": BYTE},
}  # fmt: skip
ACTIVATIONS = {"int": {"num_bits": 8, "type": "int", "dynamic": True, "strategy": "token"},
               "float": {"num_bits": 8, "type": "float", "dynamic": True, "strategy": "token"}}  # fmt: skip


def declared(*names: str) -> dict[str, Any]:
    """A `quantization_config` with these schemes."""
    groups: dict[str, Any] = {}
    for number, name in enumerate(names):
        weights = SCHEMES[name]
        taken = ACTIVATIONS[weights["type"]] if name.startswith(("w8a8", "fp8")) else None
        groups[f"group_{number}"] = {"targets": ["Linear"], "weights": weights, "input_activations": taken}
    said: dict[str, Any] = {"quant_method": "compressed-tensors", "config_groups": groups, "ignore": ["lm_head"]}
    schemes = QuantizationConfig.model_validate(said | {"format": "dense"}).config_groups.values()
    formats = {infer_module_format(torch.nn.Linear, scheme).value for scheme in schemes}
    return said | {"format": formats.pop() if len(formats) == 1 else "mixed-precision"}


def compressed(weight: Tensor, name: str) -> dict[str, Tensor]:
    """A linear's tensors, by the library."""
    (scheme,) = QuantizationConfig.model_validate(declared(name)).config_groups.values()
    args = scheme.weights
    rows, columns = args.block_structure or (1, args.group_size or weight.shape[1])
    if args.strategy == "tensor":
        rows = len(weight)
    blocks = weight.reshape(len(weight) // rows, rows, -1, columns)
    whole = generate_gparam(weight.min(), weight.max()) if args.strategy == "tensor_group" else None
    scale, zero = calculate_qparams(blocks.amin((1, 3)), blocks.amax((1, 3)), args, whole)
    if args.strategy == "tensor":
        scale, zero = scale.reshape(1), zero.reshape(1)
    parts = {"weight": weight, "weight_scale": scale, "weight_zero_point": zero}
    parts |= {} if whole is None else {"weight_global_scale": whole.reshape(1)}
    kind = infer_module_format(torch.nn.Linear, scheme)
    made: dict[str, Tensor] = BaseCompressor.get_value_from_registry(kind.value).compress(parts, scheme)
    return {part: tensor.detach().contiguous() for part, tensor in made.items()}


def stream(words: np.ndarray, bits: int, count: int) -> np.ndarray:
    """Codes of a row, lowest bit first, from signed words or bytes."""
    flat = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), bitorder="little")[: count * bits]
    found: np.ndarray = flat.reshape(count, bits) @ (1 << np.arange(bits))
    return found


def by_hand(parts: dict[str, Tensor], name: str, shape: tuple[int, int]) -> np.ndarray:
    """`[out, in]`, by the formats' definitions."""
    args = SCHEMES[name]
    bits, (n_out, n_in) = args["num_bits"], shape
    scale = parts["weight_scale"]
    scales = 2.0 ** (scale.numpy().astype(np.float32) - 127) if scale.dtype == torch.uint8 else scale.float().numpy()
    zeros: np.ndarray | float = 0.0
    if args["type"] == "int" and "weight_packed" in parts:
        packed = parts["weight_packed"].numpy()
        values = np.stack([stream(row, bits, n_in) for row in packed]) - 2 ** (bits - 1)
        if not args.get("symmetric", True):
            columns = parts["weight_zero_point"].numpy().T
            zeros = np.stack([stream(column, bits, n_out) for column in columns], axis=1) - 2 ** (bits - 1)
    elif "weight_packed" in parts:
        table = E2M1 if bits == 4 else E2M3
        codes = np.stack([stream(row, bits, n_in) for row in parts["weight_packed"].numpy()])
        values = table[codes % len(table)] * np.where(codes >= len(table), -1, 1)
    else:
        values = parts["weight"].float().numpy()
    if "weight_global_scale" in parts:
        scales = scales / parts["weight_global_scale"].numpy()
    if args["strategy"] == "tensor":
        return np.asarray(values * scales.reshape(()), dtype=np.float32)

    def spread(one: np.ndarray) -> np.ndarray:
        return np.repeat(np.repeat(one, n_out // one.shape[0], 0), n_in // one.shape[1], 1)

    zero = spread(zeros) if isinstance(zeros, np.ndarray) else zeros
    return ((values - zero) * spread(scales)).astype(np.float32)


@pytest.mark.parametrize("name", SCHEMES)
def test_dequantized_as_the_library_and_by_hand(name: str) -> None:
    weight = torch.randn(32, 64, generator=torch.Generator().manual_seed(0)) / 10
    parts = compressed(weight, name)
    config = declared(name)
    kind = format_from_config(config)
    read = kind.of_linear(parts).dequantize(parts)
    scheme = QuantizationConfig.model_validate(config).config_groups["group_0"]
    theirs = BaseCompressor.get_value_from_registry(config["format"]).decompress(parts, scheme)["weight"]
    assert torch.equal(read, theirs.float())
    # The library's NVFP4 scales are in bfloat16, of eight bits.
    rounding = 2**-8 if name == "nvfp4" else 1e-6
    np.testing.assert_allclose(read.numpy(), by_hand(parts, name, (32, 64)), rtol=rounding)
    error = float((read - weight).norm() / weight.norm())
    assert 0 < error < {2: 0.7, 3: 0.4, 4: 0.2, 6: 0.06, 8: 0.05}[SCHEMES[name]["num_bits"]]


def test_scales_in_half_precision_do_not_round_weights_again() -> None:
    parts = compressed(torch.randn(32, 64, generator=torch.Generator().manual_seed(0)) / 10, "w4-group")
    parts["weight_scale"] = parts["weight_scale"].bfloat16()
    read = format_from_config(declared("w4-group")).dequantize(parts)
    np.testing.assert_array_equal(read.numpy(), by_hand(parts, "w4-group", (32, 64)))


def files(folder: Path, model: PreTrainedModel, names: dict[str, str], said: dict[str, Any]) -> Path:
    """A checkpoint whose linears have the schemes that `names` gives for the ends of their names ("" for the rest)."""
    tensors = dict(model.state_dict())
    for name in stack_linears(model):
        scheme = next(scheme for end, scheme in names.items() if name.endswith(end))
        parts = compressed(tensors.pop(f"{name}.weight"), scheme)
        tensors |= {f"{name}.{part}": tensor for part, tensor in parts.items()}
    write_checkpoint(folder, model, tensors, said)
    return folder


@pytest.mark.parametrize("name", SCHEMES)
def test_a_checkpoint_is_held_against_its_original(tmp_path: Path, llama: PreTrainedModel, name: str) -> None:
    theirs, read = load_prequantized(files(tmp_path, llama, {"": name}, declared(name)), torch.float32)
    check_against_original(read, theirs, llama)
    bits, group = SCHEMES[name]["num_bits"], SCHEMES[name].get("group_size")
    assert read.format.method == "compressed-tensors"
    assert read.format.bits == bits
    assert read.format.group_size == (16 if name == "fp8-block" else group)
    torch.manual_seed(1)
    other = AutoModelForCausalLM.from_config(llama.config)
    with pytest.raises(MeasureError, match=r"q_proj of .* is not the original's"):
        check_against_original(read, theirs, other)


def test_bits_per_weight_counts_what_is_stored(tmp_path: Path, llama: PreTrainedModel) -> None:
    said = declared("w4-group")
    read = read_prequantized(files(tmp_path, llama, {"": "w4-group"}, said))
    shapes = 2 * 64 * len(stack_linears(llama))  # two 64-bit numbers each
    assert read.bits_per_weight == pytest.approx(4 + 32 / 16 + shapes / read.n_weights)


def test_schemes_are_told_by_their_tensors(tmp_path: Path, llama: PreTrainedModel) -> None:
    names = {"down_proj": "fp8-channel", "o_proj": "w8a8-channel", "": "w4-group"}
    read = read_prequantized(files(tmp_path, llama, names, declared(*names.values())), torch.float32)
    widths = {name.rpartition(".")[2]: (one.grid.bits, one.grid.group_size) for name, one in read.matrices.items()}
    assert widths["down_proj"] == widths["o_proj"] == (8, None)
    assert widths["q_proj"] == widths["up_proj"] == (4, 16)
    assert (read.format.bits, read.format.group_size) == (4, 16)


def test_what_is_said_of_activations_is_left_alone(tmp_path: Path, llama: PreTrainedModel) -> None:
    folder = files(tmp_path, llama, {"": "fp8-tensor"}, declared("fp8-tensor"))
    plain = read_prequantized(folder)
    tensors = dict(llama.state_dict())
    for name in stack_linears(llama):
        parts = compressed(tensors.pop(f"{name}.weight"), "fp8-tensor") | {"input_scale": torch.ones(1)}
        tensors |= {f"{name}.{part}": tensor for part, tensor in parts.items()}
    tensors |= {f"model.layers.{i}.self_attn.{kind}_scale": torch.ones(1) for i in (0, 1) for kind in "kv"}
    write_checkpoint(folder, llama, tensors, declared("fp8-tensor"))
    _, read = load_prequantized(folder)
    assert read.bits_per_weight == plain.bits_per_weight
    assert read.weights.keys() == plain.weights.keys()


def test_scales_that_were_folded_are_taken_out(tmp_path: Path, llama: PreTrainedModel) -> None:
    """As AWQ and SmoothQuant fold them; the configuration does not say so."""
    folded = AutoModelForCausalLM.from_config(llama.config)
    folded.load_state_dict(llama.state_dict())
    scale = 4 ** (2 * torch.rand(32, generator=torch.Generator().manual_seed(2)) - 1)
    with torch.no_grad():
        folded.model.layers[0].input_layernorm.weight /= scale
        for kind in "qkv":
            folded.get_parameter(f"model.layers.0.self_attn.{kind}_proj.weight").mul_(scale)
    theirs, read = load_prequantized(files(tmp_path, folded, {"": "w4-group"}, declared("w4-group")), torch.float32)
    check_against_original(read, theirs, llama)
    with torch.no_grad():
        folded.model.embed_tokens.weight.mul_(1.02)
    theirs, read = load_prequantized(files(tmp_path, folded, {"": "w4-group"}, declared("w4-group")), torch.float32)
    with pytest.raises(MeasureError, match=r"embed_tokens\.weight, which is not quantized, differs"):
        check_against_original(read, theirs, llama)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"transform_config": {"config_groups": {"u": {}}}}, "transform_config = .* cannot be read"),
        ({"sparsity_config": {"format": "sparse-24-bitmask"}}, "sparsity_config = .* cannot be read"),
        ({"config_groups": {}}, "config_groups quantize no weights"),
        ({"config_groups": 3}, "does not know this quantization_config"),
        (
            {"config_groups": {"g": {"targets": ["Linear"], "weights": {"num_bits": 4, "actorder": "group"}}}},
            "actorder",
        ),
        ({"format": "marlin-24"}, None),
    ],
)
def test_configurations_that_cannot_be_read(change: dict[str, Any], message: str | None) -> None:
    if message is None:  # a format that the library no longer has: what the scheme says is taken
        assert format_from_config(declared("w4-group") | change).bits == 4
        return
    with pytest.raises(InputError, match=message):
        format_from_config(declared("w4-group") | change)


def test_malformed_tensors_are_named() -> None:
    weight = torch.randn(32, 64, generator=torch.Generator().manual_seed(0))
    good, kind = compressed(weight, "w4-group-asymmetric"), format_from_config(declared("w4-group-asymmetric"))
    for change, message in [
        ({"weight_shape": torch.tensor([32, 65])}, r"weight_shape says \[32, 65\], weight_packed is \[32, 8\]"),
        ({"weight_shape": torch.tensor([0, 0])}, r"weight_shape says \[0, 0\]"),
        ({"weight_scale": torch.ones(32, 3)}, r"weight_scale has shape \[32, 3\], expected \[32, 4\]"),
        ({"weight_scale": torch.ones(32, 4, dtype=torch.int32)}, "weight_scale is torch.int32"),
        ({"weight_packed": good["weight_packed"].float()}, "weight_packed is torch.float32"),
        ({"weight_zero_point": torch.zeros(32, 4, dtype=torch.int32)}, r"weight_zero_point has shape \[32, 4\]"),
        ({"weight_g_idx": torch.zeros(64, dtype=torch.int32)}, "weight_g_idx: groups by activation order"),
    ]:
        with pytest.raises(InputError, match=message):
            kind.of_linear(good | change).dequantize(good | change)
    with pytest.raises(InputError, match="weight_zero_point is missing"):
        kind.of_linear({name: part for name, part in good.items() if name != "weight_zero_point"})
    other = compressed(weight, "mxfp4")
    with pytest.raises(InputError, match=r"weight_packed is torch\.uint8"):
        kind.of_linear(other)
    assert math.prod(weight.shape) == format_from_config(declared("mxfp4")).dequantize(other).numel()
