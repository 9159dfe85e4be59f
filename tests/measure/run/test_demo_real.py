"""`make demo-real` but for its download, its hour of measuring and its fit: the plan, and the requantized file."""

import importlib.util
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from transformers import AutoModelForCausalLM, LlamaConfig

from measure.prequantized.ggufs import write_gguf
from qidbayes.measure import load_plan
from qidbayes.measure.prequantized import read_prequantized

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
_SPEC = importlib.util.spec_from_file_location("real", BENCHMARKS / "real.py")
assert _SPEC is not None and _SPEC.loader is not None
real = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(real)


def test_the_plan_has_the_rows_that_the_law_is_given() -> None:
    plan = load_plan(BENCHMARKS / "real.toml")
    asked = [(q.name, q.bits) for q in plan.quantizations]
    assert set(real.KNOWN) < set(asked)
    assert {("gguf", 4.5, None, "Q4_0"), ("gguf", 8.5, None, "Q8_0")} < {q.cell for q in plan.quantizations}


def test_a_requantized_file_is_the_file_rounded_again(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40, hidden_size=64, intermediate_size=96, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    kind = {True: Type.Q8_0, False: Type.Q4_1}
    first = write_gguf(tmp_path / "first.gguf", model, lambda name: kind["embed" in name or "lm_head" in name])
    real.requantize(first, tmp_path / "again.gguf", "Q4_0")
    before, after = (read_prequantized(path, torch.float32) for path in (first, tmp_path / "again.gguf"))
    assert {one.grid.type for one in after.matrices.values()} == {"Q4_0"}
    assert {one.grid.type for one in after.ends.values()} == {"Q8_0"}
    for name, weight in before.weights.items():
        rounded = weight.numpy()
        if name.removesuffix(".weight") in after.matrices:
            rounded = gguf.dequantize(gguf.quantize(rounded, Type.Q4_0), Type.Q4_0)  # rows in any order round alike
        assert np.array_equal(after.weights[name].numpy(), rounded), name
    fields = [gguf.GGUFReader(path).fields for path in (first, tmp_path / "again.gguf")]
    assert {name: field.contents() for name, field in fields[0].items()} == {
        name: field.contents() for name, field in fields[1].items()
    }
