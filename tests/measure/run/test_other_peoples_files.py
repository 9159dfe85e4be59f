"""GGUF in a run: held against its original, measured with the original's ends, and named in the row."""

import copy
from pathlib import Path

import pytest
import torch
from gguf import GGMLQuantizationType as Type
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel, PreTrainedTokenizerBase

from measure.conftest import TINY
from measure.prequantized.ggufs import write_gguf
from qidbayes.errors import InputError
from qidbayes.measure import load_plan
from qidbayes.measure.decoder.layers import stack_linears
from qidbayes.measure.inputs.checkpoint import count_parameters
from qidbayes.measure.inputs.windows import cut_windows
from qidbayes.measure.prequantized import read_prequantized
from qidbayes.measure.run.local import measure
from qidbayes.table import read_table

PLAN = """
suite = "test"
dtype = "float32"
seed = 3

[[models]]
name = "small"
path = "original"
tokenizer = "{tokenizer}"
n_params = {n_params}
tokens = 1_000_000

[[quantizations]]
method = "prequantized"
settings = "mixed"
path = "files"
file = "{{model}}-mixed.gguf"
bits = 5.5

[[quantizations]]
method = "prequantized"
settings = "me/Q4_0"
path = "files"
file = "{{model}}-eight.gguf"

[evaluation]
datasets = [{{ name = "held-out", path = "{evaluation}" }}]
seq_len = 32
tokens = 1_024
"""


def mixed(name: str) -> Type:
    return Type.Q8_0 if "lm_head" in name or "embed" in name or "down_proj" in name else Type.Q4_0


@torch.no_grad()
def losses(model: PreTrainedModel, windows: torch.Tensor) -> list[float]:
    return [float(model(input_ids=window[None], labels=window[None]).loss) for window in windows]


def test_a_gguf_file_beside_its_original(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        LlamaConfig(
            vocab_size=512, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, initializer_range=0.2, max_position_embeddings=64,
        )
    ).eval()  # fmt: skip
    model.save_pretrained(tmp_path / "original")
    (tmp_path / "files").mkdir()
    write_gguf(tmp_path / "files" / "small-mixed.gguf", model, mixed)
    write_gguf(tmp_path / "files" / "small-eight.gguf", model, lambda _: Type.Q8_0)
    (tmp_path / "plan.toml").write_text(
        PLAN.format(tokenizer=TINY / "tokenizer", n_params=count_parameters(model), evaluation=TINY / "evaluation.txt")
    )
    plan = load_plan(tmp_path / "plan.toml")
    outcome = measure(plan, tmp_path / "run")
    rows = {row["settings"]: row for row in read_table(tmp_path / "run" / "table.parquet").to_dicts()}
    (failed,) = outcome.failed
    assert "files/small-eight.gguf: stored with 8.50 bits a weight; the plan says gguf 4.5 bits, me/Q4_0" in failed

    rounded = copy.deepcopy(model)  # the stack is the file's, the embedding and the head are the original's
    weights = read_prequantized(tmp_path / "files" / "small-mixed.gguf", torch.float32).weights
    for name, linear in stack_linears(rounded).items():
        linear.weight.data.copy_(weights[f"{name}.weight"])
    windows = cut_windows(plan.evaluation.datasets[0], tokenizer, 32, 32, plan.seed).tokens
    before, after = (torch.tensor(losses(one, windows)) for one in (model, rounded))
    row = rows["mixed"]
    assert row["loss"] == pytest.approx(after.mean().item(), abs=1e-5)
    assert row["loss_16bit"] == pytest.approx(before.mean().item(), abs=1e-5)
    assert row["qid_se"] == pytest.approx((after - before).std().item() / 32**0.5, rel=1e-3)
    eight = sum(linear.weight.numel() for name, linear in stack_linears(model).items() if "down_proj" in name)
    every = sum(linear.weight.numel() for linear in stack_linears(model).values())
    assert row["bits_per_weight"] == pytest.approx((8.5 * eight + 4.5 * (every - eight)) / every)
    assert row["source"].endswith("; weights of files/small-mixed.gguf, activations not quantized")
    assert "activations" not in rows[""]["source"]


def test_only_the_name_of_a_gguf_file_is_taken(tmp_path: Path) -> None:
    text = PLAN.format(tokenizer=TINY / "tokenizer", n_params=81_920, evaluation=TINY / "evaluation.txt")
    for wrong in ("../model.gguf", "model.safetensors"):
        (tmp_path / "plan.toml").write_text(text.replace("{model}-mixed.gguf", wrong))
        with pytest.raises(InputError, match=r'file = .*give the name of a GGUF file in it, like "model-Q4_K_M.gguf"'):
            load_plan(tmp_path / "plan.toml")
