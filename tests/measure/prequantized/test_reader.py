"""Whole checkpoints, from folders to models."""

import json
import re
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from qidbayes.errors import InputError
from qidbayes.measure.decoder.layers import stack_linears
from qidbayes.measure.errors import MeasureError
from qidbayes.measure.prequantized import format_from_config, load_prequantized, read_prequantized
from qidbayes.measure.prequantized.bitsandbytes import FourBitFormat

from .packers import awq_tensors, by_hand, gptq_tensors, random_linear, write_checkpoint

GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 16, "desc_act": False, "checkpoint_format": "gptq"}
AUTO_ROUND = {"quant_method": "auto-round", "bits": 4, "group_size": 16, "packing_format": "auto_round:auto_gptq"}


def quantized(model: PreTrainedModel, method: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A checkpoint's tensors with random codes for every linear of the stack, and the weights they stand for."""
    expected = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tensors = dict(expected)
    for seed, (name, linear) in enumerate(stack_linears(model).items()):
        codes, zeros, scales = random_linear(linear.in_features, linear.out_features, linear.in_features // 16, 4, seed)
        g_idx = torch.arange(linear.in_features) // 16
        scales = (scales / 100).half().float()
        parts = (
            gptq_tensors(codes, zeros, scales, g_idx, 4, 1) if method == "gptq" else awq_tensors(codes, zeros, scales)
        )
        del tensors[f"{name}.weight"]
        tensors |= {f"{name}.{part}": tensor for part, tensor in parts.items()}
        expected[f"{name}.weight"] = by_hand(codes, zeros, scales, g_idx)
    return tensors, expected


@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_a_checkpoint_becomes_the_model_it_stands_for(tmp_path: Path, llama: PreTrainedModel, method: str) -> None:
    tensors, expected = quantized(llama, method)
    declared = GPTQ if method == "gptq" else {"quant_method": "awq", "bits": 4, "group_size": 16, "version": "gemm"}
    write_checkpoint(tmp_path, llama, tensors, declared)
    model, read = load_prequantized(tmp_path, torch.float32)
    assert read.format.method == method
    assert read.format.group_size == 16
    llama.load_state_dict(expected)
    ids = torch.arange(12)[None]
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=ids).logits, llama(input_ids=ids).logits, rtol=0, atol=0)
    assert not hasattr(model.config, "quantization_config")
    index_bits = 32 * sum(linear.in_features for linear in stack_linears(llama).values()) if method == "gptq" else 0
    assert read.bits_per_weight == pytest.approx(4 + 20 / 16 + index_bits / read.n_weights)


def test_biases_of_zeros_are_no_matter_and_others_are_refused(tmp_path: Path, llama: PreTrainedModel) -> None:
    """AutoGPTQ writes a bias of zeros for every linear; AutoAWQ scales of activations that plain models do not have."""
    tensors, expected = quantized(llama, "gptq")
    biases = {f"{name}.bias": torch.zeros(linear.out_features) for name, linear in stack_linears(llama).items()}
    write_checkpoint(tmp_path, llama, tensors | biases, GPTQ)
    model, _ = load_prequantized(tmp_path, torch.float32)
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in expected.items())
    name = "model.layers.1.mlp.up_proj.bias"
    write_checkpoint(tmp_path, llama, tensors | biases | {name: torch.ones(64)}, GPTQ)
    with pytest.raises(MeasureError, match=rf"does not use {re.escape(name)}, which is not all zero \(1 such"):
        load_prequantized(tmp_path)
    scales = {"model.layers.0.mlp.act.scales": torch.full((64,), 1.5)}
    write_checkpoint(tmp_path, llama, tensors | scales, GPTQ)
    with pytest.raises(MeasureError, match=r"does not use model\.layers\.0\.mlp\.act\.scales"):
        load_prequantized(tmp_path)


def test_layers_of_another_shape_are_named(tmp_path: Path, llama: PreTrainedModel) -> None:
    tensors, _ = quantized(llama, "gptq")
    write_checkpoint(tmp_path, llama, tensors | {"model.norm.weight": torch.ones(16)}, GPTQ)
    with pytest.raises(InputError, match="no model can be made of these files"):
        load_prequantized(tmp_path)


