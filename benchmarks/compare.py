"""Every QiD law on the paper's 360 points, by grouped scores and leave-one-out: `make compare`."""

import os
from pathlib import Path

import polars as pl

import qidbayes as qb
from qidbayes.law import law_names
from qidbayes.score.loo import leave_one_out

RESULTS = Path(__file__).parent / "compare.csv"
SPLITS = ["leave n_params", "rolling tokens", "tokens > 50B", "n_params > 5B"]


def main() -> None:
    """Compare, print and write the table."""
    pythia = qb.load_table("pythia")
    # `joint` says of QiD what `unified` does.
    laws = [law for law in map(qb.load_law, law_names()) if law.response == "qid" and law.loss_16bit is None]
    laws = [law for law in laws if set(law.covariates) <= set("NDP")]  # others take columns that these points lack
    # A law with constants of each run or checkpoint says nothing of others: it has no grouped scores.
    general = [law for law in laws if not {"model", "checkpoint"} & set(law.by)]
    found = qb.compare(pythia, general, SPLITS, jobs=int(os.environ.get("JOBS", os.cpu_count() or 1)))
    others = []
    for law in laws:
        if law not in general:
            left_out = leave_one_out(qb.fit(pythia, law, random_seed=0))
            row, checkpoint = left_out["row"], left_out["checkpoint"]
            others.append({"law": law.name, "loo_checkpoint": checkpoint.log_density, "loo_row": row.log_density,
                           "loo_bad": checkpoint.bad})  # fmt: skip
    table = pl.concat([found.table, pl.DataFrame(others)], how="diagonal").with_columns(pl.selectors.float().round(3))
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=220):
        print(table)
    table.write_csv(RESULTS)


if __name__ == "__main__":
    main()
