"""Matrices against matrices: what solvers answer, and what files say."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from table import Row, missing_row
from torch import Tensor

from qidbayes.measure.prequantized import read_prequantized
from qidbayes.measure.quantize import GPTQ


def check_solver(problem: Path, answers: Path, settings: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """Matrices from gptqmodel's solver and from ours, on the Hessian that gptqmodel accumulated."""
    if not answers.exists():
        return [missing_row("solver", "gptqmodel", "", name) for name in settings]
    weight, found = load_file(problem)["weight"], load_file(answers)
    rows = []
    for name, setting in settings.items():
        solved = GPTQ(**setting).solve(weight, found[f"{name}.hessian"])
        rows.append(weights_row("solver", "gptqmodel", "", name, solved, found[f"{name}.weight"]))
    return rows


def check_files(oracle: str, model: str, written: Path, names: list[str], dtype: torch.dtype) -> list[Row]:
    """Weights that our reader finds in the oracle's files, against what the oracle's own kernels multiply by."""
    rows = []
    for name in names:
        kernel = written / name / "kernel.weights"
        if not kernel.exists():
            rows.append(missing_row("file", oracle, model, name))
            continue
        theirs = load_file(kernel)
        read = read_prequantized(kernel.parent, dtype).weights
        ours = torch.cat([read[f"{linear}.weight"].flatten() for linear in theirs])
        rows.append(weights_row("file", oracle, model, name, ours, torch.cat([w.flatten() for w in theirs.values()])))
    return rows


def weights_row(check: str, oracle: str, model: str, setting: str, ours: Tensor, theirs: Tensor) -> Row:
    """Solvers must agree to the bit, files to a unit in the last place: a kernel may multiply before it subtracts."""
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
