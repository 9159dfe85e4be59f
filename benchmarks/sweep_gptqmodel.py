"""GPTQModel's way, timed: quantize, save, load, evaluate. Runs in a process of its own; prints its seconds as JSON."""

import json
import sys
import time
from pathlib import Path

import torch
from gptqmodel import BACKEND, GPTQModel, QuantizeConfig
from transformers import AutoModelForCausalLM

VOCABULARY, LENGTH = 50_304, 2_048
folder = Path(sys.argv[1])
took: dict[str, float] = {}


def windows(count: int, length: int, seed: int) -> torch.Tensor:
    return torch.randint(VOCABULARY, (count, length), generator=torch.Generator().manual_seed(seed))


def time_of(name, work):
    torch.cuda.synchronize()
    began = time.perf_counter()
    done = work()
    torch.cuda.synchronize()
    took[name] = time.perf_counter() - began
    print(name, took[name], file=sys.stderr, flush=True)
    return done


@torch.no_grad()
def loss_of(model) -> float:
    """As lm-eval does: a batch of windows, log-softmax over all logits, gathered at the targets."""
    total = 0.0
    for batch in windows(256, LENGTH + 1, 2).split(8):
        batch = batch.cuda()
        logits = torch.log_softmax(model(input_ids=batch[:, :-1]).logits.float(), dim=-1)
        total -= float(logits.gather(2, batch[:, 1:, None]).sum())
    return total / (256 * LENGTH)


plain = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float16).cuda().eval()
loss_of(plain)  # so that loading libraries is not counted
loss_16bit = time_of("evaluate_16bit", lambda: loss_of(plain))
plain = None
examples = [{"input_ids": row[None], "attention_mask": torch.ones_like(row[None])} for row in windows(128, LENGTH, 1)]
config = QuantizeConfig(bits=4, group_size=128, sym=True, desc_act=False, offload_to_disk=False)
model = time_of("load", lambda: GPTQModel.load(str(folder / "model"), config, dtype=torch.float16, device="cuda:0"))
time_of("quantize", lambda: model.quantize(examples, batch_size=8))
time_of("save", lambda: model.save(str(folder / "quantized")))
model = None
torch.cuda.empty_cache()
# Its other kernels compile sources that they download.
again = time_of(
    "load_again",
    lambda: GPTQModel.load(str(folder / "quantized"), device="cuda:0", backend=BACKEND.TORCH, dtype=torch.float16),
)
loss = time_of("evaluate", lambda: loss_of(again.model))
print(json.dumps(took | {"qid": loss - loss_16bit}))
