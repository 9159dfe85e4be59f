"""Time and memory against rows, for grids, grids with holes and irregular tables: `make growth`.

Each case runs in a process of its own, on one core: `seconds_a_density` and `peak_mb` are of a few of the
densities that a fit of the default law asks for some 4,000 times. A whole fit is made where that is expected to take up
to 100 seconds of CPU (`--most`).
"""

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

RESULTS = Path(__file__).parent / "growth.csv"
ROWS = (100, 300, 1_000, 3_850, 10_000, 30_000, 100_000)
SHAPES = ("grid", "grid with a third missing", "irregular", "irregular, one width")
DENSITIES = 4_000
"""Of a fit whose densities are dear, as a rule; where they are cheap, a fit takes three times as many."""
MOST = 100.0
"""CPU seconds that a fit may be expected to take."""


def table(shape: str, rows: int, seed: int = 0) -> pl.DataFrame:
    """Return a simulated table: 22 sizes of a grid, or 100 models at places of their own; a run for each model."""
    rng = np.random.default_rng(seed)
    if shape.startswith("grid"):
        size, time_, width = _grid(rows)
        tokens = np.linspace(np.log(1e9), np.log(1e12), time_.max() + 1)[time_]
        if shape.endswith("missing"):
            kept = rng.random(len(size)) >= 1 / 3
            size, tokens, width = size[kept], tokens[kept], width[kept]
    else:
        size = rng.integers(0, min(100, rows // 10), rows)
        tokens = rng.uniform(np.log(1e9), np.log(1e12), rows)
        width = np.full(rows, 4.0) if shape.endswith("one width") else rng.choice([2.0, 3.0, 4.0], rows)
    params = rng.uniform(np.log(1e7), np.log(1e10), size.max() + 1)[size]
    mean = np.log(0.05) + 0.5 * (tokens - np.log(1e11)) - 0.3 * (params - np.log(1e9)) - 5.0 * np.log(width / 4.0)
    missed = 0.3 * np.sin(params) * np.cos(tokens / 1.3) + rng.normal(0.0, 0.1, size.max() + 1)[size]
    return pl.DataFrame({
        "suite": "made", "model": [f"m{i}" for i in size], "revision": [f"s{t:.9f}" for t in tokens],
        "n_params": np.exp(params).astype(int), "tokens": np.exp(tokens).astype(int), "method": "rtn", "bits": width,
        "dataset": "made", "qid": np.exp(mean + missed + rng.normal(0.0, 0.08, len(size))),
    })  # fmt: skip


def _grid(rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return model, time and width of each cell: 3,850 rows are 22 models at 175 lengths, others have three widths."""
    widths = [4.0] if rows == 3_850 else [2.0, 3.0, 4.0]
    lengths = round(rows / 22 / len(widths))
    cells = np.meshgrid(np.arange(22), np.arange(max(2, lengths)), widths, indexing="ij")
    size, when, width = (values.ravel() for values in cells)
    return size, when, width


def one(shape: str, rows: int, whole: bool) -> dict[str, Any]:
    """Measure a case."""
    import qidbayes as qb
    from qidbayes.infer.collapsed import Collapsed
    from qidbayes.infer.inputs import inputs
    from qidbayes.table.schema import validate

    warnings.simplefilter("ignore")
    given = validate(table(shape, rows), "table")
    if whole:
        fit = qb.fit(given, "unified", random_seed=0)
        numbers = fit.diagnostics.convergence.values()
        return {
            "draws": fit.attributes["chains"] * fit.attributes["draws"],
            "smallest_ess": round(min(min(c.ess_bulk, c.ess_tail) for c in numbers)),
            "failed": "; ".join(fit.diagnostics.problems()),
        }
    density = Collapsed(inputs(given, qb.load_law("unified")))
    points = 0.3 * np.random.default_rng(0).standard_normal((20, density.dimension))
    started = time.process_time()
    density(points[:1], np.random.default_rng(0))
    many = 20 if time.process_time() - started < 0.01 else 1  # as a fit does, cheap ones at once
    started, count = time.process_time(), 0
    while count < 20 and time.process_time() - started < 3.0:
        found, _ = density(points[count : count + many], np.random.default_rng(0))
        assert np.isfinite(found).all()
        count += many
    way = " and ".join(dict.fromkeys(type(block).__name__.strip("_") for block in density._gram._blocks))
    return {"rows": given.height, "by": way, "seconds_a_density": (time.process_time() - started) / count}


def measured(shape: str, rows: int, whole: bool = False) -> dict[str, Any]:
    """Measure a case in a process of its own; its CPU seconds, imports and all, and its peak memory beside it."""
    command = [sys.executable, __file__, "--one", shape, str(rows), *(["--whole"] if whole else [])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    text = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{shape}, {rows} rows: exit {process.returncode}")
    found: dict[str, Any] = json.loads(text.splitlines()[-1])
    return found | {"cpu": used.ru_utime + used.ru_stime, "peak_mb": used.ru_maxrss / 1e3}


def main() -> None:
    """Measure every case."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--one", nargs=2, metavar=("SHAPE", "ROWS"))
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--most", type=float, default=MOST, help="CPU seconds that a fit may be expected to take")
    parser.add_argument("--shape", choices=SHAPES, action="append")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one[0], int(options.one[1]), options.whole)))
        return
    cases = []
    for shape in options.shape or SHAPES:
        for rows in ROWS:
            found = measured(shape, rows)
            case = {
                "shape": shape,
                "rows": found["rows"],
                "by": found["by"],
                "seconds_a_density": float(f"{found['seconds_a_density']:.3g}"),
                "expected_cpu_s": float(f"{DENSITIES * found['seconds_a_density']:.3g}"),
                "peak_mb": round(found["peak_mb"]),
            }
            if DENSITIES * found["seconds_a_density"] <= options.most:
                fit = measured(shape, rows, whole=True)
                case |= {"fit_cpu_s": round(fit["cpu"], 1), "fit_peak_mb": round(fit["peak_mb"])}
                case |= {name: fit[name] for name in ("draws", "smallest_ess", "failed")}
            cases.append(case)
            print(case, file=sys.stderr, flush=True)
    pl.DataFrame(cases, infer_schema_length=None).write_csv(RESULTS)


if __name__ == "__main__":
    main()
