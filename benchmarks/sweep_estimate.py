"""The dry run's formula, with the constants it ships, against every pass of sweep.csv.

    python benchmarks/sweep_estimate.py

Writes sweep_estimate.csv, and prints the constants that the short and the second passes would give. A process that
meets a shape for the first time waits for cuDNN's plans, once for each calibration pass that waits within a layer. The
dry run counts that once a model, as here. It is told the GPU's memory where that was capped.
"""

import math
from dataclasses import astuple
from pathlib import Path

import numpy as np
import polars as pl
from scipy.optimize import nnls

from qidbayes.measure.plan.cost import MEMORY, SECONDS_PER_WAITING, sweep_work

HERE = Path(__file__).parent
LENGTH = 2_048
FITTED = "run6"
KEPT = ("path", "shape", "layers", "width", "variants", "calibration_tokens", "evaluation_tokens", "cap_gib", "run")


def waiting(row: dict[str, int]) -> int:
    """Passes that wait at a time: all settings' below width 4,096, where memory lets one setting's."""
    batch = min(2**18, 2**28 // row["width"])
    return math.ceil(row["calibration_tokens"] / batch) * (row["variants"] if row["width"] < 4_096 else 1)


def main() -> None:
    table = pl.read_csv(HERE / "sweep.csv")
    swept = pl.col("path").str.contains("^(sweep|growth)") & (pl.col("path") != "sweep-until")
    passes = table.filter(swept).to_dicts()
    ready: dict[tuple[str, int], int] = {}
    once = []
    for row in passes:
        shape, waits = (row["run"], row["width"]), waiting(row)
        once.append(SECONDS_PER_WAITING * max(0, waits - ready.get(shape, 0)))
        ready[shape] = max(ready.get(shape, 0), waits)
    done = [
        sweep_work(
            r["layers"], r["width"], LENGTH, r["variants"], r["variants"],
            r["evaluation_tokens"], r["calibration_tokens"], r["cap_gib"] * 2**30 if r["cap_gib"] else MEMORY,
        )
        for r in passes
    ]  # fmt: skip
    work = np.array([[*astuple(one), 1.0] for one in done])
    seconds, first = np.array([r["seconds"] for r in passes]), np.array(once)
    estimated = np.array([one.seconds for one in done]) + first
    pl.DataFrame(passes).select(KEPT).with_columns(
        pl.Series("seconds", seconds).round_sig_figs(4),
        pl.Series("estimated", estimated).round_sig_figs(4),
        pl.Series("off_by", estimated / seconds - 1).round(3),
    ).write_csv(HERE / "sweep_estimate.csv")
    fitted = np.array([r["run"].startswith(FITTED) and r["path"] != "sweep" for r in passes])
    relative = (work / seconds[:, None])[fitted]
    scale = relative.max(axis=0)
    found, _ = nnls(relative / scale, 1 - (first / seconds)[fitted])
    half, single, per_solve, between, per_pass = found / scale
    print(
        f"these passes would give SWEEP_RATE {1 / half:.4g}, SINGLE_RATE {1 / single:.4g}, "
        f"SECONDS_PER_SOLVE {per_solve:.3g}, BETWEEN_RATE {1 / between:.4g}, SECONDS_PER_PASS {per_pass:.3g}"
    )


if __name__ == "__main__":
    main()
