"""N against Pythia's published counts, and models that must not be measured."""

import json
import os
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Gemma3Config, GPTNeoXConfig, LlamaConfig

from measure.conftest import small_model
from qidbayes.errors import InputError
from qidbayes.measure.errors import MeasureError
from qidbayes.measure.inputs.checkpoint import count_parameters, load_model, pin, safetensors_among
from qidbayes.measure.inputs.windows import text_identity
from qidbayes.measure.plan.plan import Checkpoint, Source, TextSet

# Width, layers, heads, padded vocabulary, and the non-embedding parameters that Pythia's authors publish.
PYTHIA = {
    "160m": (768, 12, 12, 50304, 85_056_000),
    "410m": (1024, 24, 16, 50304, 302_311_424),
    "1b": (2048, 16, 8, 50304, 805_736_448),
    "1.4b": (2048, 24, 16, 50304, 1_208_602_624),
    "2.8b": (2560, 32, 32, 50304, 2_517_652_480),
    "6.9b": (4096, 32, 32, 50432, 6_444_163_072),
    "12b": (5120, 36, 40, 50688, 11_327_027_200),
}


@pytest.mark.parametrize("size", PYTHIA)
def test_pythias_parameters(size: str) -> None:
    width, layers, heads, vocabulary, published = PYTHIA[size]
    config = GPTNeoXConfig(
        vocab_size=vocabulary, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=4 * width,
    )  # fmt: skip
    with torch.device("meta"):
        assert count_parameters(AutoModelForCausalLM.from_config(config)) == published


def _checkpoint(n_params: int) -> Checkpoint:
    return Checkpoint("small", Source("small"), "main", n_params, 1_000_000, None, None)


def test_another_number_of_parameters_is_refused(tmp_path: Path) -> None:
    model = small_model()
    model.save_pretrained(tmp_path)
    found = count_parameters(model)
    with pytest.raises(InputError, match=f"n_params = 5,000 in the plan; give n_params = {found}"):
        load_model(tmp_path, _checkpoint(5_000), "float32", torch.device("cpu"))
    loaded = load_model(tmp_path, _checkpoint(found), "float16", torch.device("cpu"))
    assert loaded.dtype == torch.float16


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_without_a_dtype_the_configs_is_taken_and_else_the_files(dtype: torch.dtype, tmp_path: Path) -> None:
    model = small_model().to(dtype)
    model.save_pretrained(tmp_path)
    checkpoint = _checkpoint(count_parameters(model))
    assert load_model(tmp_path, checkpoint, None, torch.device("cpu")).dtype == dtype
    said = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({key: said[key] for key in said if "dtype" not in key}))
    assert load_model(tmp_path, checkpoint, None, torch.device("cpu")).dtype == dtype
    assert load_model(tmp_path, checkpoint, "float32", torch.device("cpu")).dtype == torch.float32


