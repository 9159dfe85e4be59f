"""GPTQModel's way, timed: for each bit width load, quantize, save, load again, evaluate.

    python benchmarks/sweep_gptqmodel.py FOLDER &

A process of its own, since GPTQModel ends the process on any error; `sweep.py` starts it. It makes ready, then takes up
FOLDER/NAME/job (bit widths) as such files appear, each beside a `model` with a tokenizer, and writes FOLDER/NAME/took:
seconds so far, after every step. FOLDER/NAME/done says that the job is.
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
VOCABULARY = int(os.environ.get("VOCABULARY", "50304"))
took: dict[str, float | str] = {}


def windows(count: int, length: int, seed: int) -> torch.Tensor:
    return torch.randint(VOCABULARY, (count, length), generator=torch.Generator().manual_seed(seed))


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


def load_again(folder: Path) -> GPTQModel:
    """With a kernel whose source it carries: for its own choice on this GPU it downloads one."""
    for backend in (BACKEND.GPTQ_TRITON, BACKEND.TORCH):
        try:
            model = GPTQModel.load(str(folder / "quantized"), device=DEVICE, backend=backend, dtype=torch.float16)
        except Exception as error:  # noqa: BLE001 (Triton's knows no 3 bits)
            print(f"{backend}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            continue
        took["backend"] = str(backend.value)
        return model
    raise SystemExit("no kernel can be had")


texts = windows(WINDOWS, LENGTH, 1)[:, None]
EXAMPLES = [{"input_ids": row, "attention_mask": torch.ones_like(row)} for row in texts]


def quantize(folder: Path, bits: int, examples: list[dict[str, torch.Tensor]]) -> None:
    shutil.rmtree(folder / "quantized", ignore_errors=True)
    settings = QuantizeConfig(bits=bits, group_size=128, sym=True, desc_act=False, offload_to_disk=False)
    model = time_of(
        f"load_{bits}",
        lambda: GPTQModel.load(str(folder / "model"), settings, dtype=torch.float16, device=DEVICE),
    )
    time_of(f"quantize_{bits}", lambda: model.quantize(examples, batch_size=8))
    time_of(f"save_{bits}", lambda: model.save(str(folder / "quantized")))


def evaluate_16bit(model: PreTrainedModel) -> float:
    model.to(DEVICE).eval()
    return time_of("evaluate_16bit", lambda: loss_of(model))


def carry_out(folder: Path) -> None:
    took.clear()
    loss_16bit = evaluate_16bit(AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float16))
    for bits in map(int, (folder / "job").read_text().split(",")):
        quantize(folder, bits, EXAMPLES)
        (folder / "took").write_text(json.dumps(took))
        again = time_of(f"load_again_{bits}", lambda: load_again(folder))
        took[f"qid_{bits}"] = time_of(f"evaluate_{bits}", lambda again=again: loss_of(again.model)) - loss_16bit
        took[f"backend_{bits}"] = took.pop("backend")
        (folder / "took").write_text(json.dumps(took))
        del again
    (folder / "done").touch()


def warm_up(folder: Path) -> None:
    """A model of one small layer: what GPTQModel compiles at its first use is not counted."""
    small = GPTNeoXConfig(
        vocab_size=VOCABULARY, hidden_size=256, num_hidden_layers=1, num_attention_heads=4,
        intermediate_size=1024, max_position_embeddings=LENGTH,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(small).half()
    model.save_pretrained(folder / "model")
    loss_of(model.to(DEVICE))
    for bits in (4, 3):
        quantize(folder, bits, EXAMPLES[:8])
        loss_of(load_again(folder).model)


def main() -> None:
    folder = Path(sys.argv[1])
    warm_up(folder / "small")
    (folder / "ready").touch()
    while True:
        for job in sorted(folder.glob("*/job")):
            if not (job.parent / "done").exists():
                carry_out(job.parent)
        time.sleep(0.1)


if __name__ == "__main__":
    main()
