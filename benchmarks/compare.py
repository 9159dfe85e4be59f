"""Every QiD law on the paper's 360 points, by grouped scores and leave-one-out: `make compare`."""

import os
from pathlib import Path

import polars as pl

import qidbayes as qb
from qidbayes.law import law_names

RESULTS = Path(__file__).parent / "compare.csv"
SPLITS = ["leave n_params", "rolling tokens", "tokens > 50B", "n_params > 5B"]


def main() -> None:
    """Compare, print and write the table."""
    pythia = qb.load_table("pythia")
    laws = [qb.load_law(name) for name in law_names()]
    jobs = int(os.environ.get("JOBS", os.cpu_count() or 1))
    found = qb.compare(pythia, [law for law in laws if law.response == "qid"], SPLITS, jobs=jobs)
    table = found.table.with_columns(pl.selectors.float().round(3))
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=220):
        print(table)
    table.write_csv(RESULTS)


if __name__ == "__main__":
    main()
