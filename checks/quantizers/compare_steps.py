"""A library's whole run, step by step: each Hessian and each matrix against ours, so that no difference adds up."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from compare import weights_row
from compare_qid import ORACLES
from safetensors.torch import load_file
from table import Row, missing_row
from torch import Tensor
from transformers import AutoModelForCausalLM

from qidbayes.measure.quantize import GPTQ

TOLERANCE = 1e-5  # of sqrt(H_ii H_jj): an entry is a float32 sum of 16,384 products


class Follower(GPTQ):
    """Our calibration, but each matrix becomes the library's, so that both meet the next one with the same model."""

    def follow(self, noted: Mapping[str, Tensor]) -> None:
        """Take what the library noted, and begin to collect."""
        self.__dict__.update(noted=noted, apart=[], ours=[], theirs=[])  # the class it comes from is frozen

    def solve(self, weight: Tensor, hessian: Tensor) -> Tensor:
        """Compare the Hessian with the library's, and our answer to the library's problem with its answer."""
        parts: list[Tensor] = []
        while sum(map(len, parts)) < len(weight):  # ours stacks the linears that share an input
            i = self._number(weight[sum(map(len, parts)) :])
            given = self.noted[f"{i}.hessian"]
            ours, theirs = (h / h.diagonal().mean() for h in (hessian, given))  # each has a factor of its own
            size = theirs.diagonal().sqrt()
            self.apart.append(float(((ours - theirs) / torch.outer(size, size)).abs().max()))
            answer = self.noted[f"{i}.quantized"]
            self.ours.append(super().solve(self.noted[f"{i}.weight"], given).to(answer.dtype).flatten())
            self.theirs.append(answer.flatten())
            parts.append(answer.float())
        return torch.cat(parts)

    def _number(self, rows: Tensor) -> int:
        """Which of the library's matrices begins these rows."""
        for i in range(len(self.noted) // 3):
            weight = self.noted[f"{i}.weight"]
            if weight.shape[1] == rows.shape[1] and torch.equal(weight.float(), rows[: len(weight)]):
                return i
        raise ValueError("a linear that the library did not quantize")


def check_steps(
    oracle: str,
    model: str,
    folder: Path,
    calibration: Tensor,
    written: Path,
    settings: Mapping[str, Mapping[str, Any]],
    kept: Path,
) -> list[Row]:
    """Two rows a setting: all of a model's matrices, solved on the library's Hessians, and all of its Hessians.

    `kept` is a file that keeps the rows, setting by setting.
    """
    found: dict[str, list[Row]] = json.loads(kept.read_text()) if kept.exists() else {}
    for name, setting in settings.items():
        if name not in found and (written / name / "solved.problems").exists():
            loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=ORACLES[oracle].dtype)
            follower = Follower(**setting, **ORACLES[oracle].options)
            follower.follow(load_file(written / name / "solved.problems"))
            follower.quantize(loaded, calibration)
            found[name] = [
                weights_row("solver", oracle, model, name, torch.cat(follower.ours), torch.cat(follower.theirs)),
                _hessian_row(oracle, model, name, max(follower.apart)),
            ]
            kept.parent.mkdir(exist_ok=True, parents=True)
            kept.write_text(json.dumps(found))
    missing = {name: [missing_row(check, oracle, model, name) for check in ("solver", "hessian")] for name in settings}
    return [row for name in settings for row in found.get(name, missing[name])]


def _hessian_row(oracle: str, model: str, setting: str, largest: float) -> Row:
    return Row(
        check="hessian",
        oracle=oracle,
        model=model,
        setting=setting,
        ours="",
        theirs="",
        difference=f"{largest:.1e}",
        tolerance=f"{TOLERANCE:.1e}",
        agrees="yes" if largest <= TOLERANCE else "no",
    )
