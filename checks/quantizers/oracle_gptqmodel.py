"""Runs inside gptqmodel's environment: `python oracle_gptqmodel.py JOB.json`. See `run.py` for the jobs."""

import os

os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")  # read at import; its default starves on few cores

import json
import sys
from pathlib import Path

import torch
from evaluate import loss_of, noting_solutions, read_tokens, weights_of
from gptqmodel import BACKEND, GPTQModel, QuantizeConfig
from gptqmodel.nn_modules.qlinear import BaseQuantLinear
from gptqmodel.quantization.gptq import GPTQ
from safetensors.torch import load_file, save_file
from torch import nn


def config_of(setting: dict) -> QuantizeConfig:
    """The plain algorithm: what it adds by default is off."""
    return QuantizeConfig(
        bits=setting["bits"],
        group_size=setting["group_size"] or -1,
        sym=setting["symmetric"],
        desc_act=setting.get("act_order", False),
        act_group_aware=False,
        damp_percent=setting["damping"],
        format="gptq_v2",
        mse=0.0,
        offload_to_disk=False,
    )


def solve(job: dict) -> None:
    """One matrix per setting, on the Hessian that gptqmodel accumulates from the job's inputs."""
    problem = load_file(job["problem"])
    answers = {}
    for name, setting in job["settings"].items():
        linear = nn.Linear(problem["weight"].shape[1], problem["weight"].shape[0], bias=False)
        linear.weight.data.copy_(problem["weight"])
        task = GPTQ(linear, config_of(setting))
        task.expected_nsamples = len(problem["inputs"])
        task.quantizer.configure(perchannel=True)
        task.add_batch(problem["inputs"], problem["inputs"] @ problem["weight"].T)
        answers[f"{name}.hessian"] = task.finalize_hessian().clone()
        answers[f"{name}.weight"] = task.quantize(blocksize=128)[0].contiguous()
    save_file(answers, job["answers"])


def end_to_end(job: dict) -> None:
    """Quantize, save, load and evaluate a model per setting, all in float16: its kernels take no float32."""
    calibration, evaluation = read_tokens(Path(job["tokens"]))
    examples = [{"input_ids": row[None], "attention_mask": torch.ones_like(row[None])} for row in calibration]
    for name, setting in job["settings"].items():
        folder = Path(job["out"]) / name
        model = GPTQModel.load(job["model"], config_of(setting), dtype=torch.float16, device="cpu")
        with noting_solutions(
            GPTQ,
            "quantize",
            lambda task: (task.clone_module(), task.finalize_hessian()),
            lambda returned, _: returned[0],
            folder / "solved.problems",
        ):
            model.quantize(examples, batch_size=8)
        model.save(str(folder))
        again = GPTQModel.load(str(folder), device="cpu", backend=BACKEND.TORCH, dtype=torch.float16)
        save_file(weights_of(again.model, BaseQuantLinear, torch.float16), folder / "kernel.weights")
        loss = loss_of(again.model, evaluation)
        with Path(job["losses"]).open("a") as lines:
            lines.write(json.dumps({"name": name, "loss": loss}) + "\n")


if __name__ == "__main__":
    job = json.loads(Path(sys.argv[1]).read_text())
    {"solve": solve, "end_to_end": end_to_end}[job["task"]](job)
