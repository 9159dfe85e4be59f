"""Every shipped law on the shipped tables with the default settings: `make laws`. Seconds are of CPU.

The suites nano, of thousands of rows, and the table atlas, with its law, have fits of their own: `make nano`, `make
atlas-fit`.
"""

import os
import time
from pathlib import Path

import polars as pl

import qidbayes as qb
from qidbayes.law import law_names
from qidbayes.score.parallel import each

RESULTS = Path(__file__).parent / "laws.csv"


def fitted(pair: tuple[str, str]) -> dict[str, object]:
    """Fit, and return what the diagnostics say, or why the table is refused."""
    law, name = pair
    table = qb.load_table(name)
    if name == "bitnet" and qb.load_law(law).response == "qid":
        table = table.filter(pl.col("qid") > 0)  # 32 rows have none, and no standard error that says why
    started = time.process_time()
    try:
        found = qb.fit(table, law, random_seed=0)
    except qb.InputError as error:
        return {"law": law, "table": name, "refused": str(error)}
    numbers = found.diagnostics.convergence.values()
    return {
        "law": law,
        "table": name,
        "rows": found.data.height,
        "largest_r_hat": round(max(c.r_hat for c in numbers), 4),
        "smallest_ess": round(min(min(c.ess_bulk, c.ess_tail) for c in numbers)),
        "divergences": found.diagnostics.divergences,
        "target_accept": found.attributes["target_accept"],
        "unidentified": ", ".join(found.diagnostics.unidentified),
        "cpu_s": round(time.process_time() - started, 1),
        "failed": "; ".join(found.diagnostics.problems()),
    }


def main() -> None:
    """Fit all, print and write the table."""
    tables = [name for name in qb.list_tables()["name"] if not name.startswith(("nano", "atlas"))]
    pairs = [(law, table) for table in tables for law in law_names() if law != "atlas"]
    rows: list[dict[str, object]] = []
    for row in each(fitted, pairs, int(os.environ.get("JOBS", os.cpu_count() or 1))):
        rows.append(row)
        table = pl.DataFrame(rows, infer_schema_length=None)
        table.write_csv(RESULTS)  # as it grows: all take hours
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=200, fmt_str_lengths=60):
        print(table.filter(pl.col("rows").is_not_null()))


if __name__ == "__main__":
    main()
