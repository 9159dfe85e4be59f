"""Decoders of transformers with tiny configurations, from their files to their losses.

Each is held against transformers' own forward pass and against rounding to nearest as it is written down here.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from measure.mixtures import MIXTURES
from qidbayes.errors import InputError
from qidbayes.measure.inputs.checkpoint import count_parameters, load_model
from qidbayes.measure.inputs.language_model import auto_class
from qidbayes.measure.plan.plan import Checkpoint, Source
from qidbayes.measure.quantize import RTN
from qidbayes.measure.run.sweep import sweep

TOKENS = {"vocab_size": 64, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
SHAPE = {**TOKENS, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
SHAPE |= {"max_position_embeddings": 64}
GROUPED = {**SHAPE, "num_key_value_heads": 2}
HEADS = {**GROUPED, "head_dim": 8}
SLIDING = {**HEADS, "sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}
GPT = {**TOKENS, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 64, "n_positions": 64}
VISION = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4}
VISION |= {"image_size": 16, "patch_size": 8}

# By model type; what follows a colon tells variants apart.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "apertus": GROUPED,
    "arcee": GROUPED,
    "biogpt": SHAPE,
    "bitnet": GROUPED,
    "bloom": {**TOKENS, "hidden_size": 32, "n_layer": 2, "n_head": 4},
    "codegen": {**GPT, "rotary_dim": 4},
    "cohere": GROUPED,
    "cohere2": SLIDING,
    "diffllama": GROUPED,
    "ernie4_5": GROUPED,
    "exaone4": SLIDING,
    "falcon": SHAPE,
    "falcon:new": {**SHAPE, "new_decoder_architecture": True, "num_kv_heads": 2},
    "gemma": HEADS,
    "gemma2": SLIDING,
    "gemma3": {"text_config": SLIDING, "vision_config": VISION},
    "gemma3_text": SLIDING,
    "glm": HEADS,
    "glm4": HEADS,
    "gpt_bigcode": GPT,
    "gpt_neo": {**TOKENS, "hidden_size": 32, "num_layers": 2, "num_heads": 4, "intermediate_size": 64,
                "attention_types": [[["global", "local"], 1]], "window_size": 4},
    "gpt_neox": SHAPE,
    "gpt_neox:sequential": {**SHAPE, "use_parallel_residual": False},
    "gpt_neox_japanese": {**SHAPE, "intermediate_multiple_size": 2},
    "gptj": {**GPT, "rotary_dim": 4},
    "granite": GROUPED,
    "helium": HEADS,
    "hunyuan_v1_dense": HEADS,
    "idefics3": {"text_config": {"model_type": "llama", **GROUPED}, "vision_config": VISION},
    "llama": GROUPED,
    "llama:biases": {**GROUPED, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
    "llava": {"text_config": {"model_type": "llama", **GROUPED},
              "vision_config": {"model_type": "clip_vision_model", **VISION}},
    "mistral": {**GROUPED, "sliding_window": 4},
    "ministral": SLIDING,
    "modernbert-decoder": SLIDING,
    "mpt": {**TOKENS, "d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 64},
    "nanochat": GROUPED,
    "nemotron": GROUPED,
    "olmo": GROUPED,
    "olmo2": GROUPED,
    "olmo3": SLIDING,
    "opt": {**TOKENS, "hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
            "word_embed_proj_dim": 16},
    "persimmon": SHAPE,
    "phi": SHAPE,
    "phi3": GROUPED,
    "qwen2": GROUPED,
    "qwen2_5_vl": {"text_config": {**GROUPED, "rope_scaling": {"type": "mrope", "mrope_section": [2, 1, 1]}},
                   "vision_config": {"depth": 3, "hidden_size": 64, "intermediate_size": 128, "num_heads": 4,
                                     "out_hidden_size": 32, "patch_size": 8}},
    "qwen3": HEADS,
    "seed_oss": HEADS,
    "smollm3": GROUPED,
    "stablelm": GROUPED,
    "starcoder2": GROUPED,
    "vaultgemma": SLIDING,
    "xglm": {**TOKENS, "d_model": 32, "ffn_dim": 64, "num_layers": 2, "attention_heads": 4},
    **MIXTURES,
    "aria_text": {**HEADS, "moe_num_experts": 4, "moe_topk": 2, "moe_num_shared_experts": 1},
    "deepseek_v2": {**MIXTURES["deepseek_v3"]},
    "ernie4_5_moe": {**GROUPED, "moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 16},
    "glm4_moe": {**HEADS, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    "granitemoe": {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2},
    "minimax_m2": {**HEADS, "rotary_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2},
    "phimoe": {**GROUPED, "num_local_experts": 4},
    "qwen2_moe": {**GROUPED, "num_experts": 4, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 32},
}  # fmt: skip
TRANSPOSED = ("gpt_oss", "aria_text")  # mixtures that keep `[experts, in, out]`


def config_of(name: str) -> PreTrainedConfig:
    settings = ARCHITECTURES.get(name) or REFUSED[name][0]
    return AutoConfig.for_model(name.partition(":")[0], **settings)


def random_model(name: str) -> PreTrainedModel:
    """A model whose weights are large enough for three bits to show, biases included."""
    torch.manual_seed(0)
    config = config_of(name)
    model = auto_class(config).from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.1)
    return model


@torch.no_grad()
def plain_losses(model: PreTrainedModel, windows: Tensor) -> Tensor:
    """Each window's mean loss from transformers' forward pass and the definition of cross-entropy."""
    probabilities = model(input_ids=windows[:, :-1], use_cache=False).logits.double().softmax(-1)
    return -probabilities.gather(-1, windows[:, 1:, None])[..., 0].log().mean(1)


def rounded(weight: Tensor, bits: int, group: int) -> Tensor:
    """Round to nearest on symmetric grids."""
    rows = weight.reshape(-1, group)
    step = 2 * rows.abs().amax(1, keepdim=True) / (2**bits - 1)
    return ((rows / step).round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * step).reshape(weight.shape)


def linears_of_layers(model: nn.Module) -> list[nn.Linear]:
    """By their names: what is numbered, does not look at images and does not choose experts."""
    named = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    left = re.compile(r"vis|\.(gate|router|shared_expert_gate)$")
    return [module for name, module in named.items() if re.search(r"\.\d+\.", name) and not left.search(name)]


def round_experts(model: nn.Module, transposed: bool) -> None:
    """Every expert of every layer, one after another."""
    for name, parameter in model.named_parameters():
        if re.search(r"\.experts\.\w+$", name) and parameter.dim() == 3:
            for expert in parameter:
                weight = expert.T if transposed else expert
                weight.copy_(rounded(weight.contiguous(), 3, 16))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_losses_before_and_after_rounding(name: str, tmp_path: Path) -> None:
    model = random_model(name)
    model.save_pretrained(tmp_path)
    checkpoint = Checkpoint(name, Source(name), "main", count_parameters(model), 1_000_000, None, None)
    loaded = load_model(tmp_path, checkpoint, "float32", torch.device("cpu"))
    windows = torch.randint(3, 64, (3, 17), generator=torch.Generator().manual_seed(1))
    found = sweep(loaded, [RTN(3, 16)], windows, [windows], torch.device("cpu"))
    torch.testing.assert_close(found.baseline[0], plain_losses(model, windows), rtol=1e-5, atol=0)
    with torch.no_grad():
        for linear in linears_of_layers(model):
            linear.weight.copy_(rounded(linear.weight, 3, 16))
        round_experts(model, name in TRANSPOSED)
    after = plain_losses(model, windows)
    assert (after - found.baseline[0]).abs().max() > 1e-3
    torch.testing.assert_close(found.variants[0].losses[0], after, rtol=1e-5, atol=0)


# What is refused, and the words that must be in the refusal.
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "gpt2": (GPT, "h.0.attn.c_attn.weight of Conv1D is a weight matrix outside a Linear"),
    "llama4_text": ({**HEADS, "num_local_experts": 2, "intermediate_size_mlp": 64}, "of Llama4TextExperts is a weight"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_linears_alone_is_refused(name: str) -> None:
    windows = torch.randint(3, 64, (3, 17))
    with pytest.raises(InputError, match=re.escape(REFUSED[name][1])):
        sweep(random_model(name), [RTN(3, 16)], windows, [windows], torch.device("cpu"))