def test_codes_that_bitsandbytes_calls_floating_point_are_read(llama: PreTrainedModel) -> None:
    """`bnb_4bit_quant_storage = bfloat16`: the same bytes, two to a number."""
    weight = llama.get_parameter("model.layers.0.mlp.up_proj.weight").detach()
    found = []
    for storage in (torch.uint8, torch.bfloat16):
        packed, state = bnb.functional.quantize_4bit(weight, quant_type="nf4", quant_storage=storage)
        parts = {"weight": packed} | {f"weight.{k}": v for k, v in state.as_dict(packed=True).items()}
        assert packed.dtype == storage
        found.append(FourBitFormat("nf4").dequantize(parts))
    assert torch.equal(*found)


def test_shards_and_half_precision(tmp_path: Path, llama: PreTrainedModel) -> None:
    """The tensors of one linear may lie in different files."""
    tensors, expected = quantized(llama, "gptq")
    write_checkpoint(tmp_path, llama, {}, GPTQ)
    (tmp_path / "model.safetensors").unlink()
    names = sorted(tensors)
    weight_map = {name: f"model-{i % 3}.safetensors" for i, name in enumerate(names)}
    for shard in set(weight_map.values()):
        save_file({name: tensors[name] for name in names if weight_map[name] == shard}, tmp_path / shard)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    read = read_prequantized(tmp_path)
    assert read.weights.keys() == expected.keys()
    assert all(torch.equal(read.weights[name], expected[name].half()) for name in expected)


def test_autogptqs_own_settings_file_is_read(tmp_path: Path, llama: PreTrainedModel) -> None:
    tensors, expected = quantized(llama, "gptq")
    save_file(tensors, tmp_path / "gptq_model-4bit-16g.safetensors")
    (tmp_path / "quantize_config.json").write_text(json.dumps({"bits": 4, "group_size": 16, "damp_percent": 0.01}))
    read = read_prequantized(tmp_path, torch.float32)
    assert all(torch.equal(read.weights[name], expected[name]) for name in expected)


@pytest.mark.parametrize(("eight", "kind"), [(False, "nf4"), (False, "fp4"), (True, None)])
def test_files_that_bitsandbytes_saved(tmp_path: Path, llama: PreTrainedModel, eight: bool, kind: str | None) -> None:
    """Written by its own modules' state dicts."""
    expected = {name: tensor.clone() for name, tensor in llama.state_dict().items()}
    tensors = dict(expected)
    for name, linear in stack_linears(llama).items():
        module: Any
        if eight:
            module = bnb.nn.Linear8bitLt(linear.in_features, linear.out_features, bias=False, has_fp16_weights=False)
            module.weight = bnb.nn.Int8Params(linear.weight.data.half(), requires_grad=False, has_fp16_weights=False)
        else:
            module = bnb.nn.Linear4bit(linear.in_features, linear.out_features, bias=False, quant_type=kind)
            module.weight = bnb.nn.Params4bit(linear.weight.data, requires_grad=False, quant_type=kind, module=module)
        module = module.to("cpu")  # which is when it quantizes
        del tensors[f"{name}.weight"]
        saved = module.state_dict()
        tensors |= {f"{name}.{part}": torch.as_tensor(tensor).clone() for part, tensor in saved.items()}
        if eight:
            expected[f"{name}.weight"] = bnb.functional.int8_vectorwise_dequant(saved["weight"], saved["SCB"])
        else:
            state = module.weight.quant_state
            state.shape = linear.weight.flatten().shape  # its CPU kernel errs where blocks do not divide rows
            flat = bnb.functional.dequantize_4bit(module.weight.data, state)
            expected[f"{name}.weight"] = flat.reshape(linear.weight.shape)
    declared = {"quant_method": "bitsandbytes", "load_in_8bit": eight, "load_in_4bit": not eight}
    write_checkpoint(tmp_path, llama, tensors, declared | {"bnb_4bit_quant_type": kind})
    read = read_prequantized(tmp_path, torch.float32)
    for name, tensor in expected.items():
        torch.testing.assert_close(read.weights[name], tensor, rtol=1e-6, atol=1e-7)


