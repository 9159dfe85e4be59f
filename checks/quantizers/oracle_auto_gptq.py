"""Runs inside auto-gptq's environment: `python oracle_auto_gptq.py JOB.json`. See `run.py` for the jobs.

The package quantizes on a GPU only; told that the CPU is one, it does the same there.
"""

import json
import sys
from pathlib import Path
from unittest.mock import patch

import auto_gptq.modeling._base as base
import torch
from auto_gptq import AutoGPTQForCausalLM, BaseQuantizeConfig
from auto_gptq.nn_modules.qlinear.qlinear_cuda_old import QuantLinear
from auto_gptq.quantization.gptq import GPTQ
from evaluate import loss_of, noting_solutions, read_tokens, weights_of
from safetensors.torch import save_file

base.CUDA_0 = torch.device("cpu")
torch.cuda.synchronize = lambda *_: None


def end_to_end(job: dict) -> None:
    """Quantize, save, load and evaluate a model per setting; keep what its kernels make of the saved weights."""
    calibration, evaluation = read_tokens(Path(job["tokens"]))
    examples = [{"input_ids": row[None], "attention_mask": torch.ones_like(row[None])} for row in calibration]
    for name, setting in job["settings"].items():
        folder = Path(job["out"]) / name
        config = BaseQuantizeConfig(
            bits=setting["bits"],
            group_size=setting["group_size"] or -1,
            sym=setting["symmetric"],
            desc_act=setting.get("act_order", False),
            damp_percent=setting["damping"],
        )
        with patch("torch.cuda.is_available", return_value=True):
            model = AutoGPTQForCausalLM.from_pretrained(job["model"], config, torch_dtype=torch.float32)
        with noting_solutions(
            GPTQ,
            "fasterquant",
            lambda task, **_: (task.layer.weight, task.H),
            lambda _, task, **__: task.layer.weight,
            folder / "solved.problems",
        ):
            model.quantize(examples, batch_size=8)
        model.save_quantized(str(folder), use_safetensors=True)
        again = AutoGPTQForCausalLM.from_quantized(
            str(folder),
            device="cpu",
            use_triton=False,
            disable_exllama=True,
            disable_exllamav2=True,
            inject_fused_attention=False,
            inject_fused_mlp=False,
            torch_dtype=torch.float32,
        )
        save_file(weights_of(again.model, QuantLinear, torch.float32), folder / "kernel.weights")
        loss = loss_of(again.model, evaluation)
        with Path(job["losses"]).open("a") as lines:
            lines.write(json.dumps({"name": name, "loss": loss}) + "\n")


if __name__ == "__main__":
    end_to_end(json.loads(Path(sys.argv[1]).read_text()))
