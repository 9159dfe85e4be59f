"""Every quantizer on whole decoders."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from qidbayes.errors import InputError
from qidbayes.measure.decoder.layers import restoring_weights, stack_linears
from qidbayes.measure.errors import MeasureError
from qidbayes.measure.quantize import AWQ, GPTQ, RTN, BitsAndBytes, Quantizer
from qidbayes.measure.quantize.grid import round_to_grid

EVERY = [GPTQ(3, 16), RTN(3, 16), AWQ(3, 16), BitsAndBytes("nf4"), BitsAndBytes("fp4"), BitsAndBytes("int8")]


@pytest.mark.parametrize("quantizer", [GPTQ(4, 16), AWQ(4, 16)], ids=lambda q: q.method)
def test_every_linear_is_quantized_and_nothing_else(
    decoder: tuple[PreTrainedModel, int], tokens: Tensor, quantizer: Quantizer
) -> None:
    model, _ = decoder
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    report = quantizer.quantize(model, tokens)
    touched = {f"{name}.weight" for name in stack_linears(model)}
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) == (name not in touched), name
    assert report.n_weights == sum(before[name].numel() for name in touched)
    assert torch.isfinite(model(input_ids=tokens).logits).all()


@pytest.mark.parametrize("quantizer", EVERY, ids=lambda q: q.method)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_model_stays_usable(llama: PreTrainedModel, tokens: Tensor, quantizer: Quantizer, dtype: torch.dtype) -> None:
    model = llama.to(dtype).train()
    used_cache = model.config.use_cache
    quantizer.quantize(model, tokens)
    assert model.dtype == dtype
    assert model.config.use_cache == used_cache
    assert all(module.training for module in model.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks or "forward" in m.__dict__ for m in model.modules())
    generated = model.eval().generate(tokens[:1], max_new_tokens=2, do_sample=False)
    assert generated.shape == (1, 14)


def test_half_precision_gives_the_single_precision_grid(llama: PreTrainedModel, tokens: Tensor) -> None:
    """Weights are solved in float32 whatever the model's dtype; only the result is rounded to it."""
    model = llama.to(torch.bfloat16)
    expected = {
        name: round_to_grid(m.weight.detach().float(), 3, 16, True).bfloat16()
        for name, m in stack_linears(model).items()
    }
    RTN(3, 16).quantize(model, tokens)
    assert all(torch.equal(m.weight, expected[name]) for name, m in stack_linears(model).items())


def recorded_input(model: PreTrainedModel, name: str, tokens: Tensor) -> Tensor:
    """`[tokens, in]`: a linear's input in one plain forward pass."""
    seen: list[Tensor] = []
    hook = model.get_submodule(name).register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    with torch.no_grad():
        model(input_ids=tokens)
    hook.remove()
    return seen[0].flatten(0, -2)


@pytest.mark.parametrize("true_sequential", [True, False])
def test_gptq_sees_what_was_quantized_before(llama: PreTrainedModel, tokens: Tensor, true_sequential: bool) -> None:
    """The down projection of layer 1, from activations recorded in one plain pass.

    Everything before it was quantized when its turn came, and is in the finished model as it was then. Not truly
    sequential, the linears of its own layer still had their weights.
    """
    name = "model.layers.1.mlp.down_proj"
    original = {n: linear.weight.detach().clone() for n, linear in stack_linears(llama).items()}
    GPTQ(2, 16, true_sequential=true_sequential).quantize(llama, tokens)
    found = llama.get_submodule(name).weight.detach().clone()
    if not true_sequential:
        for other, linear in stack_linears(llama).items():
            if other.startswith("model.layers.1."):
                linear.weight.data.copy_(original[other])
    inputs = recorded_input(llama, name, tokens)
    expected = GPTQ(2, 16).solve(original[name], inputs.T @ inputs / len(inputs))
    # Sums run in another order: a rounding may flip where a weight is within 1e-6 of a border, and few are.
    assert ((found - expected).abs() > 1e-5).float().mean() < 0.002


def test_awq_sees_the_unquantized_model(llama: PreTrainedModel, tokens: Tensor) -> None:
    name = "model.layers.1.mlp.down_proj"
    linear = llama.get_submodule(name)
    original = linear.weight.detach().clone()
    inputs = recorded_input(llama, name, tokens)
    quantizer = AWQ(3, 16)
    quantizer.quantize(llama, tokens)
    expected = quantizer.solve(original, inputs.T @ inputs / len(inputs), inputs.abs().mean(0))
    torch.testing.assert_close(linear.weight.detach(), expected, rtol=1e-4, atol=1e-6)


