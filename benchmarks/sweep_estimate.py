"""The dry run's formula: fitted to the short and the second passes of sweep.csv, held against the whole first ones.

    python benchmarks/sweep_estimate.py

Prints the constants and writes sweep_estimate.csv. A process that meets a shape for the first time waits for cuDNN's
plans, once for each calibration pass that waits within a layer; the dry run counts that once a model, as here. Passes
of earlier runs, of a slower sweep, are left out.
"""

import math
from pathlib import Path

import numpy as np
import polars as pl
from scipy.optimize import nnls

from qidbayes.measure.plan.cost import SECONDS_PER_WAITING, sweep_work

HERE = Path(__file__).parent
LENGTH = 2_048
FITTED = ("sweep-cut", "sweep-next")
HEADS = {"160M": 12, "410M": 16, "1.4B": 16, "6.9B": 32}


def waiting(row: dict[str, int]) -> int:
    """Passes that wait at a time: all settings' below width 4,096, where memory lets one setting's."""
    batch = min(65_536, 2**26 // row["width"])
    return math.ceil(row["calibration_tokens"] / batch) * (row["variants"] if row["width"] < 4_096 else 1)


def main() -> None:
    table = pl.read_csv(HERE / "sweep.csv")
    earlier = pl.col("note").fill_null("").str.contains("an earlier run")
    passes = table.filter(pl.col("path").is_in(["sweep", *FITTED]), ~earlier).to_dicts()
    ready: dict[tuple[int, int], int] = {}
    once = []
    for row in passes:
        shape = row["width"], HEADS[row["shape"]]
        once.append(SECONDS_PER_WAITING * max(0, waiting(row) - ready.get(shape, 0)))
        ready[shape] = max(ready.get(shape, 0), waiting(row))
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
    fitted = np.array([r["path"] in FITTED for r in passes])
    relative = (work / seconds[:, None])[fitted]
    scale = relative.max(axis=0)
    found, _ = nnls(relative / scale, 1 - (first / seconds)[fitted])
    rate, per_solve = found / scale
    print(f"SWEEP_RATE {1 / rate:.4g}, SECONDS_PER_SOLVE {per_solve:.3g}")
    estimated = work @ (found / scale) + first
    pl.DataFrame(passes).select("path", "shape", "layers", "width", "variants", "calibration_tokens").with_columns(
        pl.Series("seconds", seconds).round_sig_figs(4),
        pl.Series("estimated", estimated).round_sig_figs(4),
        pl.Series("off_by", estimated / seconds - 1).round(3),
        pl.Series("fitted", fitted),
    ).write_csv(HERE / "sweep_estimate.csv")
    for which, told in ((fitted, "fitted"), (~fitted, "not fitted")):
        print(told, "off by at most", f"{np.abs(estimated / seconds - 1)[which].max():.0%}")


if __name__ == "__main__":
    main()
