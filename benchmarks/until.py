"""Evaluation that ends early (`[evaluation] until`): how far off it is, and what it saves.

    python benchmarks/until.py bias
    python benchmarks/until.py measure PLAN MEASUREMENTS
    python benchmarks/until_fit.py MEASUREMENTS

`bias` simulates windows' differences of several shapes, stops as `block_ends` says and compares with the truth: at the
share of QiD where the bias is worst, of those tried. It writes until-bias.csv. The shapes are normal; Student's t with
three degrees of freedom; exponential and log-normal, in which mean and spread go together; a normal with 3% of its
windows ten times as wide; and those of GPTQ at 2, 3 and 4 bits on a shipped checkpoint, drawn with replacement.

`measure` sweeps a plan's checkpoints, which are local, for GPTQ at 2, 3 and 4 bits in groups, whole and until several
shares, and writes a CSV file. Loading is in no column.
"""

import argparse
import csv
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from qidbayes.measure import load_plan
from qidbayes.measure.decoder.blocks import block_ends

HERE = Path(__file__).parent
TINY = HERE.parent / "measurements" / "tiny"
SIMULATIONS = 20_000
SHARES = (0.02, 0.05)
WINDOWS = (64, 128, 256, 320)
type Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


def outliers(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    return np.where(rng.random(size) < 0.03, 10, 1) * rng.standard_normal(size)


SHAPES: dict[str, tuple[Draw, float, float]] = {  # with their means and variances
    "normal": (lambda rng, size: rng.standard_normal(size), 0, 1),
    "t, 3 degrees of freedom": (lambda rng, size: rng.standard_t(3, size), 0, 3),
    "3% ten times as wide": (outliers, 0, 0.97 + 3),
    "exponential": (lambda rng, size: rng.exponential(size=size), 1, 1),
    "log-normal": (lambda rng, size: np.exp(rng.standard_normal(size)), math.exp(0.5), math.e * (math.e - 1)),
}


def measured() -> dict[str, tuple[Draw, float, float]]:
    """Differences of a shipped checkpoint's windows, about their mean."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from qidbayes.measure.quantize import GPTQ
    from qidbayes.measure.run.sweep import sweep

    tokenizer = AutoTokenizer.from_pretrained(TINY / "tokenizer")
    ids = [
        torch.tensor(tokenizer((TINY / f"{name}.txt").read_text())["input_ids"])
        for name in ("calibration", "evaluation")
    ]
    calibration, evaluation = ids[0].unfold(0, 256, 256)[:32], ids[1].unfold(0, 257, 256)
    model = AutoModelForCausalLM.from_pretrained(
        TINY / "checkpoints" / "128x3" / "step65536", dtype=torch.float32
    ).eval()
    found = sweep(model, [GPTQ(bits, 32) for bits in (2, 3, 4)], calibration, [evaluation], torch.device("cpu"))
    made: dict[str, tuple[Draw, float, float]] = {}
    for bits, variant in zip((2, 3, 4), found.variants, strict=True):
        windows = (variant.losses[0] - found.baseline[0]).numpy()
        skew = ((windows - windows.mean()) ** 3).mean() / windows.std() ** 3
        name = f"tiny-128x3, {bits} bits ({len(windows)} windows, skewness {skew:.2f})"
        made[name] = (lambda rng, size, w=windows: rng.choice(w, size), float(windows.mean()), float(windows.var()))
    return made


def bias() -> None:
    rows = []
    for name, (draw, mean, variance) in (SHAPES | measured()).items():
        for windows in WINDOWS:
            drawn = draw(np.random.default_rng(windows), (SIMULATIONS, windows))
            scaled = (drawn - mean) / math.sqrt(variance)
            worst = max(
                (stopped(scaled, until, needed) for until in SHARES for needed in np.geomspace(8, 1.5 * windows, 12)),
                key=lambda row: abs(row["bias_in_se"]),
            )
            covered = np.abs(scaled.mean(axis=1)) <= 1.96 * scaled.std(axis=1, ddof=1) / math.sqrt(windows)
            rows.append({"differences": name, "windows": windows, **worst, "coverage_of_all": float(covered.mean())})
            print(rows[-1], flush=True)
    with (HERE / "until-bias.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows({key: round(x, 4) if isinstance(x, float) else x for key, x in row.items()} for row in rows)


def stopped(errors: np.ndarray, until: float, needed: float) -> dict[str, float]:
    """What is reported of a QiD whose standard error is `until` of it after `needed` windows; errors of variance 1."""
    qid = 1 / math.sqrt(needed) / until
    going = np.ones(len(errors), bool)
    mean, se, used = (np.empty(len(errors)) for _ in range(3))
    for end in block_ends(errors.shape[1]):
        seen = qid + errors[going, :end]
        mean[going], se[going] = seen.mean(axis=1), seen.std(axis=1, ddof=1) / math.sqrt(end)
        used[going] = end
        going &= se > until * np.abs(mean)
    off = mean - qid
    root = math.sqrt((off**2).mean())
    return {
        "until": until,
        "windows_needed": needed,
        "windows_used": float(used.mean()),
        "bias_in_se": float(off.mean()) / root,
        "bias_in_qid": float(off.mean()) / qid,
        "error_over_reported": root / math.sqrt((se**2).mean()),
        "coverage": float((np.abs(off) <= 1.96 * se).mean()),
    }  # fmt: skip


def measured_until(path: Path, out: Path) -> None:
    """Sweep every checkpoint of a plan of local files, whole and until each share, on its first evaluation set."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from qidbayes.measure.decoder.blocks import in_random_order
    from qidbayes.measure.decoder.evaluate import paired_difference
    from qidbayes.measure.quantize import GPTQ
    from qidbayes.measure.run.sweep import sweep

    plan = load_plan(path)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    tokenizer = AutoTokenizer.from_pretrained(plan.checkpoints[0].tokenizer.folder)
    some, texts = plan.calibration, plan.evaluation
    calibration = cut(tokenizer, some.dataset.path, some.seq_len, some.windows, plan.seed)[:, :-1].to(device)
    windows = in_random_order(cut(tokenizer, texts.datasets[0].path, texts.seq_len, texts.windows, plan.seed))
    asked = sorted({q for q in plan.quantizations if q.method == "gptq" and q.bits <= 4 and q.group_size}, key=str)
    quantizers = [GPTQ(int(q.bits), q.group_size) for q in asked]
    with out.open("w", newline="") as file:
        columns = "suite device run model revision n_params tokens method bits group_size dataset n_eval_tokens seq_len"
        columns += " loss_16bit loss qid qid_se seconds_quantize seconds_evaluate"
        table = csv.DictWriter(file, columns.split())
        table.writeheader()
        for number, checkpoint in enumerate(plan.checkpoints):
            model = AutoModelForCausalLM.from_pretrained(checkpoint.source.folder, dtype=getattr(torch, plan.dtype))
            model = model.to(device).eval()
            if number == 0:
                sweep(model, quantizers, calibration, [windows], device)  # libraries and kernels get ready
            for run, until in {"whole": None, **{f"until {share:g}": share for share in SHARES}}.items():
                found = sweep(model, quantizers, calibration, [windows], device, until=until)
                (baseline,) = found.baseline
                for q, variant in zip(asked, found.variants, strict=True):
                    (losses,) = variant.losses
                    difference = paired_difference(losses, baseline[: len(losses)])
                    before = float(baseline.mean())
                    row = {"suite": plan.suite, "model": checkpoint.model, "revision": checkpoint.revision}
                    row |= {"n_params": checkpoint.n_params, "tokens": checkpoint.tokens, "run": run, "method": "gptq"}
                    row |= {"bits": q.bits, "group_size": q.group_size, "dataset": texts.datasets[0].name}
                    row |= {"n_eval_tokens": len(losses) * texts.seq_len, "seq_len": texts.seq_len}
                    row |= {"loss_16bit": before, "loss": before + difference.mean, "qid": difference.mean}
                    row |= {"qid_se": difference.standard_error, "device": name}
                    row |= {"seconds_quantize": found.seconds_quantize, "seconds_evaluate": found.seconds_evaluate}
                    table.writerow(row)
            print(checkpoint, flush=True)


def cut(tokenizer: Any, path: Path, length: int, count: int, seed: int) -> Any:
    """Windows `[count, length + 1]` of a text file's documents, which blank lines part, in random order."""
    import torch

    documents = path.read_text(encoding="utf-8").split("\n\n")
    random.Random(seed).shuffle(documents)
    opening = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    ids: list[int] = []
    for document in documents:
        ids += [opening, *tokenizer(document, add_special_tokens=False, verbose=False)["input_ids"]]
        if len(ids) > count * length:
            break
    return torch.tensor(ids).unfold(0, length + 1, length)[:count].clone()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("bias")
    one = commands.add_parser("measure")
    one.add_argument("plan", type=Path)
    one.add_argument("measurements", type=Path, help="a CSV file to write")
    given = parser.parse_args()
    if given.command == "bias":
        bias()
    else:
        measured_until(given.plan, given.measurements)


if __name__ == "__main__":
    main()
