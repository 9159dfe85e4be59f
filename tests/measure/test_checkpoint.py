"""N against Pythia's published counts, and models that must not be measured."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPTNeoXConfig

from measure.conftest import small_model
from qidbayes.errors import InputError
from qidbayes.measure.checkpoint import count_parameters, load_model, pin, safetensors_among
from qidbayes.measure.data import text_identity
from qidbayes.measure.errors import MeasureError
from qidbayes.measure.plan import Checkpoint, Source, TextSet

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


def test_files_that_leave_weights_unset_are_refused(tmp_path: Path) -> None:
    model = small_model()
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["gpt_neox.layers.1.mlp.dense_4h_to_h.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(MeasureError, match=r"leave 1 weights unset, gpt_neox\.layers\.1\.mlp\.dense_4h_to_h\.weight"):
        load_model(tmp_path, _checkpoint(count_parameters(model)), "float32", torch.device("cpu"))


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
