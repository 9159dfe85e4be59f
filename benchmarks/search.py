"""What `qidbayes search` says of tables whose law is known, and of shipped ones: `make search`, minutes of one core.

Tables on the 360 rows of Pythia are simulated from Eq. 8 and from a law that falls with each bit by the same factor,
with effects of runs and checkpoints. A row of search.csv counts how often something was better than Eq. 8, and how
often the best form had the truth's factor of P. Rows of shipped tables are one search each.
"""

import resource
import sys
from pathlib import Path

import numpy as np
import polars as pl

import qidbayes as qb

FOUND = Path(__file__).with_suffix(".csv")
SIMULATIONS = 12
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


def cases() -> dict[str, tuple[list[pl.DataFrame], str | None]]:
    """Return the tables of each case, and the truth's factor of P."""
    truths = {"unified": "P**gamma", "precision-ptq": "exp(gamma * P)"}
    found: dict[str, tuple[list[pl.DataFrame], str | None]] = {
        f"from {truth}, {name} scatter": ([simulated(truth, sd, seed) for seed in range(SIMULATIONS)], factor)
        for truth, factor in truths.items()
        for name, sd in SD.items()
    }
    return found | {name: ([table], None) for name, table in shipped().items()}


def main() -> None:
    """Search in the cases whose names begin with what is given, or in all, and keep the rows of the others."""
    kept = pl.read_csv(FOUND, schema_overrides={"factor": pl.Int64}) if FOUND.exists() else None
    for name, (tables, factor) in cases().items():
        if sys.argv[1:] and not any(name.startswith(one) for one in sys.argv[1:]):
            continue
        before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        found = [qb.search(table) for table in tables]
        seconds = (resource.getrusage(resource.RUSAGE_SELF).ru_utime - before) / len(found)
        first = [one.table["equation"][0].split(" + ")[0] for one in found]
        row = pl.DataFrame({
            "table": name, "searches": len(found), "better": sum(one.better is not None for one in found),
            "factor": sum(factor in one for one in first) if factor else None,
            "best": found[0].table["equation"][0], "ahead": float(np.mean([one.ahead for one in found])),
            "p_value": float(np.median([one.p_value for one in found])), "cpu_seconds": seconds,
        }, schema_overrides={"factor": pl.Int64}).with_columns(pl.selectors.float().round_sig_figs(3))  # fmt: skip
        print(row, flush=True)
        kept = row if kept is None else pl.concat([kept.filter(pl.col("table") != name), row])
        kept.write_csv(FOUND)


if __name__ == "__main__":
    main()
