"""GPTQModel's way, timed: for each bit width load, quantize, save, load again, evaluate.

    python benchmarks/sweep_gptqmodel.py FOLDER 2,3,4

FOLDER/model holds a checkpoint with a tokenizer. A process of its own, since GPTQModel ends the process on any error;
prints one JSON object after every bit width, with the seconds so far.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from gptqmodel import BACKEND, GPTQModel, QuantizeConfig
from transformers import AutoModelForCausalLM, GPTNeoXConfig, PreTrainedModel

DEVICE = "cuda:0" if torch.cuda.is_available() else "cpu"
WINDOWS = int(os.environ.get("CALIBRATION", "128"))
EVALUATION = int(os.environ.get("EVALUATION", "256"))
LENGTH = int(os.environ.get("LENGTH", "2048"))
folder = Path(sys.argv[1])
config = json.loads((folder / "model" / "config.json").read_text())
took: dict[str, float | str] = {}


def windows(count: int, length: int, seed: int) -> torch.Tensor:
    return torch.randint(config["vocab_size"], (count, length), generator=torch.Generator().manual_seed(seed))


def time_of[T](name: str, work: Callable[[], T]) -> T:
    if DEVICE != "cpu":
        torch.cuda.synchronize()
    began = time.perf_counter()
    done = work()
    if DEVICE != "cpu":
        torch.cuda.synchronize()
    took[name] = time.perf_counter() - began
    print(name, took[name], file=sys.stderr, flush=True)
    return done


@torch.no_grad()
def loss_of(model: PreTrainedModel) -> float:
    """As lm-eval does: a batch of windows, log-softmax over all logits, gathered at the targets."""
    total = 0.0
    for batch in windows(EVALUATION, LENGTH + 1, 2).split(8):
        batch = batch.to(DEVICE)
        logits = torch.log_softmax(model(input_ids=batch[:, :-1]).logits.float(), dim=-1)
        total -= float(logits.gather(2, batch[:, 1:, None]).sum())
    return total / (EVALUATION * LENGTH)


def load_again() -> GPTQModel:
    """With a kernel whose source it carries: for its own choice on this GPU it downloads one."""
    for backend in (BACKEND.TORCH, BACKEND.GPTQ_TRITON):
        try:
            model = GPTQModel.load(str(folder / "quantized"), device=DEVICE, backend=backend, dtype=torch.float16)
        except Exception as error:  # noqa: BLE001 (then the next)
            print(f"{backend}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            continue
        took["backend"] = str(backend.value)
        return model
    raise SystemExit("no kernel can be had")


plain = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float16).to(DEVICE).eval()
loss_of(plain)  # so that loading libraries is not counted
loss_16bit = time_of("evaluate_16bit", lambda: loss_of(plain))
plain = None
examples = [
    {"input_ids": row[None], "attention_mask": torch.ones_like(row[None])} for row in windows(WINDOWS, LENGTH, 1)
]


def quantize(source: Path, bits: int, texts: list[dict[str, torch.Tensor]], label: str) -> None:
    shutil.rmtree(folder / "quantized", ignore_errors=True)
    settings = QuantizeConfig(bits=bits, group_size=128, sym=True, desc_act=False, offload_to_disk=False)
    model = time_of(f"load{label}", lambda: GPTQModel.load(str(source), settings, dtype=torch.float16, device=DEVICE))
    time_of(f"quantize{label}", lambda: model.quantize(texts, batch_size=8))
    time_of(f"save{label}", lambda: model.save(str(folder / "quantized")))


def warm_up() -> None:
    """A model of one small layer: what GPTQModel compiles at its first use is not counted."""
    small = GPTNeoXConfig(
        vocab_size=config["vocab_size"], hidden_size=256, num_hidden_layers=1, num_attention_heads=4,
        intermediate_size=1024, max_position_embeddings=LENGTH,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(small).half().save_pretrained(folder / "small")
    for path in (folder / "model").glob("*token*"):
        shutil.copy(path, folder / "small")
    quantize(folder / "small", 4, examples[:8], "_warm_up")
    time_of("load_again_warm_up", load_again)


warm_up()
for bits in map(int, sys.argv[2].split(",")):
    quantize(folder / "model", bits, examples, f"_{bits}")
    print(json.dumps(took), flush=True)
    if DEVICE != "cpu":
        torch.cuda.empty_cache()
    again = time_of(f"load_again_{bits}", load_again)
    loss = time_of(f"evaluate_{bits}", lambda again=again: loss_of(again.model))
    took[f"qid_{bits}"] = loss - loss_16bit
    again = None
    print(json.dumps(took), flush=True)