def test_files_that_leave_weights_unset_are_refused(tmp_path: Path) -> None:
    model = small_model()
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["gpt_neox.layers.1.mlp.dense_4h_to_h.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(MeasureError, match=r"leave 1 weights unset, gpt_neox\.layers\.1\.mlp\.dense_4h_to_h\.weight"):
        load_model(tmp_path, _checkpoint(count_parameters(model)), "float32", torch.device("cpu"))


def _add(folder: Path, extra: dict[str, torch.Tensor]) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file(weights | extra, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    "extra",
    [
        {"gpt_neox.layers.1.attention.dense.other.bias": torch.ones(32)},
        {"gpt_neox.layers.2.mlp.dense_h_to_4h.weight": torch.full((64, 32), 0.1)},  # of a deeper model
        {"gpt_neox.layers.0.attention.q_norm.weight": torch.tensor([0.0] * 31 + [1e-6])},
        {"score.weight": torch.eye(3).half()},
    ],
)
def test_weights_that_the_model_does_not_use_are_refused(tmp_path: Path, extra: dict[str, torch.Tensor]) -> None:
    model = small_model()
    model.save_pretrained(tmp_path)
    zeros = {"gpt_neox.layers.0.attention.zeros.bias": torch.zeros(32)}
    _add(tmp_path, extra | zeros)
    (name,) = extra
    with pytest.raises(MeasureError, match=rf"does not use {re.escape(name)}, which is not all zero \(1 such"):
        load_model(tmp_path, _checkpoint(count_parameters(model)), "float32", torch.device("cpu"))


def test_biases_that_config_does_not_declare_are_refused(tmp_path: Path) -> None:
    """The files of a Llama with biases, the config of one without: another model, whose loss is another."""
    shape = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    torch.manual_seed(0)
    with_biases = AutoModelForCausalLM.from_config(
        LlamaConfig(**shape, num_attention_heads=4, attention_bias=True, mlp_bias=True)
    )
    with torch.no_grad():
        for name, parameter in with_biases.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    with_biases.save_pretrained(tmp_path)
    loaded = load_model(tmp_path, _checkpoint(count_parameters(with_biases)), "float32", torch.device("cpu"))
    ids = torch.arange(16)[None]
    with torch.no_grad():
        assert torch.equal(loaded(input_ids=ids).logits, with_biases.eval()(input_ids=ids).logits)
    config = json.loads((tmp_path / "config.json").read_text()) | {"attention_bias": False, "mlp_bias": False}
    (tmp_path / "config.json").write_text(json.dumps(config))
    # Seven linears in each of two layers.
    with pytest.raises(MeasureError, match=r"does not use model\.layers\.0\.mlp\.down_proj\.bias.*\(14 such tensors\)"):
        load_model(tmp_path, _checkpoint(0), "float32", torch.device("cpu"))


def test_what_old_files_keep_beside_the_weights_is_no_matter(tmp_path: Path) -> None:
    model = small_model()
    model.save_pretrained(tmp_path)
    kept = {}
    for layer in range(2):
        attention = f"gpt_neox.layers.{layer}.attention"
        kept[f"{attention}.bias"] = torch.ones(1, 1, 64, 64).tril().bool()
        kept[f"{attention}.masked_bias"] = torch.tensor(-1e9)
        kept[f"{attention}.rotary_emb.inv_freq"] = 10_000 ** -torch.arange(0, 1, 0.5)
    _add(tmp_path, kept | {"gpt_neox.layers.0.attention.dense.extra_bias": torch.zeros(32)})
    loaded = load_model(tmp_path, _checkpoint(count_parameters(model)), "float32", torch.device("cpu"))
    ids = torch.arange(16)[None]
    with torch.no_grad():
        assert torch.equal(loaded(input_ids=ids).logits, model(input_ids=ids).logits)


def test_of_a_multimodal_model_the_language_model_is_counted() -> None:
    """Gemma 3 4B's, by hand from its report's shape: a vision tower of 417M and its projector are left out."""
    text = {"vocab_size": 262_208, "hidden_size": 2560, "intermediate_size": 10_240, "num_hidden_layers": 34}
    text |= {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256}
    vision = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            Gemma3Config(text_config=text, vision_config=vision | {"image_size": 896, "patch_size": 14})
        )
    # Queries and outputs of 8 heads, keys and values of 4; three matrices of the MLP; four norms, two on heads.
    layer = 2560 * 256 * (2 * 8 + 2 * 4) + 3 * 2560 * 10_240 + 4 * 2560 + 2 * 256
    assert count_parameters(model) == 34 * layer + 2560


def test_a_folder_is_pinned_by_its_contents(tmp_path: Path) -> None:
    small_model(0).save_pretrained(tmp_path)
    source = Source("here", tmp_path)
    first = pin(source, "main")
    assert pin(source, "another") == first
    small_model(1).save_pretrained(tmp_path)
    assert pin(source, "main") != first


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"])
@pytest.mark.parametrize("kind", ["fifo", "device"])
def test_a_fifo_or_a_device_among_a_checkpoints_files_is_refused_unread(kind: str, name: str, tmp_path: Path) -> None:
    if kind == "fifo":
        os.mkfifo(tmp_path / name)
    else:
        (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(InputError, match=f"{tmp_path / name}: is not a plain file; remove it, or put a file in its"):
        pin(Source("here", tmp_path), "main")


def test_a_fifo_among_texts_is_refused_unread(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "one.txt")
    with pytest.raises(InputError, match=r"one\.txt: is not a plain file"):
        text_identity(TextSet("mine", path=tmp_path))


def test_pickles_are_refused() -> None:
    with pytest.raises(MeasureError, match=r"me/mine: its weights are pickled only.*only safetensors are read"):
        safetensors_among("me/mine", ["config.json", "pytorch_model-00001-of-00002.bin", "nested/model.safetensors"])
