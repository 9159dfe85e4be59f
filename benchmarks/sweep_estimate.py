"""The dry run's formula, with the constants it ships, against every pass of sweep.csv.

    python benchmarks/sweep_estimate.py

Writes sweep_estimate.csv, and prints the constants that the short and the second passes would give. A process that
meets a shape for the first time waits for cuDNN's plans, once for each calibration pass that waits within a layer. The
dry run counts that once a model, as here. It knows no cap on the GPU's memory.
"""

import math
from pathlib import Path

import numpy as np
import polars as pl
from scipy.optimize import nnls

from qidbayes.measure.plan.cost import SECONDS_PER_SOLVE, SECONDS_PER_WAITING, SWEEP_RATE, sweep_work

HERE = Path(__file__).parent
LENGTH = 2_048
FITTED = ("sweep-cut", "sweep-next")
KEPT = ("path", "shape", "layers", "width", "variants", "calibration_tokens", "evaluation_tokens", "run")


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
    work = np.array(
        [
            sweep_work(
                r["layers"], r["width"], LENGTH, r["variants"], r["variants"],
                r["evaluation_tokens"], r["calibration_tokens"],
            )
            for r in passes
        ]
    )  # fmt: skip
    seconds, first = np.array([r["seconds"] for r in passes]), np.array(once)
    estimated = work @ np.array([1 / SWEEP_RATE, SECONDS_PER_SOLVE]) + first
    pl.DataFrame(passes).select(KEPT).with_columns(
        pl.Series("seconds", seconds).round_sig_figs(4),
        pl.Series("estimated", estimated).round_sig_figs(4),
        pl.Series("off_by", estimated / seconds - 1).round(3),
    ).write_csv(HERE / "sweep_estimate.csv")
    fitted = np.array([r["path"] in FITTED for r in passes])
    relative = (work / seconds[:, None])[fitted]
    scale = relative.max(axis=0)
    found, _ = nnls(relative / scale, 1 - (first / seconds)[fitted])
    rate, per_solve = found / scale
    print(f"these passes would give SWEEP_RATE {1 / rate:.4g}, SECONDS_PER_SOLVE {per_solve:.3g}")


if __name__ == "__main__":
    main()