def test_malformed_tensors_are_named_with_their_file(tmp_path: Path, llama: PreTrainedModel) -> None:
    tensors, _ = quantized(llama, "gptq")
    name = "model.layers.1.mlp.up_proj.scales"
    write_checkpoint(tmp_path, llama, tensors | {name: tensors[name][:1]}, GPTQ)
    with pytest.raises(InputError, match=rf"model\.safetensors: {name} has shape \[1, 64\], expected \[2, 64\]"):
        read_prequantized(tmp_path)
    write_checkpoint(tmp_path, llama, {k: v for k, v in tensors.items() if k != name}, GPTQ)
    with pytest.raises(InputError, match=rf"model\.safetensors: {name} is missing"):
        read_prequantized(tmp_path)
    write_checkpoint(tmp_path, llama, {k: v for k, v in tensors.items() if "layers.1.mlp.up" not in k}, GPTQ)
    with pytest.raises(InputError, match=r"model\.layers\.1\.mlp\.up_proj\.weight is missing"):
        load_prequantized(tmp_path)


def test_folders_that_are_no_checkpoint(tmp_path: Path, llama: PreTrainedModel) -> None:
    def refused(message: str) -> None:
        with pytest.raises(InputError, match=message):
            read_prequantized(tmp_path)

    refused("no quantization_config in config.json and no quantize_config.json")
    (tmp_path / "config.json").write_text("{")
    refused(r"config\.json: not readable JSON")
    (tmp_path / "config.json").write_text("[]")
    refused("holds list, expected a JSON object")
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": GPTQ | {"bits": "4"}}))
    refused(r"config\.json: bits = '4', expected a whole number")
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": GPTQ}))
    (tmp_path / "pytorch_model.bin").write_bytes(b"a pickle")
    refused("has no safetensors .pickled weights are not read.")
    (tmp_path / "model.safetensors").write_bytes(b"\x10\x00")
    refused(r"model\.safetensors: not a readable safetensors file")
    save_file(llama.model.norm.state_dict(), tmp_path / "model.safetensors")
    refused("no tensor is called …qweight")
    save_file(llama.model.norm.state_dict(), tmp_path / "other.safetensors")
    refused("has several and no index")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../a.safetensors"}}))
    refused("is not the name of a file beside it")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "gone.safetensors"}}))
    refused(r"gone\.safetensors: not a readable")
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    refused("no weight_map")


