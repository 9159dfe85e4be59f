"""Tiny mixtures of experts with random weights, and what their experts do, written down apart from the package."""

from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

SHAPE = {"vocab_size": 64, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2, "hidden_size": 32}
SHAPE |= {"intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
SHAPE |= {"max_position_embeddings": 64}
LATENT = {"kv_lora_rank": 16, "q_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8}

MIXTURES: dict[str, dict[str, Any]] = {
    "mixtral": {**SHAPE, "num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen3_moe": {**SHAPE, "head_dim": 8, "num_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 16,
                  "norm_topk_prob": True},
    "olmoe": {**SHAPE, "num_experts": 8, "num_experts_per_tok": 3, "intermediate_size": 16},
    "gpt_oss": {**SHAPE, "head_dim": 8, "num_local_experts": 6, "num_experts_per_tok": 2, "sliding_window": 8},
    "deepseek_v3": {**SHAPE, **LATENT, "num_key_value_heads": 4, "moe_intermediate_size": 16, "n_routed_experts": 8,
                    "num_experts_per_tok": 3, "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1,
                    "n_shared_experts": 1},
}  # fmt: skip
"""By model type."""

FIRST, COUNT, CHOSEN = "first", "count", "chosen"
SIZES = {  # the first layer with experts, how many it has, and how many a token sees
    "mixtral": {FIRST: 0, COUNT: 4, CHOSEN: 2},
    "qwen3_moe": {FIRST: 0, COUNT: 8, CHOSEN: 3},
    "olmoe": {FIRST: 0, COUNT: 8, CHOSEN: 3},
    "gpt_oss": {FIRST: 0, COUNT: 6, CHOSEN: 2},
    "deepseek_v3": {FIRST: 1, COUNT: 8, CHOSEN: 3},
}

UNSEEN = 3
"""The expert that `random_mixture` gives no token, where a router has a bias that can say so."""


def random_mixture(name: str, unseen: bool = False) -> PreTrainedModel:
    """A model as transformers makes it, with weights large enough for three bits to show, biases included."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **MIXTURES[name]), dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.1)
        for module in model.modules():
            if unseen and name == "gpt_oss" and hasattr(module, "top_k"):
                module.bias[UNSEEN] = -1e4
            if unseen and name == "deepseek_v3" and hasattr(module, "e_score_correction_bias"):
                module.e_score_correction_bias[UNSEEN] = -1e4
    return model


def experts_of(model: PreTrainedModel, layer: int) -> nn.Module:
    """A layer's experts."""
    return model.get_submodule(f"model.layers.{layer}.mlp.experts")


def matrices(name: str, model: PreTrainedModel, layer: int) -> tuple[np.ndarray, np.ndarray]:
    """The fused matrices of a layer, `[experts, out, in]`: the first ones and the second ones."""
    experts = experts_of(model, layer)
    both = [getattr(experts, part).detach().double().numpy().copy() for part in ("gate_up_proj", "down_proj")]
    first, second = (x.transpose(0, 2, 1) for x in both) if name == "gpt_oss" else both
    return first, second


def between(name: str, model: PreTrainedModel, layer: int, expert: int, inner: np.ndarray) -> np.ndarray:
    """What goes into an expert's second matrix, given its first one's products."""
    if name != "gpt_oss":
        gate, up = np.split(inner, 2, axis=1)
        return gate / (1 + np.exp(-gate)) * up
    experts = experts_of(model, layer)
    linears = experts.get_submodule("gate_up_proj")
    assert isinstance(linears, nn.ModuleList)
    inner = inner + linears[expert].bias.detach().double().numpy()
    gate, up = np.minimum(inner[:, ::2], 7.0), np.clip(inner[:, 1::2], -7.0, 7.0)
    return (up + 1) * gate / (1 + np.exp(-1.702 * gate))


def seen_by_each(model: PreTrainedModel, layer: int, tokens: torch.Tensor, count: int) -> list[np.ndarray]:
    """Each expert's inputs in one pass of the whole model, `[tokens, width]`."""
    seen: list[tuple[Any, ...]] = []
    hook = experts_of(model, layer).register_forward_pre_hook(lambda _m, args: seen.append(args))
    with torch.no_grad():
        model(input_ids=tokens, use_cache=False)
    hook.remove()
    hidden, chosen = (x.double().numpy() for x in seen[0][:2])
    return [hidden[(chosen == expert).any(1)] for expert in range(count)]
