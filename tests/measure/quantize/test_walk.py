"""The walk through a decoder's layers against the model's own forward pass."""

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedModel

from qidbayes.errors import InputError
from qidbayes.measure.errors import MeasureError
from qidbayes.measure.second_moment import SecondMoment
from qidbayes.measure.walk import (
    decoder_layers,
    enter_stack,
    input_groups,
    replay,
    replay_until,
    restoring_weights,
    stack_linears,
)


def test_replaying_all_layers_is_the_models_own_pass(decoder: tuple[PreTrainedModel, int], tokens: Tensor) -> None:
    model, _ = decoder
    _, layers = decoder_layers(model)
    last: list[Tensor] = []
    hook = layers[-1].register_forward_hook(lambda _m, _i, out: last.append(out[0] if isinstance(out, tuple) else out))
    with torch.no_grad():
        model(input_ids=tokens, use_cache=False)
    hook.remove()
    inputs = enter_stack(model, tokens, batch_size=2)
    assert [len(h) for h in inputs.hidden] == [2, 2, 1]
    hidden = inputs.hidden
    for layer, calls in zip(layers, inputs.calls, strict=True):
        hidden = replay(layer, hidden, calls)
    # float32 kernels may differ between batch sizes in the last bits
    torch.testing.assert_close(torch.cat(hidden), last[0], rtol=1e-5, atol=1e-5)


def test_every_linear_is_found_once(decoder: tuple[PreTrainedModel, int], tokens: Tensor) -> None:
    model, per_layer = decoder
    linears = stack_linears(model)
    assert len(linears) == 2 * per_layer
    assert len({id(linear) for linear in linears.values()}) == 2 * per_layer
    assert all(model.get_submodule(name) is linear for name, linear in linears.items())
    assert model.get_output_embeddings() not in linears.values()
    stack, layers = decoder_layers(model)
    inputs = enter_stack(model, tokens)
    grouped = [
        f"{stack}.{i}.{name}"
        for i, layer in enumerate(layers)
        for group in input_groups(layer, inputs.hidden[0], inputs.calls[i][0])
        for name in group
    ]
    assert sorted(grouped) == sorted(linears)


def test_linears_that_share_an_input_are_grouped(llama: PreTrainedModel, tokens: Tensor) -> None:
    inputs = enter_stack(llama, tokens)
    groups = input_groups(decoder_layers(llama)[1][0], inputs.hidden[0], inputs.calls[0][0])
    assert groups == [
        ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        ("self_attn.o_proj",),
        ("mlp.gate_proj", "mlp.up_proj"),
        ("mlp.down_proj",),
    ]


def test_second_moment_is_that_of_the_inputs(llama: PreTrainedModel, tokens: Tensor) -> None:
    layer = decoder_layers(llama)[1][0]
    seen: list[Tensor] = []
    hook = layer.mlp.down_proj.register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    with torch.no_grad():
        llama(input_ids=tokens)
    hook.remove()
    inputs = enter_stack(llama, tokens, batch_size=2)
    moment = SecondMoment()
    replay_until(layer, inputs.hidden, inputs.calls[0], {"mlp.down_proj": moment.add})
    rows = seen[0].reshape(-1, 64).double()
    torch.testing.assert_close(moment.value().double(), rows.T @ rows / len(rows), rtol=1e-5, atol=1e-9)


def test_weights_come_back_even_after_an_error(llama: PreTrainedModel) -> None:
    before = {name: m.weight.detach().clone() for name, m in stack_linears(llama).items()}
    with pytest.raises(RuntimeError, match="midway"), restoring_weights(llama):
        for linear in stack_linears(llama).values():
            nn.init.zeros_(linear.weight)
        raise RuntimeError("midway")
    assert all(torch.equal(m.weight, before[name]) for name, m in stack_linears(llama).items())


def test_hooks_go_when_a_layer_fails(llama: PreTrainedModel, tokens: Tensor) -> None:
    inputs = enter_stack(llama, tokens)
    layer = decoder_layers(llama)[1][0]

    def refuse(_x: Tensor) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        replay(layer, inputs.hidden, inputs.calls[0], {"mlp.up_proj": refuse})
    assert not layer.mlp.up_proj._forward_pre_hooks


def test_a_linear_that_never_runs_is_named(llama: PreTrainedModel, tokens: Tensor) -> None:
    layer = decoder_layers(llama)[1][0]
    layer.spare = nn.Linear(4, 4)
    inputs = enter_stack(llama, tokens)
    with pytest.raises(MeasureError, match="spare saw no input"):
        input_groups(layer, inputs.hidden[0], inputs.calls[0][0])
    with pytest.raises(MeasureError, match="spare was not reached"):
        replay_until(layer, inputs.hidden, inputs.calls[0], {"spare": lambda _x: None})
    with pytest.raises(MeasureError, match="no calibration token"):
        SecondMoment().value()


def test_stacks_with_other_matrices_are_refused() -> None:
    gpt2 = AutoModelForCausalLM.from_config(
        GPT2Config(vocab_size=16, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    )
    with pytest.raises(InputError, match=r"h\.0\.attn\.c_attn\.weight is a weight matrix outside a Linear"):
        stack_linears(gpt2)


def test_a_model_without_a_stack_is_refused() -> None:
    with pytest.raises(InputError, match="no list of equal layers"):
        decoder_layers(nn.Linear(2, 2))


def test_experts_inside_a_layer_are_not_mistaken_for_the_stack() -> None:
    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = nn.ModuleList(nn.Linear(8, 8) for _ in range(16))

    stack = nn.ModuleList(Layer() for _ in range(2))
    assert decoder_layers(nn.ModuleDict({"blocks": stack}))[0] == "blocks"
    single = nn.ModuleList([Layer()])  # a tie in parameters: the outer list comes first
    assert decoder_layers(nn.ModuleDict({"blocks": single}))[0] == "blocks"


def test_a_model_trained_on_one_layer_type_keeps_its_modes(tokens: Tensor) -> None:
    config = LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, pad_token_id=0
    )
    model = AutoModelForCausalLM.from_config(config)
    model.train()
    model.model.norm.eval()
    enter_stack(model, tokens)
    assert model.model.layers[0].training
    assert not model.model.norm.training