def test_a_truncated_file_is_named(tmp_path: Path, llama: PreTrainedModel) -> None:
    tensors, _ = quantized(llama, "gptq")
    write_checkpoint(tmp_path, llama, tensors, GPTQ)
    path = tmp_path / "model.safetensors"
    assert load_file(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"model\.safetensors: not a readable safetensors file"):
        read_prequantized(tmp_path)


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({}, "quant_method = None"),
        ({"quant_method": "hqq"}, "accepted: gptq, awq, bitsandbytes"),
        (GPTQ | {"checkpoint_format": "marlin"}, "accepted: gptq, gptq_v2"),
        (GPTQ | {"group_size": 0}, "group_size = 0"),
        (GPTQ | {"bits": 9}, "accepted: 2 to 8"),
        (GPTQ | {"dynamic": {r".*\.down_proj": 8}}, "dynamic: .* = 8, expected settings"),
        (GPTQ | {"dynamic": [8]}, r"dynamic = \[8\], expected patterns"),
        ({"quant_method": "awq", "bits": 4, "group_size": 64, "version": "gemv"}, "accepted: gemm with 4 bits"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bnb_4bit_quant_type = None"),
        (
            AUTO_ROUND | {"packing_format": "auto_round:fake"},
            "packing_format = 'auto_round:fake' .* auto_round:auto_awq",
        ),
        (AUTO_ROUND | {"packing_format": ["auto_round"]}, r"packing_format = .*auto_round"),
        (GPTQ | {"checkpoint_format": ["gptq"]}, r"checkpoint_format = .*gptq"),
        (AUTO_ROUND | {"data_type": "nv_fp"}, "data_type = 'nv_fp' cannot be read; accepted: int"),
        (AUTO_ROUND | {"packing_format": "auto_round:auto_awq", "bits": 3}, "with other widths than 4 bits"),
        (AUTO_ROUND | {"extra_config": {"a": 8}}, "extra_config: 'a' = 8, expected settings"),
    ],
)
def test_formats_that_cannot_be_read_are_named(declared: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        format_from_config(declared)


def test_dynamic_that_gives_no_layer_another_width_is_read() -> None:
    for dynamic in ({}, None, {r"-:.*lm_head.*": {}}, {r".*\.0\..*": {"desc_act": True, "bits": 4}}):
        assert format_from_config(GPTQ | {"dynamic": dynamic}) == format_from_config(GPTQ)


@pytest.mark.parametrize(
    "declared",
    [
        GPTQ | {"dynamic": {r"+:.*layers\.0\..*": {"bits": 8, "group_size": 32}, r"-:.*lm_head": {}}},
        AUTO_ROUND | {"extra_config": {r".*layers\.0\..*": {"bits": 8, "group_size": 32}, "lm_head": {"bits": 16}}},
    ],
)
def test_layers_of_another_width_are_told_by_their_tensors(
    tmp_path: Path, llama: PreTrainedModel, declared: dict[str, Any]
) -> None:
    expected = {name: tensor.clone() for name, tensor in llama.state_dict().items()}
    tensors = dict(expected)
    stored = weights = 0
    for seed, (name, linear) in enumerate(stack_linears(llama).items()):
        bits, group = (8, 32) if "layers.0." in name else (4, 16)
        n_in, n_out = linear.in_features, linear.out_features
        g_idx = torch.arange(n_in) // group
        codes, zeros, scales = random_linear(n_in, n_out, n_in // group, bits, seed)
        del tensors[f"{name}.weight"]
        parts = gptq_tensors(codes, zeros, scales, g_idx, bits, 1)
        tensors |= {f"{name}.{part}": tensor for part, tensor in parts.items()}
        expected[f"{name}.weight"] = by_hand(codes, zeros, scales, g_idx)
        stored += n_out * (n_in * bits + n_in // group * (bits + 16)) + 32 * n_in
        weights += n_in * n_out
    write_checkpoint(tmp_path, llama, tensors, declared)
    read = read_prequantized(tmp_path, torch.float32)
    assert all(torch.equal(read.weights[name], expected[name]) for name in expected)
    assert read.bits_per_weight == pytest.approx(stored / weights)
    widths = {name: (one.grid.bits, one.grid.group_size) for name, one in read.matrices.items()}
    # One group for a whole row of 32 is a channel's; the down projection's 64 inputs have two.
    assert widths["model.layers.0.self_attn.q_proj"] == (8, None)
    assert widths["model.layers.0.mlp.down_proj"] == (8, 32)
    assert {widths[name] for name in widths if "layers.1." in name} == {(4, 16)}


@pytest.mark.parametrize(
    ("packing", "version"), [("auto_round:auto_gptq", 1), ("auto_round", 2), ("auto_round:gptqmodel", 2)]
)
def test_auto_rounds_packings(tmp_path: Path, packing: str, version: int) -> None:
    codes, zeros, scales = random_linear(64, 32, 4, 4, seed=1)
    g_idx = torch.arange(64) // 16
    parts = gptq_tensors(codes, zeros, scales, g_idx, 4, version)
    del parts["g_idx"]  # it writes none
    save_file({f"layers.0.q.{name}": part for name, part in parts.items()}, tmp_path / "model.safetensors")
    said = AUTO_ROUND | {"packing_format": packing, "quant_method": "intel/auto-round"}
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": said}))
    read = read_prequantized(tmp_path, torch.float32)
    assert torch.equal(read.weights["layers.0.q.weight"], by_hand(codes, zeros, scales, g_idx))
    assert (read.format.method, read.format.rescaled) == ("auto-round", False)


def test_auto_rounds_awq_packing_has_no_scales_to_take_out(tmp_path: Path) -> None:
    codes, zeros, scales = random_linear(64, 32, 4, 4, seed=1)
    parts = awq_tensors(codes, zeros, scales)
    save_file({f"layers.0.q.{name}": part for name, part in parts.items()}, tmp_path / "model.safetensors")
    said = AUTO_ROUND | {"packing_format": "auto_round:auto_awq"}
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": said}))
    read = read_prequantized(tmp_path, torch.float32)
    expected = by_hand(codes, zeros, scales, torch.arange(64) // 16)
    assert torch.equal(read.weights["layers.0.q.weight"], expected)
    assert (read.format.method, read.format.rescaled) == ("auto-round", False)
    assert format_from_config({"quant_method": "awq", "bits": 4, "group_size": 16}).rescaled


def test_a_plain_module_named_like_a_part_is_kept(tmp_path: Path, llama: PreTrainedModel) -> None:
    """A norm's `scales` belongs to no quantized linear."""
    tensors, _ = quantized(llama, "gptq")
    extra = nn.Parameter(torch.ones(3)).detach()
    write_checkpoint(tmp_path, llama, tensors | {"model.norm.scales": extra}, GPTQ)
    assert torch.equal(read_prequantized(tmp_path, torch.float32).weights["model.norm.scales"], extra)
