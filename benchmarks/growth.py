"""How the default fit grows with the rows of a table: `make growth`. Writes `growth.csv`, a row a table.

The tables are simulated. `suites`: the paper's grid (6 sizes, 20 counts of tokens, 3 widths) as if measured in ever
more suites, each with what the law misses of its own. `holes`: one suite of which every tenth row is missing. Each
table has a process of its own, and is timed from the Parquet file to the saved fit and the questions put to it. CPU
seconds are of all threads, and say more than the clock on a machine that does other work too.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "growth.csv"
TABLES = [("suites", n) for n in (100, 1_000, 10_000, 100_000, 1_000_000)] + [("holes", 360)]


def table(kind: str, rows: int) -> Any:
    """Return a simulated table of about as many rows."""
    import numpy as np
    import polars as pl

    from qidbayes.noise.coordinates import Fitted
    from qidbayes.noise.kernels import covariance
    from qidbayes.table import load_table

    rng = np.random.default_rng(0)
    columns = ("model", "revision", "n_params", "tokens", "method", "bits", "group_size", "dataset")
    one = load_table("pythia").select(columns)
    if rows < one.height:
        one = one.filter(pl.col("tokens").rank("dense") % 4 == 0)
    scale = {"smooth_sd": 0.4, "suite_sd": 0.3, "model_sd": 0.1, "checkpoint_sd": 0.05, "similarity": 0.6}
    scale |= {"length_params": 1.5, "length_tokens": 1.5, "length_bits": 1.0}
    place = one.with_columns(suite=pl.lit("one"))
    cells = Fitted(place).cells(place)
    root = np.linalg.cholesky(covariance(scale, cells, cells, np) + 1e-8 * np.eye(one.height))
    copies = max(1, round(rows / one.height))
    n, d, p = (one[c].cast(pl.Float64).to_numpy() for c in ("n_params", "tokens", "bits"))
    log_qid = np.log(0.035) + 0.47 * np.log(d / 1e11) - 0.3 * np.log(n / 1e9) - 5.8 * np.log(p / 4)
    log_qid = log_qid + rng.standard_normal((copies, one.height)) @ root.T
    log_qid = log_qid + 0.1 * rng.standard_normal(log_qid.shape)
    found = pl.DataFrame({"suite": [f"suite-{i}" for i in range(copies)]}).join(one, how="cross")
    found = found.with_columns(
        model=pl.concat_str("suite", "model", separator=" "), qid=pl.Series(np.exp(log_qid).reshape(-1))
    )
    return found.filter(pl.Series(rng.uniform(size=found.height) > 0.1)) if kind == "holes" else found


def one(kind: str, rows: int, draws: int) -> dict[str, Any]:
    """Read, fit, save, load and ask; return the seconds of each and the peak of memory."""
    import qidbayes as qb

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "table.parquet")
        subprocess.run([sys.executable, __file__, "--write", str(path), "--one", kind, str(rows)], check=True)
        found: dict[str, Any] = {"table": kind, "rows": 0, "draws": draws}
        clock = [(time.perf_counter(), time.process_time())]

        def lap(name: str) -> None:
            clock.append((time.perf_counter(), time.process_time()))
            wall, cpu = (after - before for before, after in zip(clock[-2], clock[-1], strict=True))
            found.update({f"{name}_s": wall, f"{name}_cpu_s": cpu})
            print(kind, rows, name, f"{wall:.1f} s, {cpu:.1f} CPU s", file=sys.stderr, flush=True)

        measured = qb.read_table(path)
        lap("read")
        from qidbayes.infer.design import design
        from qidbayes.infer.fit import fit

        lap("imports")
        law = qb.load_law("unified")
        places = design(measured, law).reduced
        lap("reduce")
        found |= {"rows": measured.height, "places": len(places.first)}
        posterior = fit(measured, law, draws=draws, tune=draws, random_seed=0)
        lap("fit")
        found |= {
            "n_steps": float(posterior.stats["n_steps"].mean()),
            "target_accept": posterior.attributes["target_accept"],
        }
        found["problems"] = "; ".join(posterior.diagnostics.problems())
        posterior.save(Path(folder, "fit.nc"))
        lap("save")
        found["file_mib"] = Path(folder, "fit.nc").stat().st_size / 2**20
        again = qb.load_fit(Path(folder, "fit.nc"))
        lap("load")
        found["beta_sd"] = float(again.draws["beta"].std())
        again.summary()
        lap("summary")
        again.predict(n_params=7e9, tokens=[1e11, 1e12], bits=[2, 3, 4], suite=measured["suite"][0])
        lap("predict")
    found["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return found


def main() -> None:
    """Run every table in a process of its own and keep the rows."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--one", nargs=2)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--draws", type=int, default=1000)
    given = parser.parse_args()
    if given.write:
        table(given.one[0], int(given.one[1])).write_parquet(given.write)
        return
    if given.one:
        print(json.dumps(one(given.one[0], int(given.one[1]), given.draws)))
        return
    import polars as pl

    rows = []
    for kind, count in TABLES:
        command = [sys.executable, __file__, "--one", kind, str(count), "--draws", str(given.draws)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        pl.DataFrame(rows, infer_schema_length=None).with_columns(pl.selectors.float().round(3)).write_csv(RESULTS)


if __name__ == "__main__":
    main()
