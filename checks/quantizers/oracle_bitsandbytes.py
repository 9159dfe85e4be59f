"""Runs inside bitsandbytes' environment: `python oracle_bitsandbytes.py JOB.json`. See `run.py` for the jobs."""

import json
import sys
from pathlib import Path

import bitsandbytes as bnb
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig


@torch.no_grad()
def weights_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What the library dequantizes each linear's weight to, `[out, in]`."""
    weights = {}
    for name, module in model.named_modules():
        if isinstance(module, bnb.nn.Linear4bit):
            weights[name] = bnb.functional.dequantize_4bit(module.weight.data, module.weight.quant_state).contiguous()
        elif isinstance(module, bnb.nn.Linear8bitLt):
            scale = module.weight.SCB if module.weight.SCB is not None else module.state.SCB
            weights[name] = bnb.functional.int8_vectorwise_dequant(module.weight.data, scale)
    return weights


def save(job: dict) -> None:
    """Quantize on loading and save, per setting; keep what the library itself makes of the weights."""
    for name, options in job["settings"].items():
        folder = Path(job["out"]) / name
        config = BitsAndBytesConfig(**options)
        model = AutoModelForCausalLM.from_pretrained(
            job["model"], quantization_config=config, dtype=torch.float32, device_map="cpu"
        )
        model.save_pretrained(folder)
        again = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, device_map="cpu")
        save_file(weights_of(again), folder / "kernel.weights")


if __name__ == "__main__":
    save(json.loads(Path(sys.argv[1]).read_text()))
