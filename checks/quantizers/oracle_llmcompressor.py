"""Runs inside llmcompressor's environment: `python oracle_llmcompressor.py JOB.json`. See `run.py` for the jobs."""

import json
import sys
from pathlib import Path

import torch
from datasets import Dataset
from evaluate import loss_of, noting_solutions, read_tokens
from llmcompressor import oneshot
from llmcompressor.modifiers.gptq import GPTQModifier, base
from transformers import AutoModelForCausalLM


def recipe_of(setting: dict, head: str) -> GPTQModifier:
    """Everything but the head, with weights rounded as the setting says and activations left alone."""
    weights = {
        "num_bits": setting["bits"],
        "type": "int",
        "symmetric": setting["symmetric"],
        "strategy": "group" if setting["group_size"] else "channel",
        "group_size": setting["group_size"],
        "observer": "minmax",
        "actorder": "static",  # what the modifier makes of None, too
    }
    return GPTQModifier(
        ignore=[head],
        config_groups={"all": {"targets": ["Linear"], "weights": weights}},
        dampening_frac=setting["damping"],
        block_size=128,
    )


def end_to_end(job: dict) -> None:
    """Quantize and evaluate a model per setting, and where it can be saved and loaded, again after that."""
    calibration, evaluation = read_tokens(Path(job["tokens"]))
    everything = torch.ones_like(calibration).tolist()
    data = Dataset.from_dict({"input_ids": calibration.tolist(), "attention_mask": everything})
    for name, setting in job["settings"].items():
        model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32)
        head = next(n for n, m in model.named_modules() if m is model.get_output_embeddings())
        folder = Path(job["out"]) / name
        with noting_solutions(
            base,
            "quantize_weight",
            lambda weights, hessians, **_: (weights[0], hessians[0]),  # a batch of one, on a CPU
            lambda returned, **_: returned[0][0],
            folder / "solved.problems",
        ):
            oneshot(
                model=model,
                dataset=data,
                recipe=recipe_of(setting, head),
                num_calibration_samples=len(calibration),
                max_seq_length=calibration.shape[1],
                shuffle_calibration_samples=False,
            )
        answer = {"name": name, "loss_in_memory": loss_of(model, evaluation)}
        try:
            model.save_pretrained(folder, save_compressed=True)
            again = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
            answer["loss"] = loss_of(again, evaluation)
        except Exception as error:  # noqa: BLE001 (an oracle's failure is a row of the table)
            answer["error"] = f"{type(error).__name__}: {error}"[:300]
        with Path(job["losses"]).open("a") as lines:
            lines.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    end_to_end(json.loads(Path(sys.argv[1]).read_text()))
