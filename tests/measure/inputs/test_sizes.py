"""What a config.json says of a model's size, held against sums by hand."""

import json
from pathlib import Path

import pytest
import torch
from transformers import DeepseekV3Config, GPTNeoXConfig, MixtralConfig

from qidbayes.errors import InputError
from qidbayes.measure.inputs.sizes import size_of
from qidbayes.resources import shipped


def test_a_dense_model_is_counted_as_its_plan_has_it() -> None:
    size = size_of(shipped("measurements") / "tiny" / "checkpoints" / "128x3" / "step1024")
    assert (size.n_params, size.active, size.embeddings) == (595_072, 595_072, 512 * 128)


def test_of_experts_a_token_uses_the_chosen_ones(tmp_path: Path) -> None:
    width, inner, layers, experts, chosen = 32, 48, 3, 8, 2
    MixtralConfig(
        vocab_size=100, hidden_size=width, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, num_local_experts=experts, num_experts_per_tok=chosen,
    ).save_pretrained(tmp_path)  # fmt: skip
    expert = 3 * width * inner
    attention = 2 * width * width + 2 * width * width // 2
    outside = layers * (attention + width * experts + 2 * width) + width
    size = size_of(tmp_path / "config.json")
    assert size.n_params == outside + layers * experts * expert
    assert size.active == outside + layers * chosen * expert
    assert size.embeddings == 2 * 100 * width and size.tokens is None


def test_shared_experts_are_used_by_every_token(tmp_path: Path) -> None:
    config = DeepseekV3Config(num_hidden_layers=4)
    config.save_pretrained(tmp_path)
    size = size_of(tmp_path)
    routed = (4 - config.first_k_dense_replace) * 3 * config.hidden_size * config.moe_intermediate_size
    assert size.active is not None
    assert size.n_params - size.active == routed * (config.n_routed_experts - config.num_experts_per_tok)


def test_a_quantized_model_has_the_size_of_the_original(tmp_path: Path) -> None:
    config = GPTNeoXConfig(
        vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    config.save_pretrained(tmp_path)
    plain = size_of(tmp_path).n_params
    document = json.loads((tmp_path / "config.json").read_text())
    document["quantization_config"] = {"quant_method": "gptq", "bits": 4, "group_size": 32}
    (tmp_path / "config.json").write_text(json.dumps(document))
    assert size_of(tmp_path).n_params == plain == 4 * 16 * 16 + 4 * 16 + 2 * 16 * 32 + 32 + 16 + 6 * 16


@pytest.mark.parametrize(
    ("card", "tokens"),
    [
        ("It was pre-trained on 2 trillion tokens.", 2e12),
        ("Trained on 300B tokens of the Pile, then finetuned on 1.5B tokens.", 3e11),
        ("The context has 8B tokens.", None),
        ("Training data: a dataset of 15T publicly available tokens", 15e12),
    ],
)
def test_tokens_are_those_that_a_card_says(tmp_path: Path, card: str, tokens: float | None) -> None:
    GPTNeoXConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32).save_pretrained(
        tmp_path
    )
    (tmp_path / "README.md").write_text(card)
    size = size_of(tmp_path)
    assert size.tokens == tokens
    assert (size.said is None) == (tokens is None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a config.json"),
        ("[]", "must hold an object"),
        ("{}", "cannot be used"),
        ('{"model_type": "gpt_neox", "num_hidden_layers": 100000000}', "100,000,000 layers"),
        ('{"model_type": "mixtral", "num_hidden_layers": 2000, "num_local_experts": 4000}', "of 4,000 experts"),
        ('{"model_type": "gpt_neox", "vocab_size": 1000000000000000000}', "vocab_size = .*; no model is that large"),
        ('{"model_type": "gpt_neox", "num_hidden_layers": NaN}', "num_hidden_layers = nan; no model is that large"),
        ('{"model_type": "gpt_neox", "hidden_size": -3}', "describes no model|cannot be used"),
        ('{"model_type": "vit"}', "describes no model"),
    ],
)
def test_a_configuration_of_no_model_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=message):
        size_of(tmp_path)


def test_no_weight_is_made(tmp_path: Path) -> None:
    """A model of 671 billion parameters, on the meta device."""
    DeepseekV3Config().save_pretrained(tmp_path)
    before = torch.get_default_device()
    size = size_of(tmp_path)
    assert size.n_params + size.embeddings == pytest.approx(671e9, rel=1e-3), "as its authors say"
    assert torch.get_default_device() == before


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file; give a model's config"):
        size_of(tmp_path)
