"""Pairs of fits whose arrays have equal shapes and whose programs differ; run as a script, in the other order."""

import dataclasses
import hashlib
import sys
import warnings
from collections.abc import Callable

import numpy as np
import polars as pl
from plain import plain

import qidbayes as qb
from qidbayes.law import Law

SETTINGS = {"draws": 50, "tune": 100, "chains": 1, "random_seed": 5}


def rows() -> pl.DataFrame:
    """Rows with standard errors, which have no sufficient statistics: 3 models, 3 times, 3 widths."""
    table = qb.load_table("pythia")
    models, times = table["model"].unique(maintain_order=True)[:3], table["tokens"].unique().sort()[[5, 10, 15]]
    table = table.filter(pl.col("model").is_in(models.to_list()) & pl.col("tokens").is_in(times.to_list()))
    return table.with_columns(qid_se=0.02 * pl.col("qid"))


def without(place: int) -> pl.DataFrame:
    """All but one of them, in the order of the design."""
    table = rows().sort("model", "tokens", "bits")
    return table.filter(pl.int_range(pl.len()) != place)


def by(column: str) -> Law:
    law = plain("unified")
    return dataclasses.replace(
        law, priors={**law.priors, "beta": qb.Prior("Normal", mu=0.5, sigma=0.3, by=column, pooling="none")}
    )


def other_equation() -> Law:
    law = plain("unified")
    return dataclasses.replace(law, equation=law.equation.replace("D", "X").replace("N", "D").replace("X", "N"))


def at(n: float) -> Law:
    return dataclasses.replace(plain("unified"), reference={"N": n, "D": 1e11, "P": 4})


def with_prior_from(group: str) -> Callable[[], qb.Fit]:
    def fit() -> qb.Fit:
        table, law = qb.load_table("pythia"), plain("unified")
        early = qb.fit(table, law.with_noise(groups=(group,)), **SETTINGS)
        # Where the borrowed standard deviation is not believed, this shows: it is a twentieth of the table's own.
        draws = {**early.draws, f"{group}_sd": 0.05 * early.draws[f"{group}_sd"]}
        return qb.fit(table, law, prior_from=dataclasses.replace(early, draws=draws), **SETTINGS)

    return fit


def of(table: Callable[[], pl.DataFrame], law: Callable[[], Law]) -> Callable[[], qb.Fit]:
    return lambda: qb.fit(table(), law(), **SETTINGS)


PAIRS = {
    "prior_from of other noise": (with_prior_from("checkpoint"), with_prior_from("model")),
    "other noise groups": tuple(
        of(rows, lambda g=g: plain("unified").with_noise(groups=(g,)))  # type: ignore[misc]
        for g in ("checkpoint", "model")
    ),
    "other columns of as many groups": tuple(
        of(rows, lambda c=c: by(c))
        for c in ("model", "bits")  # type: ignore[misc]
    ),
    "other equations of as many parameters": (of(rows, lambda: plain("unified")), of(rows, other_equation)),
    "other noise families": tuple(
        of(rows, lambda f=f: plain("unified").with_noise(groups=(), family=f))  # type: ignore[misc]
        for f in ("normal", "student_t")
    ),
    "other references": tuple(of(rows, lambda n=n: at(n)) for n in (1e8, 1e9)),  # type: ignore[misc]
    "other priors": tuple(
        of(rows, lambda s=s: plain("unified").with_noise(scale=s))
        for s in (0.5, 0.1)  # type: ignore[misc]
    ),
    "gaps elsewhere": tuple(
        of(lambda i=i: without(i), lambda: qb.load_law("unified"))
        for i in (4, 17)  # type: ignore[misc]
    ),
}


def digests(reverse: bool) -> dict[str, str]:
    """Return a digest of the draws of every fit, the first of each pair first or last."""
    names = [(name, i) for name in PAIRS for i in (0, 1)]
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # so few draws are not to be trusted
        for name, i in reversed(names) if reverse else names:
            fit, hash_ = PAIRS[name][i](), hashlib.sha256()
            for variable, values in sorted(fit.draws.items()):
                hash_.update(variable.encode() + np.ascontiguousarray(values).tobytes())
            found[f"{name} {i}"] = hash_.hexdigest()
    return found


if __name__ == "__main__":
    for name, digest in digests(reverse=True).items():
        sys.stdout.write(f"{name}\t{digest}\n")
