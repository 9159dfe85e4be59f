"""What `qidbayes search` says of tables whose law is known, and of shipped ones: `make search`, minutes of one core.

Tables on the 360 rows of Pythia are simulated from Eq. 8 and from a law that falls with each bit by the same factor,
with effects of runs and checkpoints. A row of search.csv counts how often something was better than Eq. 8, and how
often the best form had the truth's factor of P. Rows of shipped tables are one search each.
"""

import argparse
import resource
from pathlib import Path

import numpy as np
import polars as pl

import qidbayes as qb

FOUND = Path(__file__).with_suffix(".csv")
SD = {"usual": (0.10, 0.05, 0.05), "large": (0.25, 0.10, 0.10)}
"""Of runs, checkpoints and rows."""


def simulated(truth: str, sd: tuple[float, float, float], seed: int) -> pl.DataFrame:
    """Return Pythia's rows with a simulated QiD."""
    table, rng = qb.load_table("pythia"), np.random.default_rng(seed)
    n, d, p = (table[name].cast(pl.Float64).to_numpy() for name in ("n_params", "tokens", "bits"))
    log_qid = np.log(0.05) + 0.5 * np.log(d / 1e11) - 0.25 * np.log(n / 1e9)
    log_qid += -5.5 * np.log(p / 4) if truth == "unified" else -(p - 4) / 0.65
    for columns, spread in zip((["model"], ["model", "tokens"]), sd, strict=False):
        group = table.select(pl.struct(columns).rank("dense") - 1).to_series().to_numpy()
        log_qid += spread * rng.standard_normal(group.max() + 1)[group]
    log_qid += sd[2] * rng.standard_normal(table.height)
    return table.with_columns(qid=pl.Series(np.exp(log_qid)), loss=None, loss_16bit=None)


def shipped() -> dict[str, pl.DataFrame]:
    """Return tables of one method, group size and evaluation set, of four models or more."""
    nano = qb.load_table("nano").filter(pl.col("group_size") == 64, pl.col("bits") <= 4, method="gptq")
    return {"pythia": qb.load_table("pythia"), "nano, GPTQ at 2 to 4 bits, groups of 64": nano}


def main() -> None:
    """Search in all of them, and write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--simulations", type=int, default=20)
    count, rows = parser.parse_args().simulations, []
    for truth, factor in (("unified", "P**gamma"), ("precision-ptq", "exp(gamma * P)")):
        for name, sd in SD.items():
            before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
            found = [qb.search(simulated(truth, sd, seed)) for seed in range(count)]
            seconds = (resource.getrusage(resource.RUSAGE_SELF).ru_utime - before) / count
            rows.append({
                "table": f"simulated from {truth}, {name} scatter", "searches": count,
                "better": sum(one.better is not None for one in found),
                "factor": sum(factor in one.table["equation"][0].split(" + ")[0] for one in found),
                "best": found[0].table["equation"][0], "ahead": float(np.mean([one.ahead for one in found])),
                "p_value": float(np.median([one.p_value for one in found])), "cpu_seconds": seconds,
            })  # fmt: skip
            print(rows[-1], flush=True)
    for name, table in shipped().items():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        one = qb.search(table)
        rows.append({
            "table": name, "searches": 1, "better": int(one.better is not None), "factor": None,
            "best": one.table["equation"][0], "ahead": one.ahead, "p_value": one.p_value,
            "cpu_seconds": resource.getrusage(resource.RUSAGE_SELF).ru_utime - before,
        })  # fmt: skip
        print(rows[-1], flush=True)
    frame = pl.DataFrame(rows, infer_schema_length=None).with_columns(pl.selectors.float().round_sig_figs(3))
    frame.write_csv(FOUND)


if __name__ == "__main__":
    main()
