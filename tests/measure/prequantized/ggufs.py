"""A writer of GGUF files, independent of the reader: the library's writer, and llama.cpp's order of rows."""

from collections.abc import Callable, Mapping
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from transformers import PreTrainedModel

ARCHITECTURES = {
    "llama": gguf.MODEL_ARCH.LLAMA,
    "mistral": gguf.MODEL_ARCH.LLAMA,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
}


def rows_of_llama_cpp(weight: np.ndarray, heads: int) -> np.ndarray:
    """The rows of a query or key projection as llama.cpp's rotary kernel wants them, pair beside pair.

    convert_hf_to_gguf.py does this; transformers has the first halves of all pairs before the second ones.
    """
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def write_gguf(
    path: Path,
    model: PreTrainedModel,
    type_of: Callable[[str], Type | None] = lambda _: Type.F32,
    extra: Mapping[str, np.ndarray] | None = None,
    change: Callable[[gguf.GGUFWriter], None] = lambda _: None,
    quantize: Callable[[np.ndarray, Type], np.ndarray] = gguf.quantize,
) -> Path:
    """Write a Llama, a Mistral or a Qwen; `type_of` says what each tensor is stored as, by its name in transformers."""
    config = model.config
    arch = ARCHITECTURES[config.model_type]
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[arch])
    writer.add_name("test")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    head = getattr(config, "head_dim", config.hidden_size // config.num_attention_heads)
    writer.add_rope_dimension_count(head)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_vocab_size(config.vocab_size)
    change(writer)
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        values = tensor.float().numpy()
        if "q_proj" in name and arch is gguf.MODEL_ARCH.LLAMA:
            values = rows_of_llama_cpp(values, config.num_attention_heads)
        if "k_proj" in name and arch is gguf.MODEL_ARCH.LLAMA:
            values = rows_of_llama_cpp(values, config.num_key_value_heads)
        kind = type_of(name) if values.ndim == 2 else Type.F32
        if kind is None:  # a tied head
            continue
        stored = quantize(values, kind)
        raw = None if kind in (Type.F32, Type.F16) else kind
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight", ".bias")), stored, raw_dtype=raw)
    for name, values in (extra or {}).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
