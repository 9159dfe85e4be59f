"""How often 90% bands of the unified law hold measured points they were not fitted to: `make bench-held-out`."""

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl

import qidbayes as qb

RESULTS = Path(__file__).parent / "held_out.csv"
SPLITS = {
    "D > 100B": pl.col("tokens") > 100e9,
    "D > 50B": pl.col("tokens") > 50e9,
    "N > 5B": pl.col("n_params") > 5e9,
    "D < 16B": pl.col("tokens") < 16e9,
}


def main() -> None:
    """Fit to the rest of the paper's 360 points, ask about the held-out ones, count."""
    table, law = qb.load_table("pythia"), qb.load_law("unified")
    rows = []
    for split, held_out in SPLITS.items():
        seen, unseen = table.filter(~held_out), table.filter(held_out)
        for groups in ((), ("model", "checkpoint")):
            fit = qb.fit(seen, dataclasses.replace(law, noise=qb.Noise(groups=groups)), random_seed=0)
            assert not fit.diagnostics.problems()
            # A run that was fitted is asked about by name, a new one as a new one.
            known = bool(groups) and unseen["model"].is_in(seen["model"].unique().to_list()).all()
            columns = ["n_params", "tokens", "bits", "qid", *(["model"] if known else [])]
            band = fit.predict(unseen.select(columns))
            rows.append(
                {
                    "held_out": split,
                    "points": unseen.height,
                    "shared_effects": ", ".join(groups) or "none",
                    "coverage_of_90": float(band["qid"].is_between(band["lower"], band["upper"]).mean()),
                    "median_log_width": float(np.log(band["upper"] / band["lower"]).median()),
                    "mean_log_error": float(np.log(band["qid"] / band["median"]).mean()),
                }
            )
    frame = pl.DataFrame(rows).with_columns(pl.selectors.float().round(2))
    with pl.Config(tbl_rows=-1, tbl_width_chars=120):
        print(frame)
    frame.write_csv(RESULTS)


if __name__ == "__main__":
    main()
