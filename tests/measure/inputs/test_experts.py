"""Experts as linears: the same model, none left out, and refusals of what is not known."""

import re

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, Llama4TextConfig

from measure.mixtures import CHOSEN, COUNT, FIRST, MIXTURES, SHAPE, SIZES, random_mixture
from qidbayes.errors import InputError
from qidbayes.measure.decoder.layers import stack_linears
from qidbayes.measure.inputs.active import active_parameters
from qidbayes.measure.inputs.checkpoint import count_parameters
from qidbayes.measure.inputs.experts import Experts, in_stages, list_experts, routers

TOKENS = torch.randint(3, 64, (4, 17), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", MIXTURES)
@torch.no_grad()
def test_the_model_stays_the_same_and_no_weight_is_copied(name: str) -> None:
    model = random_mixture(name)
    before, n_params, active = model(input_ids=TOKENS).logits, count_parameters(model), active_parameters(model)
    storages = {p.untyped_storage().data_ptr() for p in model.parameters()}
    list_experts(model)
    after = model(input_ids=TOKENS).logits
    if name == "gpt_oss":  # its biases are added within the product here, and after it there
        torch.testing.assert_close(after, before, rtol=0, atol=1e-6)
    else:
        assert torch.equal(after, before)
    assert {p.untyped_storage().data_ptr() for p in model.parameters()} == storages
    assert (count_parameters(model), active_parameters(model)) == (n_params, active)


@pytest.mark.parametrize("implementation", ["eager", "batched_mm"])
@pytest.mark.parametrize("name", ["qwen3_moe", "gpt_oss"])
@torch.no_grad()
def test_the_other_ways_of_transformers_give_the_same(name: str, implementation: str) -> None:
    model = random_mixture(name)
    model.set_experts_implementation(implementation)
    before = model(input_ids=TOKENS).logits
    list_experts(model)
    torch.testing.assert_close(model(input_ids=TOKENS).logits, before, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", MIXTURES)
def test_every_matrix_but_routers_is_a_linear(name: str) -> None:
    model, sizes = random_mixture(name), SIZES[name]
    layers = model.get_submodule("model.layers")
    in_stack = sum(p.numel() for p in layers.parameters() if p.dim() > 1)
    biases = sum(p.numel() for n, p in layers.named_parameters() if n.endswith("_proj_bias"))  # of gpt-oss's experts
    list_experts(model)
    linears = stack_linears(model)
    in_routers = (2 - sizes[FIRST]) * sizes[COUNT] * SHAPE["hidden_size"]
    assert sum(linear.weight.numel() for linear in linears.values()) == in_stack - biases - in_routers
    experts = [linear for linear in linears if ".experts." in linear]
    assert len(experts) == 2 * sizes[COUNT] * (2 - sizes[FIRST])
    assert not any(name.endswith(("gate", "router")) for name in linears)
    assert ("model.layers.1.mlp.shared_experts.up_proj" in linears) == (name == "deepseek_v3")
    assert len(routers(layers)) == 2 - sizes[FIRST]


def test_a_shared_experts_own_gate_is_a_router() -> None:
    config = {**SHAPE, "num_experts": 4, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 24}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("qwen2_moe", **config))
    list_experts(model)
    linears = stack_linears(model)
    assert "model.layers.0.mlp.shared_expert.gate_proj" in linears
    assert "model.layers.0.mlp.shared_expert_gate" not in linears


@pytest.mark.parametrize("name", MIXTURES)
def test_active_parameters_by_hand(name: str) -> None:
    model, sizes = random_mixture(name), SIZES[name]
    inner = 16 if name in ("qwen3_moe", "olmoe", "deepseek_v3") else 48
    expert = 3 * 32 * inner + (2 * inner + 32 if name == "gpt_oss" else 0)
    idle = (2 - sizes[FIRST]) * (sizes[COUNT] - sizes[CHOSEN]) * expert
    assert active_parameters(model) == count_parameters(model) - idle


def test_experts_of_one_list_are_one_stage() -> None:
    experts = [(f"mlp.experts.{part}.{e}",) for part in ("gate_up_proj", "down_proj") for e in range(4)]
    groups = [("self_attn.q_proj", "self_attn.k_proj"), ("self_attn.o_proj",), *experts]
    model = random_mixture("mixtral")
    list_experts(model)
    layer = model.get_submodule("model.layers.0")
    assert in_stages(layer, groups) == [[groups[0]], [groups[1]], experts[:4], experts[4:]]
    assert in_stages(layer, groups, most=3) == [[groups[0]], [groups[1]], experts[:3], experts[3:4], experts[4:7],
                                                experts[7:]]  # fmt: skip


def test_each_linear_is_called_without_tokens_too() -> None:
    model = random_mixture("qwen3_moe")
    list_experts(model)
    calls: list[int] = []
    experts = model.get_submodule("model.layers.0.mlp.experts")
    assert isinstance(experts, Experts)
    for linear in experts.modules():
        if isinstance(linear, nn.Linear):
            linear.register_forward_pre_hook(lambda _m, args: calls.append(len(args[0])))
    with torch.no_grad():
        model(input_ids=TOKENS[:1, :1])
    assert calls == calls[:8] * 2
    assert sorted(calls[:8]) == [0, 0, 0, 0, 0, 1, 1, 1]


def test_experts_that_are_in_one_tensor_are_refused_with_what_to_do() -> None:
    said = "mlp.experts.gate_up_proj of MixtralExperts is a weight matrix outside a Linear"
    with pytest.raises(InputError, match=f"{re.escape(said)}.*list_experts"):
        stack_linears(random_mixture("mixtral"))


def test_experts_of_another_interface_are_refused_by_name() -> None:
    config = Llama4TextConfig(**SHAPE, head_dim=8, intermediate_size_mlp=64, num_local_experts=4)
    model = AutoModelForCausalLM.from_config(config)
    list_experts(model)
    with pytest.raises(InputError, match=r"feed_forward\.experts\.gate_up_proj of Llama4TextExperts .*Mixtral, Qwen"):
        stack_linears(model)