def test_degradation_falls_with_bits(
    trained: PreTrainedModel, calibration: Tensor, loss: Callable[[PreTrainedModel], float]
) -> None:
    """On a model that has learned something: fewer bits cost more, GPTQ less than round to nearest, 8 bits nothing.

    The factors are far inside what seeds 0 to 2 of the training gave (2 bits cost 3 times what 3 bits do, and more);
    1e-3 nats is 40 times what float32 sums in another order move this loss.
    """
    full = loss(trained)
    assert full < 1.5  # ln 64 = 4.16 for a model that learned nothing, ln 4 = 1.39 at best

    def qid(quantizer: Quantizer) -> float:
        with restoring_weights(trained):
            quantizer.quantize(trained, calibration)
            return loss(trained) - full

    rounded = {bits: qid(RTN(bits, 64)) for bits in (2, 3, 4, 8)}
    assert rounded[2] > 2 * rounded[3] > 4 * rounded[4] > 0
    assert abs(rounded[8]) < 1e-3
    gptq = {bits: qid(GPTQ(bits, 64)) for bits in (2, 3, 4, 8)}
    assert gptq[2] < 0.7 * rounded[2]
    assert gptq[2] > gptq[3] + 1e-3
    assert gptq[3] < rounded[3]
    assert abs(gptq[8]) < 1e-3
    assert abs(qid(AWQ(8, 64))) < 1e-3
    assert qid(AWQ(2, 64)) < rounded[2]
    assert 0 < qid(BitsAndBytes("nf4")) < rounded[3]
    assert abs(qid(BitsAndBytes("int8"))) < 1e-3
    assert loss(trained) == full


def test_bits_per_weight_are_counted_with_everything_stored(llama: PreTrainedModel, tokens: Tensor) -> None:
    # A layer: q and o 32×32, k and v 16×32, gate and up 64×32, down 32×64.
    weights = 2 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 64 * 32)
    inputs = 2 * (6 * 32 + 64)
    groups = weights // 16

    def bits(quantizer: Quantizer) -> float:
        with restoring_weights(llama):
            return quantizer.quantize(llama, tokens).bits_per_weight

    assert bits(RTN(3, 16)) == pytest.approx(3 + 16 * groups / weights)
    assert bits(RTN(3, 16, symmetric=False)) == pytest.approx(3 + 19 * groups / weights)
    assert bits(GPTQ(3, 16, act_order=True)) == pytest.approx(3 + (16 * groups + 32 * inputs) / weights)
    assert bits(GPTQ(3, 16, act_order=True, static_groups=True)) == bits(RTN(3, 16))
    awq_inputs = 2 * (3 * 32 + 64)  # one scale per input of each group of linears that share it
    assert bits(AWQ(3, 16)) == pytest.approx(3 + (19 * groups + 16 * awq_inputs) / weights)
    assert bits(BitsAndBytes("nf4")) == pytest.approx(4 + 32 / 64)
    rows = 2 * (2 * 32 + 2 * 16 + 2 * 64 + 32)
    assert bits(BitsAndBytes("int8")) == pytest.approx(8 + 32 * rows / weights)
    # Nested: 8 bits a block, a float32 per 256 blocks (here one a matrix) and one offset a matrix.
    assert bits(BitsAndBytes("nf4", nested=True)) == pytest.approx(4 + 8 / 64 + 64 * 14 / weights)


@pytest.mark.parametrize("quantizer", [GPTQ(4, 24), RTN(4, 24), AWQ(4, 24)], ids=lambda q: q.method)
def test_group_sizes_that_do_not_divide_are_refused_before_anything_changes(
    llama: PreTrainedModel, tokens: Tensor, quantizer: Quantizer
) -> None:
    before = {name: p.detach().clone() for name, p in llama.named_parameters()}
    with pytest.raises(InputError, match=r"model\.layers\.0\.self_attn\.q_proj has 32 inputs, which group_size = 24"):
        quantizer.quantize(llama, tokens)
    assert all(torch.equal(p, before[name]) for name, p in llama.named_parameters())


@pytest.mark.parametrize("quantizer", [GPTQ(4, 16), AWQ(4, 16)], ids=lambda q: q.method)
def test_activations_that_are_not_finite_name_the_layer(
    llama: PreTrainedModel, tokens: Tensor, quantizer: Quantizer
) -> None:
    with torch.no_grad():
        llama.model.layers[1].input_layernorm.weight[0] = float("nan")
    with pytest.raises(MeasureError, match=r"model\.layers\.1\.self_attn\.q_proj: calibration activations are not"):
        quantizer.quantize(llama, tokens)


def test_dead_inputs_become_zero(llama: PreTrainedModel, tokens: Tensor) -> None:
    with torch.no_grad():
        llama.model.layers[0].post_attention_layernorm.weight[:5] = 0
    GPTQ(4, 16).quantize(llama, tokens)
    gate = llama.get_submodule("model.layers.0.mlp.gate_proj")
    assert isinstance(gate, nn.Linear)
    assert gate.weight[:, :5].abs().max() == 0
