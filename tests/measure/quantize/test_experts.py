"""Every expert's matrices after RTN, GPTQ and AWQ, against loops over all experts in NumPy."""

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from measure.mixtures import (
    COUNT,
    FIRST,
    MIXTURES,
    SIZES,
    UNSEEN,
    between,
    matrices,
    random_mixture,
    seen_by_each,
)
from qidbayes.measure.inputs.experts import list_experts
from qidbayes.measure.quantize import AWQ, GPTQ, RTN, QuantizationReport, Quantizer

BITS, GROUP, LAYER = 3, 16, 1
BIASED = [name for name in MIXTURES if name in ("gpt_oss", "deepseek_v3")]  # routers that can leave an expert out


def windows(n: int, length: int) -> Tensor:
    return torch.randint(3, 64, (n, length), generator=torch.Generator().manual_seed(1))


def nearest(weight: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Round to the grid of codes 0 to 7 that covers a group, `[..., GROUP]`, and zero.

    A grid that is centred on zero puts a group's extreme on a tie, where the last bit of a float32 decides.
    """
    low, high = np.minimum(group.min(-1, keepdims=True), 0), np.maximum(group.max(-1, keepdims=True), 0)
    step = (high - low) / (2**BITS - 1)
    zero = np.round(-low / step)
    return step * (np.clip(np.round(weight / step) + zero, 0, 2**BITS - 1) - zero)


def own_rtn(weight: np.ndarray) -> np.ndarray:
    grouped = weight.reshape(-1, GROUP)
    return nearest(grouped, grouped).reshape(weight.shape)


def with_white(inputs: np.ndarray) -> np.ndarray:
    """Inputs whose second moment GPTQ is to have, times the root of their number.

    Where there are fewer than a matrix has inputs, one more token is spread evenly over all directions.
    """
    count, width = inputs.shape
    if count >= width:
        return inputs / np.sqrt(count)
    power = np.square(inputs).sum() / (count * width) if count else 1.0
    return np.concatenate([inputs, np.sqrt(power) * np.eye(width)]) / np.sqrt(count + 1)


def own_gptq(weight: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """Column by column with the explicit inverse of the Hessian of the columns left (Frantar et al., eqs. 2 and 3).

    Errors are spread within the block of 128 columns, which is all of them, after a group's grid has been fitted.
    """
    white = with_white(inputs)
    hessian = white.T @ white
    hessian += 0.01 * hessian.diagonal().mean() * np.eye(len(hessian))
    inverse, found = np.linalg.inv(hessian), np.zeros_like(weight)
    groups = weight.reshape(len(weight), -1, GROUP)
    for column in range(weight.shape[1]):
        found[:, column] = nearest(weight[:, column, None], groups[:, column // GROUP])[:, 0]
        error = (weight[:, column] - found[:, column]) / inverse[column, column]
        weight = weight - np.outer(error, inverse[column])
        inverse = inverse - np.outer(inverse[:, column], inverse[column]) / inverse[column, column]
    return found


def own_awq(weight: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """The power of the inputs' mean magnitude with which rounding changes the outputs least."""
    white, best, least = with_white(inputs), weight, np.inf
    size = np.abs(inputs).mean(0) if len(inputs) else np.ones(weight.shape[1])
    for step in range(20):
        scale = size ** (step / 20)
        rounded = own_rtn(weight * scale) / scale
        error = np.square(white @ (rounded - weight).T).sum()
        if error < least:
            best, least = rounded, error
    return best


def quantized(
    name: str, quantizer: Quantizer, tokens: Tensor, unseen: bool = False
) -> tuple[PreTrainedModel, QuantizationReport]:
    model = random_mixture(name, unseen)
    list_experts(model)
    return model, quantizer.quantize(model, tokens)


def check(found: np.ndarray, expected: np.ndarray) -> None:
    """All but few: float32 and float64 may round a weight that is within 1e-6 of a border to either side."""
    assert (np.abs(found - expected) > 1e-5).mean() < 0.002


@pytest.mark.parametrize("name", MIXTURES)
def test_rtn_rounds_every_expert_in_every_layer(name: str) -> None:
    model, report = quantized(name, RTN(BITS, GROUP, False), windows(1, 4))
    for layer in range(SIZES[name][FIRST], 2):
        for fused, part in zip(matrices(name, random_mixture(name), layer), ("gate_up_proj", "down_proj"), strict=True):
            for expert, weight in enumerate(fused):
                found = model.get_parameter(f"model.layers.{layer}.mlp.experts.{part}.{expert}.weight")
                np.testing.assert_allclose(found.detach().numpy(), own_rtn(weight), rtol=0, atol=1e-6)
    assert (report.expert_tokens, report.too_few) == ({}, {})


# Many tokens, so that every expert sees more than it has inputs; and few.
@pytest.mark.parametrize("tokens", [windows(16, 48), windows(3, 12)], ids=["many", "few"])
@pytest.mark.parametrize("name", MIXTURES)
def test_gptq_solves_each_expert_on_the_tokens_that_it_saw(name: str, tokens: Tensor) -> None:
    """Layer 1, from what the experts of the finished model see: all before was quantized when its turn came."""
    model, report = quantized(name, GPTQ(BITS, GROUP, False), tokens)
    firsts, seconds = matrices(name, random_mixture(name), LAYER)
    seen = seen_by_each(model, LAYER, tokens, SIZES[name][COUNT])
    for expert, inputs in enumerate(seen):
        where = f"model.layers.{LAYER}.mlp.experts"
        first, second = (
            model.get_parameter(f"{where}.{part}.{expert}.weight").detach().double().numpy()
            for part in ("gate_up_proj", "down_proj")
        )
        check(first, own_gptq(firsts[expert], inputs))
        inner = between(name, model, LAYER, expert, inputs @ first.T)
        check(second, own_gptq(seconds[expert], inner))
        for part in ("gate_up_proj", "down_proj"):
            assert report.expert_tokens[f"{where}.{part}.{expert}"] == len(inputs)
        widest = max(firsts.shape[2], seconds.shape[2])
        assert report.too_few.get(f"{where}.{expert}") == (len(inputs) if len(inputs) < widest else None)


@pytest.mark.parametrize("tokens", [windows(16, 48), windows(3, 12)], ids=["many", "few"])
@pytest.mark.parametrize("name", MIXTURES)
def test_awq_scales_each_expert_by_what_it_saw(name: str, tokens: Tensor) -> None:
    """Layer 1, from what the experts of the model before see: AWQ is calibrated on that."""
    model, report = quantized(name, AWQ(BITS, GROUP, clip=False), tokens)
    before = random_mixture(name)
    seen = seen_by_each(before, LAYER, tokens, SIZES[name][COUNT])
    firsts, seconds = matrices(name, before, LAYER)
    for expert, inputs in enumerate(seen):
        where = f"model.layers.{LAYER}.mlp.experts"
        inner = between(name, model, LAYER, expert, inputs @ firsts[expert].T)
        for part, weight, x in (("gate_up_proj", firsts, inputs), ("down_proj", seconds, inner)):
            found = model.get_parameter(f"{where}.{part}.{expert}.weight").detach().double().numpy()
            check(found, own_awq(weight[expert], x))
            assert report.expert_tokens[f"{where}.{part}.{expert}"] == len(inputs)


@pytest.mark.parametrize("quantizer", [GPTQ(BITS, GROUP, False), AWQ(BITS, GROUP, clip=False)], ids=lambda q: q.method)
@pytest.mark.parametrize("name", BIASED)
def test_an_expert_that_sees_no_token_is_rounded_to_nearest_and_named(name: str, quantizer: Quantizer) -> None:
    model, report = quantized(name, quantizer, windows(16, 48), unseen=True)
    for layer in range(SIZES[name][FIRST], 2):
        for fused, part in zip(
            matrices(name, random_mixture(name, unseen=True), layer), ("gate_up_proj", "down_proj"), strict=True
        ):
            linear = f"model.layers.{layer}.mlp.experts.{part}.{UNSEEN}"
            found = model.get_parameter(f"{linear}.weight").detach().numpy()
            np.testing.assert_allclose(found, own_rtn(fused[UNSEEN]), rtol=0, atol=1e-6)
            assert report.expert_tokens[linear] == 0
        assert report.too_few[f"model.layers.{layer}.mlp.experts.{UNSEEN}"] == 0
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
