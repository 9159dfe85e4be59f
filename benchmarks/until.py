"""Evaluation that ends early (`[evaluation] until`): how far off it is, and what it saves.

    python benchmarks/until.py bias
    python benchmarks/until.py measure PLAN FOLDER
    python benchmarks/until.py fit FOLDER

`bias` simulates windows' differences of several shapes, stops as `block_ends` says and compares with the truth: at the
share of QiD where the bias is worst, of those tried. It writes until-bias.csv. The shapes are normal; Student's t with
three degrees of freedom; exponential and log-normal, in which mean and spread go together; a normal with 3% of its
windows ten times as wide; and those of GPTQ at 2, 3 and 4 bits on a shipped checkpoint, drawn with replacement.

`measure` measures a plan whole and until several shares; `fit` fits a law to GPTQ's rows of each table, and adds to
until.csv: seconds, windows, and the greatest distance of a parameter's posterior mean from the whole's, in its standard
deviations. `whole again` is the whole table fitted from another seed: what Monte Carlo error alone moves.
"""

import argparse
import math
import resource
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

import qidbayes as qb
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
    pl.DataFrame(rows).with_columns(pl.col(pl.Float64).round(3)).write_csv(HERE / "until-bias.csv")


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


def measured_until(path: Path, folder: Path) -> None:
    from qidbayes.measure.run.local import measure

    plan, rows = load_plan(path), []
    for name, until in {"whole": None, **{f"until {share:g}": share for share in SHARES}}.items():
        began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        asked = replace(plan, evaluation=replace(plan.evaluation, until=until))
        outcome = measure(asked, folder / name.replace(" ", "-"))
        now = resource.getrusage(resource.RUSAGE_SELF)
        assert not outcome.failed, outcome.failed
        seconds = time.perf_counter() - began
        rows.append(
            {
                "suite": plan.suite,
                "run": name,
                "seconds": seconds,
                "cpu_seconds": now.ru_utime + now.ru_stime - before.ru_utime - before.ru_stime,
            }
        )
        print(rows[-1], flush=True)
    pl.DataFrame(rows).write_csv(folder / "seconds.csv")


def fitted(folder: Path, law: str) -> None:
    """Laws of what `measured_until` left in a folder, which may have come from another machine."""
    whole, rows = None, []
    for run in pl.read_csv(folder / "seconds.csv").iter_rows(named=True):
        table = pl.read_parquet(folder / run["run"].replace(" ", "-") / "table.parquet")
        quantized = table.filter(pl.col("method") != "none")
        most = quantized["n_eval_tokens"].max()
        row = run | {
            "device": ", ".join(table["device"].unique().sort()),
            "cells": len(quantized),
            "share_of_windows": quantized["n_eval_tokens"].sum() / most / len(quantized),
            "cells_told": int((quantized["qid_se"] <= 0.02 * quantized["qid"].abs()).sum()),
            "seconds_quantize": table["seconds_quantize"].sum(),
            "seconds_evaluate": table["seconds_evaluate"].sum(),
            "law": law,
        }
        found = posterior(table, law, 0)
        whole = found if whole is None else whole
        rows.append(row | farthest(found, whole))
        print(rows[-1], flush=True)
        if run["run"] == "whole":
            rows.append(row | {"run": "whole again"} | farthest(posterior(table, law, 1), whole))
    made = pl.DataFrame(rows).with_columns(pl.col(pl.Float64).round(3))
    path = HERE / "until.csv"
    if path.exists():
        made = pl.concat([pl.read_csv(path).filter(pl.col("suite") != made["suite"][0]), made], how="vertical_relaxed")
    made.write_csv(path)


def posterior(table: pl.DataFrame, law: str, seed: int) -> pl.DataFrame:
    """Of GPTQ's rows, by the name of every parameter and constant."""
    return qb.fit(table.filter(method="gptq"), law, random_seed=seed).summary().select("name", "mean", "sd")


def farthest(found: pl.DataFrame, whole: pl.DataFrame) -> dict[str, float | str]:
    both = whole.join(found, on="name", suffix="_found").drop_nulls()
    both = both.with_columns(
        apart=((pl.col("mean_found") - pl.col("mean")) / pl.col("sd")).abs(), ratio=pl.col("sd_found") / pl.col("sd")
    )
    most = both.sort("apart").row(-1, named=True)
    ratio = both.sort(pl.col("ratio").log().abs())["ratio"][-1]
    return {"apart_in_sd": most["apart"], "farthest": most["name"], "sd_ratio": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("bias")
    one = commands.add_parser("measure")
    one.add_argument("plan", type=Path)
    one.add_argument("folder", type=Path)
    other = commands.add_parser("fit")
    other.add_argument("folder", type=Path)
    other.add_argument("--law", default="unified")
    given = parser.parse_args()
    if given.command == "bias":
        bias()
    elif given.command == "measure":
        measured_until(given.plan, given.folder)
    else:
        fitted(given.folder, given.law)


if __name__ == "__main__":
    main()
