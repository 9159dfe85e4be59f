"""A small GPT-NeoX, the shipped tokenizer, and a plan to change."""

import os
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # subprocesses too: sums must not depend on how work was split
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch
from transformers import AutoTokenizer, GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerBase

from measure.decoders import calibration, decoder, llama, loss, one_thread, tokens, trained, trained_weights
from qidbayes.measure import Plan, load_plan
from qidbayes.measure.inputs.checkpoint import count_parameters
from qidbayes.resources import shipped

__all__ = ["calibration", "decoder", "llama", "loss", "one_thread", "tokens", "trained", "trained_weights"]

TINY = shipped("measurements") / "tiny"
torch.set_num_threads(1)

PLAN = """
suite = "test"
dtype = "float32"
seed = 3

[revisions]
name = "step{{step}}"
steps = [100, 200, 400]
tokens_per_step = 2_000

[[models]]
name = "small"
path = "models/{{revision}}"
tokenizer = "{tokenizer}"
n_params = {n_params}
learning_rate = 1e-3

[[quantizations]]
method = "rtn"
bits = [3, 4]
group_size = "channel"

[[quantizations]]
method = "gptq"
bits = 3
group_size = 16

[calibration]
dataset = {{ name = "calibration", path = "{calibration}" }}
windows = 8
seq_len = 32

[evaluation]
datasets = [{{ name = "held-out", path = "{evaluation}" }}]
seq_len = 32
tokens = 1_024
"""


def small_model(seed: int = 0) -> GPTNeoXForCausalLM:
    """A random GPT-NeoX whose weights are large enough for quantization to show."""
    torch.manual_seed(seed)
    config = GPTNeoXConfig(
        vocab_size=512, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, initializer_range=0.2,
    )  # fmt: skip
    return GPTNeoXForCausalLM(config).eval()


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(TINY / "tokenizer")


@pytest.fixture
def plan_file(tmp_path: Path) -> Path:
    """A plan over three saved random models, in a folder of its own."""
    for seed, step in enumerate((100, 200, 400)):
        small_model(seed).save_pretrained(tmp_path / "models" / f"step{step}")
    return write_plan(tmp_path)


def write_plan(folder: Path, change: Callable[[str], str] = lambda text: text) -> Path:
    """Write `plan.toml`, changed, into a folder."""
    text = PLAN.format(
        tokenizer=TINY / "tokenizer",
        n_params=count_parameters(small_model()),
        calibration=TINY / "calibration.txt",
        evaluation=TINY / "evaluation.txt",
    )
    changed = change(text)
    path = folder / "plan.toml"
    path.write_text(changed)
    return path


@pytest.fixture
def plan(plan_file: Path) -> Plan:
    return load_plan(plan_file)
