"""Quantized files against their original: right ones of every kind pass, each kind of wrong one is refused by name."""

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bitsandbytes.functional as bnb
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from qidbayes.measure.decoder.layers import restoring_weights, stack_linears
from qidbayes.measure.errors import MeasureError
from qidbayes.measure.prequantized import check_against_original, load_prequantized
from qidbayes.measure.prequantized.bitsandbytes import FourBitFormat, Int8Format
from qidbayes.measure.prequantized.formats import Steps
from qidbayes.measure.prequantized.gptq import GPTQFormat
from qidbayes.measure.prequantized.original import allowed_error, compare
from qidbayes.measure.quantize import GPTQ
from qidbayes.measure.quantize.grid import fit_grid
from qidbayes.resources import shipped

from .packers import awq_tensors, gptq_tensors, nearest_linear, write_checkpoint

TINY = Path(str(shipped("measurements") / "tiny"))
Q_PROJ, UP_PROJ = "model.layers.0.self_attn.q_proj", "model.layers.0.mlp.up_proj"


def gptq_files(
    folder: Path,
    model: PreTrainedModel,
    bits: int = 4,
    group_size: int | None = 16,
    symmetric: bool = False,
    zeros_off_by: int = 0,
    version: int = 1,
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]] = lambda tensors: tensors,
    **declared: Any,
) -> Path:
    """Files of the model rounded to nearest; `version` is what they are written in, `declared` what they say."""
    tensors = dict(model.state_dict())
    for name, linear in stack_linears(model).items():
        groups = linear.in_features // (group_size or linear.in_features)
        codes, zeros, scales = nearest_linear(linear.weight.detach(), groups, bits, symmetric)
        index = torch.arange(linear.in_features) // (group_size or linear.in_features)
        del tensors[f"{name}.weight"]
        parts = gptq_tensors(codes, zeros + zeros_off_by, scales, index, bits, version)
        tensors |= {f"{name}.{part}": tensor for part, tensor in parts.items()}
    said = {"quant_method": "gptq", "bits": bits, "group_size": group_size or -1, "sym": symmetric}
    said |= {"checkpoint_format": "gptq" if version == 1 else "gptq_v2"}
    write_checkpoint(folder, model, change(tensors), said | declared)
    return folder


def check(folder: Path, original: PreTrainedModel) -> PreTrainedModel:
    theirs, read = load_prequantized(folder, torch.float32)
    check_against_original(read, theirs, original)
    return theirs


def refusal(folder: Path, original: PreTrainedModel) -> str:
    with pytest.raises(MeasureError) as refused:
        check(folder, original)
    return str(refused.value)


def figures(message: str) -> tuple[float, float]:
    """The relative error and the mean shift that a refusal tells."""
    found = re.search(r"relative error (\S+) .*mean shift (\S+) grid steps", message)
    assert found, message
    return float(found[1]), float(found[2])


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("group_size", [16, None])
@pytest.mark.parametrize("symmetric", [True, False])
def test_right_files_pass(
    tmp_path: Path, llama: PreTrainedModel, bits: int, group_size: int | None, symmetric: bool
) -> None:
    theirs = check(gptq_files(tmp_path, llama, bits, group_size, symmetric), llama)
    (weight,) = (m.weight for name, m in stack_linears(theirs).items() if name == Q_PROJ)
    ours = llama.get_parameter(f"{Q_PROJ}.weight")
    spans = ours.abs().reshape(32, -1, group_size or 32).amax(-1, keepdim=True)
    # No weight is farther off than a step, the largest that a grid of this width needs for ±its largest weight.
    assert ((weight - ours).abs().reshape(32, -1, group_size or 32) <= 2.01 * spans / (2**bits - 1)).all()


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("off", [1, -1])
def test_a_shifted_zero_point_is_told_in_steps(tmp_path: Path, llama: PreTrainedModel, bits: int, off: int) -> None:
    # Written in version 2, which can say every zero point from 0 to the top.
    folder = gptq_files(tmp_path, llama, bits, None, True, zeros_off_by=off, version=2, sym=False)
    message = refusal(folder, llama)
    assert message.startswith(Q_PROJ)
    # A zero point one higher moves every weight one step down; cutting off the top end moves few of 32 by half a step.
    assert figures(message)[1] == pytest.approx(-off, abs=0.1)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_symmetric_files_are_read_in_the_version_they_are_written_in(
    tmp_path: Path, llama: PreTrainedModel, version: int, bits: int
) -> None:
    (tmp_path / "right").mkdir()
    (tmp_path / "wrong").mkdir()
    right = gptq_files(tmp_path / "right", llama, bits, symmetric=True, version=version)
    says = "gptq_v2" if version == 1 else "gptq"
    wrong = gptq_files(tmp_path / "wrong", llama, bits, symmetric=True, version=version, checkpoint_format=says)
    expected, found = check(right, llama).state_dict(), check(wrong, llama).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_a_wrong_version_that_nothing_settles_is_refused(tmp_path: Path, llama: PreTrainedModel) -> None:
    message = refusal(gptq_files(tmp_path, llama, version=2, checkpoint_format="gptq"), llama)
    assert figures(message)[1] == pytest.approx(-1, abs=0.05)


