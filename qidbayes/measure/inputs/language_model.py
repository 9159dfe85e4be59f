"""Find the language model in a model: all of it, but for multimodal ones."""

from typing import Any

from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)


def auto_class(config: PreTrainedConfig) -> Any:
    """Return the class of transformers that makes a model of this configuration and reads text with it."""
    known = config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    multimodal = config.model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    return AutoModelForImageTextToText if multimodal and not known else AutoModelForCausalLM


def language_model(model: nn.Module) -> nn.Module:
    """Return the part of a multimodal model that reads text; of any other model, all of it.

    Examples
    --------
    >>> from transformers import LlamaConfig
    >>> llama = AutoModelForCausalLM.from_config(LlamaConfig(
    ...     vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2))
    >>> language_model(llama) is llama
    True
    """
    if not isinstance(model, PreTrainedModel) or model.config.get_text_config(decoder=True) is model.config:
        return model
    decoder: nn.Module = model.get_decoder()  # type: ignore[no-untyped-call]
    return decoder


def ends(model: nn.Module) -> list[nn.Module]:
    """Return the token embedding and the output head, as far as the model has them."""
    if not isinstance(model, PreTrainedModel):
        return []
    found = (model.get_input_embeddings(), model.get_output_embeddings())  # type: ignore[no-untyped-call]
    return [end for end in found if end is not None]
