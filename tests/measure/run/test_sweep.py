"""The sweep against the plain path: one quantization after another, each evaluated by itself."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedModel

from measure.decoders import sentences
from qidbayes.errors import InputError
from qidbayes.measure.decoder import layers
from qidbayes.measure.decoder.batches import in_order
from qidbayes.measure.decoder.evaluate import paired_difference, window_losses
from qidbayes.measure.decoder.hidden_states import HiddenStates
from qidbayes.measure.decoder.layers import restoring_weights
from qidbayes.measure.quantize import (
    AWQ,
    GPTQ,
    RTN,
    BitsAndBytes,
    Floats,
    GPTQFloats,
    QuantizationReport,
    Quantizer,
)
from qidbayes.measure.run import layer_solver
from qidbayes.measure.run.sweep import RoundedLayer, sweep

CPU = torch.device("cpu")
EVERY: Sequence[Quantizer] = (
    GPTQ(2, 16),
    GPTQ(3, None),
    GPTQ(4, 8, symmetric=False, true_sequential=False),
    GPTQ(3, 16, act_order=True, block_size=16),
    GPTQ(8, 16, act_order=True, static_groups=True),
    RTN(3, 16),
    BitsAndBytes("nf4"),
    BitsAndBytes("int8"),
    RTN(3, 16, rotate=True),
    GPTQ(3, 16, rotate=True),
    Floats("mxfp4"),
    Floats("nvfp4", rotate=True),
    GPTQFloats("fp8-tensor"),
    GPTQFloats("fp8-block"),
    GPTQFloats("mxfp6", true_sequential=False),
    GPTQFloats("nvfp4", act_order=True),
    GPTQFloats("nvfp4", static_groups=True, rotate=True),
)


def one_by_one(
    model: PreTrainedModel, quantizer: Quantizer, calibration: Tensor, windows: Sequence[Tensor]
) -> tuple[QuantizationReport, list[Tensor]]:
    with restoring_weights(model):
        return quantizer.quantize(model, calibration), [window_losses(model, some) for some in windows]


def texts() -> tuple[Tensor, list[Tensor]]:
    generator = torch.Generator().manual_seed(2)
    made = [torch.randint(64, shape, generator=generator) for shape in ((5, 12), (7, 13), (3, 9))]
    return made[0], made[1:]


def test_every_architecture_gives_the_losses_of_the_plain_path(
    decoder: tuple[PreTrainedModel, int],
) -> None:
    model, _ = decoder
    calibration, windows = texts()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    found = sweep(model, EVERY, calibration, windows, CPU)
    for quantizer, variant in zip(EVERY, found.variants, strict=True):
        report, losses = one_by_one(model, quantizer, calibration, windows)
        assert variant.report == report
        for ours, theirs in zip(variant.losses, losses, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    for ours, some in zip(found.baseline, windows, strict=True):
        torch.testing.assert_close(ours, window_losses(model, some), rtol=0, atol=1e-5)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


@pytest.mark.parametrize("waiting", [0, 2**30])  # bytes of passes that may wait: none do, all do
def test_qid_of_a_trained_model_in_many_batches(
    waiting: int, trained: PreTrainedModel, calibration: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "_NUMBERS_CPU", 64 * 64 * 5)  # 5 windows, which neither 32 nor 48 divide into
    monkeypatch.setattr(layer_solver, "_WAITING_CPU", waiting)
    windows = [sentences(48, 65, seed=10_003)]
    quantizers = [GPTQ(bits, 32) for bits in (2, 3, 4)]
    found = sweep(trained, quantizers, calibration, windows, CPU)
    (base,) = (window_losses(trained, some) for some in windows)
    for quantizer, variant in zip(quantizers, found.variants, strict=True):
        _, (losses,) = one_by_one(trained, quantizer, calibration, windows)
        ours, theirs = paired_difference(variant.losses[0], found.baseline[0]), paired_difference(losses, base)
        assert ours.mean == pytest.approx(theirs.mean, abs=1e-6)  # the same weights, other batches to evaluate


def test_one_setting_that_cannot_be_solved_leaves_the_others(
    llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibration, windows = texts()
    solve = layer_solver.factorize_fast

    def factorize(hessian: Tensor, damping: float) -> Tensor:
        return solve(hessian * torch.nan if damping == 0.5 else hessian, damping)

    monkeypatch.setattr(layer_solver, "factorize_fast", factorize)
    bad, good = sweep(llama, [GPTQ(3, 16, damping=0.5), GPTQ(3, 16)], calibration, windows, CPU).variants
    assert "model.layers.0.self_attn.q_proj: the Hessian of the calibration inputs cannot" in str(bad.error)
    assert (bad.report, bad.losses, good.error) == (None, [], None)
    torch.testing.assert_close(good.losses[0], one_by_one(llama, GPTQ(3, 16), calibration, windows)[1][0])


def test_what_does_not_fit_is_refused_before_anything_is_computed(llama: PreTrainedModel) -> None:
    calibration, windows = texts()
    with pytest.raises(InputError, match="the sweep does not know awq"):
        sweep(llama, [AWQ(4, 16)], calibration, windows, CPU)
    with pytest.raises(InputError, match="which group_size = 24 does not divide"):
        sweep(llama, [GPTQ(4, 24)], calibration, windows, CPU)


def relu_model(unit: float) -> PreTrainedModel:
    """A model half of whose neurons are dead; the others' activations are in a unit that its outputs do not show."""
    torch.manual_seed(0)
    model = GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=64,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=32,
            initializer_range=0.2,
            hidden_act="relu",
        )
    ).eval()
    with torch.no_grad():
        for layer in model.gpt_neox.layers:
            layer.mlp.dense_h_to_4h.bias[:32] = -100
            for parameter in layer.mlp.dense_h_to_4h.parameters():
                parameter *= unit
            layer.mlp.dense_4h_to_h.weight /= unit
    return model