def test_swapped_layers_are_refused(tmp_path: Path, llama: PreTrainedModel) -> None:
    def swap(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        second = UP_PROJ.replace("layers.0", "layers.1")
        parts = [name.removeprefix(UP_PROJ) for name in tensors if name.startswith(UP_PROJ)]
        swapped = {f"{UP_PROJ}{part}": tensors[f"{second}{part}"] for part in parts}
        return tensors | swapped | {f"{second}{part}": tensors[f"{UP_PROJ}{part}"] for part in parts}

    message = refusal(gptq_files(tmp_path, llama, change=swap), llama)
    assert message.startswith(UP_PROJ)
    weight, other = (llama.get_parameter(f"model.layers.{i}.mlp.up_proj.weight").detach() for i in (0, 1))
    # The rounding of the other matrix, whose error is 10% and has nothing to do with the difference of the two.
    assert figures(message)[0] == pytest.approx(float((other - weight).norm() / weight.norm()), rel=0.03)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_another_checkpoint_is_refused(tmp_path: Path, llama: PreTrainedModel, bits: int) -> None:
    torch.manual_seed(1)
    other = AutoModelForCausalLM.from_config(llama.config)
    relative_error, _ = figures(refusal(gptq_files(tmp_path, other, bits), llama))
    assert relative_error == pytest.approx(2**0.5, rel=0.15)  # √2 for independent matrices of one size


def test_a_checkpoint_near_by_is_told_by_what_is_not_quantized(tmp_path: Path, llama: PreTrainedModel) -> None:
    near = copy.deepcopy(llama)
    with torch.no_grad():
        near.model.embed_tokens.weight.mul_(1.02)
    message = refusal(gptq_files(tmp_path, near), llama)
    assert message.startswith("model.embed_tokens.weight, which is not quantized, differs")
    assert "relative error 0.02 " in message


def test_another_rope_theta_is_told(tmp_path: Path, llama: PreTrainedModel) -> None:
    folder = gptq_files(tmp_path, llama)
    config = json.loads((folder / "config.json").read_text())
    config["rope_parameters"]["rope_theta"] = 500_000.0
    (folder / "config.json").write_text(json.dumps(config))
    assert refusal(folder, llama).startswith("model.rotary_emb.inv_freq, which is not quantized, differs")


def test_a_part_that_was_left_alone_and_a_head_that_was_not_are_refused(tmp_path: Path, llama: PreTrainedModel) -> None:
    def leave(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        kept = {name: t for name, t in tensors.items() if not name.startswith(UP_PROJ)}
        return kept | {f"{UP_PROJ}.weight": llama.get_parameter(f"{UP_PROJ}.weight").detach()}

    # up_proj of one of two layers: 2,048 of 2·(4·32² + 3·32·64) = 20,480 weights.
    assert "up_proj as it was (1 such): 90.0% of the decoder stack's" in refusal(
        gptq_files(tmp_path, llama, change=leave), llama
    )

    def head_too(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        codes, zeros, scales = nearest_linear(tensors["lm_head.weight"], 2, 4, symmetric=False)
        parts = gptq_tensors(codes, zeros, scales, torch.arange(32) // 16, 4, 1)
        kept = {name: t for name, t in tensors.items() if name != "lm_head.weight"}
        return kept | {f"lm_head.{part}": tensor for part, tensor in parts.items()}

    assert "have lm_head quantized too" in refusal(gptq_files(tmp_path, llama, change=head_too), llama)


def awq_files(folder: Path, model: PreTrainedModel, zeros_off_by: int = 0) -> Path:
    """As AutoAWQ does it: inputs scaled by up to 4, the norm before them divided by as much, then rounded."""
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    generator = torch.Generator().manual_seed(2)
    for layer in ("model.layers.0", "model.layers.1"):
        for norm, linears in {
            "input_layernorm": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
            "post_attention_layernorm": ["mlp.gate_proj", "mlp.up_proj"],
        }.items():
            scale = 4 ** (2 * torch.rand(32, generator=generator) - 1)
            tensors[f"{layer}.{norm}.weight"] /= scale
            for linear in linears:
                tensors[f"{layer}.{linear}.weight"] *= scale
        scale = 4 ** (2 * torch.rand(64, generator=generator) - 1)
        tensors[f"{layer}.mlp.up_proj.weight"] /= scale[:, None]
        tensors[f"{layer}.mlp.down_proj.weight"] *= scale
    for name in stack_linears(model):
        weight = tensors.pop(f"{name}.weight")
        codes, zeros, scales = nearest_linear(weight, weight.shape[1] // 16, 4, symmetric=False)
        parts = awq_tensors(codes, (zeros + zeros_off_by).clamp(0, 15), scales)
        tensors |= {f"{name}.{part}": tensor for part, tensor in parts.items()}
    write_checkpoint(folder, model, tensors, {"quant_method": "awq", "bits": 4, "group_size": 16, "version": "gemm"})
    return folder


def test_awq_files_are_held_but_for_their_scales(tmp_path: Path, llama: PreTrainedModel) -> None:
    theirs = check(awq_files(tmp_path, llama), llama)
    ids = torch.arange(12)[None]
    with torch.no_grad():
        after, before = theirs(input_ids=ids).logits, llama(input_ids=ids).logits
    assert 0 < (after - before).norm() / before.norm() < 0.2  # it is the model, rounded to 4 bits
    _, shift = figures(refusal(awq_files(tmp_path, llama, zeros_off_by=-1), llama))
    assert shift == pytest.approx(1, abs=0.15)
    torch.manual_seed(1)
    other = AutoModelForCausalLM.from_config(llama.config)
    assert figures(refusal(awq_files(tmp_path, other), llama))[0] > 1


@pytest.fixture(scope="module")
def tiny() -> tuple[PreTrainedModel, Tensor]:
    """A trained model and calibration windows, `[16, 128]`."""
    model = AutoModelForCausalLM.from_pretrained(TINY / "checkpoints/64x2/step65536", dtype=torch.float32)
    tokens = AutoTokenizer.from_pretrained(TINY / "tokenizer")((TINY / "calibration.txt").read_text()).input_ids
    return model, torch.tensor(tokens[: 16 * 128]).reshape(16, 128)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("group_size", [16, 64])
@pytest.mark.parametrize("act_order", [False, True])
def test_gptq_on_a_trained_model_is_well_inside(
    tiny: tuple[PreTrainedModel, Tensor], bits: int, group_size: int, act_order: bool
) -> None:
    """Its compensation moves weights far more than rounding to nearest does, the most of all methods."""
    model, calibration = tiny
    originals = {name: linear.weight.detach().clone() for name, linear in stack_linears(model).items()}
    names = list(originals)
    with restoring_weights(model):
        GPTQ(bits, group_size, act_order=act_order).quantize(model, calibration)
        for name, linear in stack_linears(model).items():
            weight, rounded = originals[name], linear.weight.detach()
            grid = fit_grid(weight.reshape(len(weight), -1, group_size), bits, symmetric=True)
            steps = Steps(grid.scale[..., 0], torch.arange(weight.shape[1]) // group_size)
            found = compare(weight, rounded, steps)
            kind = GPTQFormat(bits, group_size, 1)
            assert found.relative_error < 0.9 * allowed_error(weight, rounded, kind), name
            assert abs(found.mean_shift) < 0.25, name
            # Any other matrix of this size is outside.
            others = [other for other in names if originals[other].shape == weight.shape and other != name]
            for other in others:
                apart = compare(originals[other], rounded, steps).relative_error
                assert apart > allowed_error(originals[other], rounded, kind), (name, other)


@pytest.mark.parametrize("kind", ["nf4", "fp4", "int8"])
def test_bitsandbytes_is_inside(kind: str) -> None:
    weight = torch.randn(64, 96, generator=torch.Generator().manual_seed(3)) / 10
    if kind == "int8":
        codes, absmax, _ = bnb.int8_vectorwise_quant(weight.half())
        form, parts = Int8Format(), {"weight": codes, "SCB": absmax}
    else:
        packed, state = bnb.quantize_4bit(weight.reshape(1, -1), quant_type=kind, compress_statistics=False)
        state.shape = weight.shape
        saved = {f"weight.{k}": v for k, v in state.as_dict(packed=True).items()}
        form, parts = FourBitFormat(kind), {"weight": packed, **saved}
    rounded = form.dequantize(parts)
    found = compare(weight, rounded, form.steps(parts))
    assert found.relative_error < 0.25 * allowed_error(weight, rounded, form)
    assert abs(found.mean_shift) < 0.05
    if kind != "int8":  # halves of each byte the other way round: every pair of weights is swapped
        swapped = form.dequantize(parts | {"weight": (parts["weight"] >> 4) | (parts["weight"] << 4)})
        assert compare(weight, swapped, form.steps(parts)).relative_error > allowed_error(weight, swapped, form)
