"""A fit's means and standard deviations against an ensemble of walkers on one dense normal; `make exact` is longer.

Nothing is shared but the priors: the covariance is that of `benchmarks/exact.py`, pair by pair, and the walkers take no
derivative and no proposal of ours (Goodman and Weare 2010, stretch moves).
"""

import sys
from pathlib import Path

import numpy as np
import polars as pl

import qidbayes as qb
from qidbayes.posterior.contraction import noise_priors

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import exact

ROWS, WALKERS, STEPS = 24, 100, 1_500


def rows() -> pl.DataFrame:
    """Two suites of runs at no common tokens, with standard errors that differ from row to row."""
    table = qb.load_table("pythia").filter(pl.col("n_params") < 3e9).sample(ROWS, seed=1)
    rng = np.random.default_rng(0)
    return table.with_columns(
        suite=pl.Series(rng.choice(["one", "other"], ROWS)),
        tokens=(pl.col("tokens") * pl.Series(rng.uniform(0.8, 1.2, ROWS))).cast(pl.Int64),
        revision=pl.Series([f"row {i}" for i in range(ROWS)]),
        qid_se=pl.col("qid") * pl.Series(rng.uniform(0.0, 0.15, ROWS)),
        loss=None,
        loss_16bit=None,
    ).with_columns(model=pl.col("model") + pl.col("suite"))


def walked(table: pl.DataFrame, names: list[str], law: qb.Law) -> dict[str, np.ndarray]:
    """Return draws of the noise's numbers, their logarithms; shape ``(walkers, steps)``."""
    effects, mean, variance = exact.columns(table, law)
    residual = np.log(table["qid"].to_numpy()) - effects @ mean
    relative = (table["qid_se"] / table["qid"]).to_numpy()
    fixed = effects * variance @ effects.T + np.diag(relative**2)
    priors = noise_priors(law)

    def numbers(z: np.ndarray) -> dict[str, np.ndarray]:
        return {name: priors[name].from_normal(z[:, i]) for i, name in enumerate(names)}

    def density(z: np.ndarray) -> np.ndarray:
        scale = {name: values[:, None, None] for name, values in numbers(z).items()}
        full = exact.covariance(table, scale, np) + fixed + scale["sigma"] ** 2 * np.eye(ROWS)
        root = np.linalg.cholesky(full)
        reduced = np.linalg.solve(root, residual[:, None])[..., 0]
        log_determinant = np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1)
        return np.asarray(-log_determinant - 0.5 * np.square(reduced).sum(axis=1) - 0.5 * np.square(z).sum(axis=1))

    rng, half = np.random.default_rng(3), WALKERS // 2
    z = 0.5 * rng.standard_normal((WALKERS, len(names)))
    value, kept = density(z), []
    for _ in range(STEPS):
        for some in (slice(0, half), slice(half, WALKERS)):
            others = np.delete(z, np.r_[some], axis=0)[rng.integers(0, half, half)]
            stretch = (1.0 + rng.random(half)) ** 2 / 2.0
            moved = others + stretch[:, None] * (z[some] - others)
            there = density(moved)
            taken = np.log(rng.random(half)) < (len(names) - 1) * np.log(stretch) + there - value[some]
            z[some], value[some] = np.where(taken[:, None], moved, z[some]), np.where(taken, there, value[some])
        kept.append(z.copy())
    draws = np.stack(kept[STEPS // 5 :], axis=1)
    return {name: values.reshape(draws.shape[:2]) for name, values in numbers(draws.reshape(-1, len(names))).items()}


def test_moments_are_those_of_walkers_on_one_dense_normal() -> None:
    """Means and standard deviations of eight numbers within 4 Monte Carlo standard errors of both."""
    table, law = rows(), qb.load_law("unified")
    ours, sampler = exact.shipped(table)
    assert sampler == "independence"
    names = [name for name in noise_priors(law) if name in ours]
    found = exact.compare(ours, walked(table, names, law))
    assert len(found) == 2 * len(names) == 16
    assert max(abs(float(str(one["difference"]))) for one in found) < 4.0, found