def test_the_unit_of_a_relu_models_activations_does_not_matter() -> None:
    calibration, windows = texts()
    quantizers = [GPTQ(2, None), GPTQ(3, 16, act_order=True)]
    expected = sweep(relu_model(1), quantizers, calibration, windows, CPU)
    model = relu_model(2.0**-8)
    layers: list[RoundedLayer] = []
    found = sweep(model, quantizers, calibration, windows, CPU, watch=layers.append)
    down = [weights["mlp.dense_4h_to_h"] for layer in layers for weights in layer.rounded if weights]
    assert [int((weight == 0).all(dim=0).sum()) for weight in down] == [32] * 4  # inputs that never moved
    for quantizer, before, after in zip(quantizers, expected.variants, found.variants, strict=True):
        _, plain = one_by_one(model, quantizer, calibration, windows)
        for ours, theirs, alone in zip(after.losses, before.losses, plain, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
            torch.testing.assert_close(ours, alone, rtol=0, atol=1e-5)


def test_each_order_is_the_plain_path_on_its_windows(trained: PreTrainedModel, calibration: Tensor) -> None:
    windows = sentences(12, 33, seed=10_003)
    quantizers = [GPTQ(2, 32), RTN(2, 32), GPTQFloats("mxfp4")]
    found = sweep(trained, quantizers, calibration, [windows], CPU, orders=3)
    assert [len(variant.orders) for variant in found.variants] == [3, 1, 3]
    for quantizer, variant in zip(quantizers, found.variants, strict=True):
        for number, (compared,) in enumerate(variant.orders):
            report, (losses,) = one_by_one(trained, quantizer, in_order(calibration, number), [windows])
            assert variant.report == report
            torch.testing.assert_close(compared.losses, losses, rtol=0, atol=1e-6)
    first, second, _ = (float(compared.losses.mean()) for (compared,) in found.variants[0].orders)
    assert first != second


def test_orders_hold_the_same_windows_each_its_own_way() -> None:
    ids = torch.arange(40).reshape(10, 4)
    orders = [in_order(ids, number)[:, 0].tolist() for number in range(4)]
    assert orders[0] == ids[:, 0].tolist()
    assert all(sorted(order) == orders[0] for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert orders == [in_order(ids, number)[:, 0].tolist() for number in range(4)]


def test_another_run_agrees_within_the_quantizers_own_error(trained: PreTrainedModel, calibration: Tensor) -> None:
    """Windows in reverse, as another machine's sums would be: over the cells, QiD moves by what four orders say."""
    windows = [sentences(48, 33, seed=10_003)]
    model = trained.bfloat16()
    quantizers = [
        GPTQ(bits, size, act_order=bool(order)) for bits in (2, 3) for size in (8, 16, 32) for order in (0, 1)
    ]

    def measured(calibration: Tensor, orders: int) -> Tensor:
        found = sweep(model, quantizers, calibration, windows, CPU, orders=orders)
        return torch.tensor([[float(one.losses.mean()) for (one,) in variant.orders] for variant in found.variants])

    several, (reverse,) = measured(calibration[:8, :32], 4), measured(calibration[:8, :32].flip(0), 1).T
    expected = several.var(dim=1) * (1 + 1 / 4)
    found = (reverse - several.mean(dim=1)).square()
    assert 1 / 5 < float(found.mean() / expected.mean()) < 5  # 36 degrees of freedom below, and tails


def test_a_pass_that_runs_out_of_memory_begins_anew_with_half_the_batches(
    trained: PreTrainedModel, calibration: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = [sentences(48, 65, seed=10_003)]
    quantizers = [GPTQ(2, 32), RTN(2, 32)]
    before = {name: weight.clone() for name, weight in trained.state_dict().items()}
    advance, largest, said = HiddenStates.advance, [], []

    def short_of_memory(states: HiddenStates, step: Callable[[int, Tensor], Tensor]) -> None:
        largest.append(max(len(batch) for batch in states))
        if largest[-1] > 12:
            raise torch.OutOfMemoryError("CUDA out of memory")
        advance(states, step)

    monkeypatch.setattr(HiddenStates, "advance", short_of_memory)
    found = sweep(trained, quantizers, calibration, windows, CPU, said.append)
    assert all(torch.equal(weight, before[name]) for name, weight in trained.state_dict().items())
    assert [text for text in said if "memory" in text] == [
        f"out of memory: the sweep begins anew, with batches of 1/{parts}" for parts in (2, 4, 8, 16)
    ]
    monkeypatch.undo()
    monkeypatch.setattr(layers, "_NUMBERS_CPU", 8 * 64 * 64)  # 8 sequences of 64 states of width 64
    expected = sweep(trained, quantizers, calibration, windows, CPU)
    for one, other in zip(found.variants, expected.variants, strict=True):
        assert torch.equal(one.losses[0], other.losses[0])


def test_a_pass_that_never_fits_says_so(
    trained: PreTrainedModel, calibration: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short_of_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(HiddenStates, "advance", short_of_memory)
    with pytest.raises(torch.OutOfMemoryError):
        sweep(trained, [RTN(2, 32)], calibration, [sentences(4, 65, seed=1)], CPU)
