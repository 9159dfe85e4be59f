"""The comparisons: our numbers against an oracle's, each a row of the table."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from statistics import mean, variance
from typing import Any, TypedDict

import torch
from evaluate import loss_of
from safetensors.torch import load_file
from scipy import stats
from torch import Tensor
from transformers import AutoModelForCausalLM

from qidbayes.measure.prequantized import read_prequantized
from qidbayes.measure.quantize import GPTQ
from qidbayes.measure.walk import restoring_weights

# What each oracle quantizes and evaluates in, and whether it calibrates a layer's linears one after the other.
ORACLES: dict[str, tuple[torch.dtype, bool]] = {
    "auto-gptq": (torch.float32, True),
    "gptqmodel": (torch.float16, True),  # its kernels take no float32
    "llmcompressor": (torch.float32, False),
}
REORDERINGS = 6


class Row(TypedDict):
    """One comparison. `ours` and `theirs` are QiD in nats per token, or a share of weights; see README.md."""

    check: str
    oracle: str
    model: str
    setting: str
    ours: str
    theirs: str
    difference: str
    tolerance: str
    agrees: str


def check_solver(problem: Path, answers: Path, settings: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """Matrices from gptqmodel's solver and from ours, on the Hessian that gptqmodel accumulated: equal to the bit."""
    if not answers.exists():
        return [_missing("solver", "gptqmodel", "", name) for name in settings]
    weight, found = load_file(problem)["weight"], load_file(answers)
    rows = []
    for name, setting in settings.items():
        solved = GPTQ(**setting).solve(weight, found[f"{name}.hessian"]).weight
        rows.append(_weights_row("solver", "gptqmodel", "", name, solved, found[f"{name}.weight"]))
    return rows


def our_qid(
    folder: Path,
    tokens: tuple[Tensor, Tensor],
    settings: Mapping[str, Mapping[str, Any]],
    dtype: torch.dtype,
    true_sequential: bool,
    kept: Path,
) -> dict[str, list[float]]:
    """Our QiD by setting, the calibration windows in `REORDERINGS` orders and batch sizes.

    Only the order of sums differs between them, so their spread is what kernels alone can do. `kept` is a file that
    keeps what was measured, run by run.
    """
    found: dict[str, list[float]] = json.loads(kept.read_text()) if kept.exists() else {}
    calibration, evaluation = tokens
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    full = loss_of(model, evaluation)
    generator = torch.Generator().manual_seed(0)
    orders = [torch.randperm(len(calibration), generator=generator) for _ in range(REORDERINGS)]
    for name, setting in settings.items():
        for i in range(len(found.get(name, [])), REORDERINGS):
            quantizer = GPTQ(**setting, true_sequential=true_sequential, batch_size=8 - i)
            with restoring_weights(model):
                quantizer.quantize(model, calibration[orders[i]])
                found.setdefault(name, []).append(loss_of(model, evaluation) - full)
            kept.parent.mkdir(exist_ok=True)
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
    full = loss_of(AutoModelForCausalLM.from_pretrained(folder, dtype=ORACLES[oracle][0]), evaluation)
    rows = []
    for name, found in ours.items():
        answer = answers.get(name, {})
        if "loss" not in answer:
            rows.append(_missing("qid", oracle, model, name, str(answer.get("error", ""))))
            continue
        theirs = answer["loss"] - full
        difference = theirs - mean(found)
        same_width = [qids for other, qids in ours.items() if other[0] == name[0]]
        tolerance = _relative_noise(same_width, len(found)) * mean(found)
        rows.append(
            Row(
                check="qid",
                oracle=oracle,
                model=model,
                setting=name,
                ours=f"{mean(found):.5f}",
                theirs=f"{theirs:.5f}",
                difference=f"{difference:.5f}",
                tolerance=f"{tolerance:.5f}",
                agrees="yes" if abs(difference) <= tolerance else "no",
            )
        )
    return rows


def _relative_noise(settings: list[list[float]], runs: int) -> float:
    """How far one more run may lie from the mean of `runs`, over that mean: a 99% prediction interval's half width.

    The variance is pooled over the settings of one width, each of which gives up a degree of freedom to its mean.
    """
    repeated = [qids for qids in settings if len(qids) > 1]
    freedom = sum(len(qids) - 1 for qids in repeated)
    squares = sum((len(qids) - 1) * variance(qids) / mean(qids) ** 2 for qids in repeated)
    return float(stats.t.ppf(0.995, freedom)) * math.sqrt(squares / freedom * (1 + 1 / runs))


def check_files(oracle: str, model: str, written: Path, dtype: torch.dtype) -> list[Row]:
    """Weights that our reader finds in the oracle's files, against what the oracle's own kernels multiply by."""
    rows = []
    for folder in sorted(path.parent for path in written.glob("*/kernel.weights")):
        theirs = load_file(folder / "kernel.weights")
        read = read_prequantized(folder, dtype).weights
        ours = torch.cat([read[f"{name}.weight"].flatten() for name in theirs])
        rows.append(
            _weights_row("file", oracle, model, folder.name, ours, torch.cat([w.flatten() for w in theirs.values()]))
        )
    return rows


def _weights_row(check: str, oracle: str, model: str, setting: str, ours: Tensor, theirs: Tensor) -> Row:
    """Tolerance is one unit in the last place of a weight: a kernel may multiply before it subtracts, or after."""
    equal = float((ours == theirs).double().mean())
    largest = float(((ours - theirs).abs() / theirs.abs().amax()).max())
    tolerance = 0.0 if check == "solver" else torch.finfo(theirs.dtype).eps
    return Row(
        check=check,
        oracle=oracle,
        model=model,
        setting=setting,
        ours=f"{equal:.6f} equal",
        theirs="",
        difference=f"{largest:.1e}",
        tolerance=f"{tolerance:.1e}",
        agrees="yes" if largest <= tolerance else "no",
    )


def _missing(check: str, oracle: str, model: str, setting: str, why: str = "") -> Row:
    return Row(
        check=check,
        oracle=oracle,
        model=model,
        setting=setting,
        ours="",
        theirs=why,
        difference="",
        tolerance="",
        agrees="did not run",
    )
