"""Runs whose texts, tokenizers and number formats differ from the usual: what was measured, or what was said."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open
from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig, PreTrainedModel, PreTrainedTokenizerBase

from measure.conftest import TINY, small_model, write_plan
from measure.inputs.test_windows import panicking_tokenizer
from measure.run.test_local import loss_by_hand
from qidbayes.cli.measure import measure as command
from qidbayes.measure import load_plan
from qidbayes.measure.inputs.checkpoint import count_parameters
from qidbayes.measure.inputs.windows import cut_windows
from qidbayes.measure.plan.plan import TextSet
from qidbayes.measure.run.local import measure
from qidbayes.measure.run.progress import Reporter
from qidbayes.table import read_table

COST = ("seconds_quantize", "seconds_evaluate", "peak_memory_gib")


def one_model(folder: Path, model: PreTrainedModel, extra: str = "", **texts: str) -> Path:
    """A plan over one saved model, without a dtype."""
    model.save_pretrained(folder / "model")
    (folder / "plan.toml").write_text(f"""
suite = "one"
{extra}
models = [{{ path = "model", tokenizer = "{TINY / "tokenizer"}", n_params = {count_parameters(model)}, tokens = "1B" }}]
quantizations = [
    {{ method = "rtn", bits = 3, group_size = 16 }},
    {{ method = "gptq", bits = 3, group_size = 16 }},
    {{ method = "awq", bits = 4, group_size = 16 }},
]
[calibration]
dataset = {{ name = "calibration", path = "{texts.get("calibration", TINY / "calibration.txt")}" }}
windows = 8
seq_len = 32
[evaluation]
datasets = [{{ name = "held-out", path = "{texts.get("evaluation", TINY / "evaluation.txt")}" }}]
seq_len = 32
tokens = 512
""")
    return folder / "plan.toml"


def small(
    config: type[LlamaConfig | Gemma2Config], dtype: torch.dtype = torch.float32, **more: float
) -> PreTrainedModel:
    torch.manual_seed(1)
    said = config(
        vocab_size=512, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, max_position_embeddings=64, **{"initializer_range": 0.1, **more},
    )  # fmt: skip
    model: PreTrainedModel = AutoModelForCausalLM.from_config(said, dtype=dtype)
    return model.eval()


def windows_of(folder: Path, name: str) -> torch.Tensor:
    (path,) = (folder / "windows").glob(f"{name}-*")
    with safe_open(path, "pt") as file:
        return file.get_tensor("tokens")


def test_lines_of_json_give_the_table_of_plain_text(tmp_path: Path) -> None:
    model = small_model()
    measure(load_plan(one_model(tmp_path, model)), tmp_path / "txt")
    places = {}
    for name in ("evaluation", "calibration"):
        documents = [text for text in (TINY / f"{name}.txt").read_text().split("\n\n") if text.strip()]
        places[name] = str(tmp_path / f"{name}.jsonl")
        Path(places[name]).write_text("\n".join(json.dumps({"id": 1, "text": text}) for text in documents))
    measure(load_plan(one_model(tmp_path, model, **places)), tmp_path / "jsonl")
    txt, jsonl = (read_table(tmp_path / run / "table.parquet").drop(COST) for run in ("txt", "jsonl"))
    assert txt.height == 4
    assert txt.equals(jsonl)


@pytest.mark.parametrize("extra, begun", [("", True), ('begin = "document"', False)])
def test_windows_of_a_model_like_gemma_begin_with_the_token(
    extra: str, begun: bool, tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    model = small(Gemma2Config)
    text = (TINY / "evaluation.txt").read_text()[:5_000].replace("\n\n", "\n").strip()  # one document
    (tmp_path / "one.txt").write_text(text)
    outcome = measure(load_plan(one_model(tmp_path, model, extra, evaluation="one.txt")), tmp_path / "run")
    assert outcome.failed == ()
    for name in ("held-out", "calibration"):
        assert bool((windows_of(tmp_path / "run", name)[:, 0] == 0).all()) == begun
    ids = tokenizer(text)["input_ids"]
    before = [0] * 16 if begun else [0, *ids[31:511:32]]  # the token that each window's first is predicted from
    windows = [[first, *ids[start : start + 32]] for first, start in zip(before, range(0, 512, 32), strict=True)]
    (row,) = read_table(tmp_path / "run" / "table.parquet").filter(method="none").to_dicts()
    assert row["loss_16bit"] == pytest.approx(sum(loss_by_hand(model, torch.tensor(windows))) / 16, abs=1e-5)
    assert row["n_eval_tokens"] == 512


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_plan_without_a_dtype_takes_the_configs(
    dtype: torch.dtype, tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    model = small(LlamaConfig, dtype, initializer_range=0.5)
    measure(load_plan(one_model(tmp_path, model)), tmp_path / "run")
    windows = cut_windows(TextSet("held-out", path=TINY / "evaluation.txt"), tokenizer, 32, 16, 0).tokens
    (row,) = read_table(tmp_path / "run" / "table.parquet").filter(method="none").to_dicts()
    off = {}  # weights that are bfloat16s are float32s too: only the arithmetic differs
    for kind in (torch.float32, torch.bfloat16):
        again = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=kind)
        with torch.no_grad():  # all windows at once: half-precision sums depend on how they are cut
            plain = float(
                again(input_ids=windows[:, :-1]).logits.double().log_softmax(-1).gather(2, windows[:, 1:, None]).mean()
            )
        off[kind] = abs(row["loss_16bit"] + plain)
    other = torch.float32 if dtype == torch.bfloat16 else torch.bfloat16
    assert off[dtype] < off[other] / 10


def test_an_overflow_in_float16_names_the_remedy(tmp_path: Path) -> None:
    model = small(LlamaConfig)
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight[5] *= 1e6
        model.model.layers[0].mlp.up_proj.weight *= 1e3
    plan = one_model(tmp_path, model, 'dtype = "float16"')
    failed = measure(load_plan(plan), tmp_path / "run").failed
    assert len(failed) == 4
    assert all('float16 ends at 65,504: give dtype = "bfloat16" or "float32" in the plan' in line for line in failed)
    plan.write_text(plan.read_text().replace('"float16"', '"bfloat16"'))
    assert measure(load_plan(plan), tmp_path / "run").failed == ()


def test_a_text_that_cannot_be_read_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    for which in ("evaluation", "calibration"):
        latin = tmp_path / f"{which}.txt"
        latin.write_bytes(("A long text. " * 100 + "café").encode("latin-1"))
        plan = one_model(tmp_path, small_model(), **{which: str(latin)})
        done = CliRunner().invoke(command, [str(plan), "-o", str(tmp_path / "run")])
        assert f"{latin}: byte 0xe9 at 1,303 is not UTF-8" in str(done.exception)
        assert not list((tmp_path / "run").glob("checkpoints/*"))


def test_a_tokenizer_that_panics_fails_the_rows_of_its_checkpoints(tmp_path: Path, plan_file: Path) -> None:
    assert plan_file.exists()
    panicking_tokenizer(tmp_path / "panics")
    small_model(7).save_pretrained(tmp_path / "second")
    second = '[[models]]\nname = "second"\npath = "second"\ntokens = "1B"\n'
    second += f'tokenizer = "panics"\nn_params = {count_parameters(small_model())}\n\n[[models]]\nname = "small"'
    plan = load_plan(write_plan(tmp_path, lambda text: text.replace('[[models]]\nname = "small"', second)))
    outcome = measure(plan, tmp_path / "run")
    assert outcome.rows == 16
    assert len(outcome.failed) == 4
    assert all(line.startswith("second@") and "the tokenizer cannot read the text" in line for line in outcome.failed)


def test_a_tokenizer_that_panics_on_calibration_leaves_the_16_bit_loss(tmp_path: Path) -> None:
    (tmp_path / "numbers.txt").write_text("\n\n".join(f"{n}, {n * n}, {n**3}: 1234567890" * 5 for n in range(200)))
    plan = one_model(tmp_path, small_model(), evaluation="numbers.txt")
    panicking_tokenizer(tmp_path / "panics")
    plan.write_text(plan.read_text().replace(str(TINY / "tokenizer"), "panics"))
    failed = measure(load_plan(plan), tmp_path / "run").failed
    assert [line.split(", ")[1] for line in failed] == ["gptq 3 bits", "awq 4 bits"]  # which need calibration
    assert all("the tokenizer cannot read the text" in line for line in failed)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_a_wish_to_stop_is_no_failure(stop: type[BaseException], tmp_path: Path, plan_file: Path) -> None:
    class Interrupting(Reporter):
        def step(self, what: str, loss: float | None = None) -> None:
            if what.startswith("layer"):
                raise stop

    with pytest.raises(stop):
        measure(load_plan(plan_file), tmp_path / "run", Interrupting())
    assert measure(load_plan(plan_file), tmp_path / "run").failed == ()
