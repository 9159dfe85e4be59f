"""QiD end to end, an oracle's against ours, and how far kernels alone can move it."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, variance
from typing import Any

import torch
from evaluate import loss_of
from scipy import stats
from table import Row, missing_row, numbers_row
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from qidbayes.measure.decoder.layers import restoring_weights
from qidbayes.measure.quantize import GPTQ

REORDERINGS = 6


@dataclass(frozen=True)
class Oracle:
    """What an oracle quantizes and evaluates in, and the settings of our GPTQ that say what it does."""

    dtype: torch.dtype
    options: Mapping[str, bool] = field(default_factory=dict)


ORACLES = {
    "auto-gptq": Oracle(torch.float32),
    "gptqmodel": Oracle(torch.float16),  # its kernels take no float32
    # Its GPTQModifier orders columns by activation unless told not to, and fits all grids before it spreads any error.
    "llmcompressor": Oracle(torch.float32, {"true_sequential": False, "act_order": True, "static_groups": True}),
}


def reordered_loss(
    model: PreTrainedModel, tokens: tuple[Tensor, Tensor], quantizer: Mapping[str, Any], i: int
) -> float:
    """Our loss after GPTQ, the calibration windows in their i-th order: only sums' order differs."""
    calibration, evaluation = tokens
    generator = torch.Generator().manual_seed(0)
    orders = [torch.randperm(len(calibration), generator=generator) for _ in range(REORDERINGS)]
    with restoring_weights(model):
        GPTQ(**quantizer).quantize(model, calibration[orders[i]])
        return loss_of(model, evaluation)


def our_qid(
    folder: Path,
    tokens: tuple[Tensor, Tensor],
    settings: Mapping[str, Mapping[str, Any]],
    oracle: Oracle,
    kept: Path,
) -> dict[str, list[float]]:
    """Our QiD by setting, `REORDERINGS` of each. `kept` is a file that keeps what was measured, run by run."""
    found: dict[str, list[float]] = json.loads(kept.read_text()) if kept.exists() else {}
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=oracle.dtype)
    full = loss_of(model, tokens[1])
    for name, setting in settings.items():
        for i in range(len(found.get(name, [])), REORDERINGS):
            loss = reordered_loss(model, tokens, {**setting, **oracle.options}, i)
            found.setdefault(name, []).append(loss - full)
            kept.parent.mkdir(exist_ok=True, parents=True)
            kept.write_text(json.dumps(found))
    return found


def check_qid(
    oracle: str,
    model: str,
    folder: Path,
    evaluation: Tensor,
    answers: Mapping[str, Mapping[str, Any]],
    ours: Mapping[str, list[float]],
) -> list[Row]:
    """QiD that the oracle measured after quantizing, saving and loading, against ours."""
    full = loss_of(AutoModelForCausalLM.from_pretrained(folder, dtype=ORACLES[oracle].dtype), evaluation)
    rows = []
    for name, found in ours.items():
        answer = answers.get(name, {})
        if "loss" not in answer:
            rows.append(missing_row("qid", oracle, model, name, str(answer.get("error", ""))))
            continue
        same_width = [qids for other, qids in ours.items() if other[0] == name[0]]
        tolerance = _noise(same_width)
        rows.append(numbers_row("qid", oracle, model, name, mean(found), answer["loss"] - full, tolerance))
    return rows


def _noise(settings: list[list[float]]) -> float:
    """How far one more run may lie from the mean of its reorderings, nats/token: a 99% interval's half width.

    The variance is pooled over the settings of one width, each of which gives up a degree of freedom to its mean. Not
    relative to QiD, which at 4 bits may be anywhere around zero.
    """
    freedom = len(settings) * (REORDERINGS - 1)
    pooled = mean(variance(qids) for qids in settings)
    return float(stats.t.ppf(0.995, freedom)) * math.sqrt(pooled * (1 + 1 / REORDERINGS))
