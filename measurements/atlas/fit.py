"""Fit law `atlas` to table `atlas`, as it is shipped: python measurements/atlas/fit.py, which `make atlas-fit` runs."""

from pathlib import Path

import qidbayes as qb

if __name__ == "__main__":
    found = qb.fit(qb.load_table("atlas"), "atlas", draws=680, tune=300, chains=4, random_seed=0)
    print(found, *found.diagnostics.problems(), sep="\n")
    found.save(Path(__file__).with_name("atlas.nc"))
