"""Ten simulated worlds: how bands hold beyond the data where the truth is known: `make worlds`.

Each world draws tables as of Pythia's runs (six sizes, 13 checkpoints up to 75.5B tokens, 2, 3 and 4 bits), fits the
unified law to them, and asks for measurements of the fitted runs and of new ones at 2, 5 and 20 times as many tokens.
Beside the default stand a discrepancy with slopes that wander, the law taken at its word, the paper's least squares
with a bootstrap, and an oracle, which knows the world and everything about it but the draws of its random effects.
What a table gave is kept in a folder, so that a run that was stopped goes on.
"""

import argparse
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from scipy import stats

import qidbayes as qb
from qidbayes.score.bootstrap import bootstrap
from qidbayes.score.parallel import each

HERE = Path(__file__).parent
JOBS = int(os.environ.get("JOBS", os.cpu_count() or 1))
LAST, BEYOND = 75.5e9, (2, 5, 20)
SETTINGS = {"draws": 250, "chains": 2}
BY = {"default": "smooth", "walk": "walk", "law at its word": "none"}
OWN = 0.05
"""Standard deviation of a measurement's own error, in log QiD."""
KEYS = ("world", "asked", "beyond", "by")


def eq8(row: pl.DataFrame) -> np.ndarray:
    """Return the logarithm of Eq. 8 with constants near those of Pythia."""
    n, d, p = (np.log(row[name].to_numpy() / at) for name, at in (("n_params", 1e9), ("tokens", 1e11), ("bits", 4.0)))
    return np.asarray(np.log(0.04) + 0.47 * d - 0.3 * n - 5.0 * p)


def by_bits(row: pl.DataFrame) -> np.ndarray:
    """Return Eq. 8 with an exponent of D for each width: .35, .47, .59 at 2, 3 and 4 bits."""
    return eq8(row) + 0.12 * (row["bits"].to_numpy() - 3.0) * np.log(row["tokens"].to_numpy() / 1e11)


def ceiling(row: pl.DataFrame) -> np.ndarray:
    """Return Eq. 8 bent at 4 nats."""
    return np.asarray(np.log(4.0) + np.log(-np.expm1(-np.exp(eq8(row)) / 4.0)))


def decay(row: pl.DataFrame) -> np.ndarray:
    """Return a QiD that rises with the decay of the learning rate, a cosine over 300B tokens, and not with D."""
    done = np.minimum(row["tokens"].to_numpy() / 3e11, 1.0)
    at_once = row.with_columns(tokens=pl.lit(1e11))
    return eq8(at_once) - 1.0 + 2.5 * 0.5 * (1.0 - np.cos(np.pi * done))


def break_(row: pl.DataFrame) -> np.ndarray:
    """Return Eq. 8 whose exponent of D doubles at 100B tokens."""
    return eq8(row) + 0.47 * np.maximum(np.log(row["tokens"].to_numpy() / 1e11), 0.0)


def exponential(row: pl.DataFrame) -> np.ndarray:
    """Return exp(-P/0.577) in the place of a power of P: the same at 2 and at 4 bits."""
    p = row["bits"].to_numpy()
    return np.asarray(eq8(row) + 5.0 * np.log(p / 4.0) - (p - 4.0) / 0.577)


def no_effects(row: pl.DataFrame) -> np.ndarray:
    """Return the covariance of a world without random effects."""
    return np.zeros((row.height, row.height))


def run_slopes(row: pl.DataFrame) -> np.ndarray:
    """Return slopes of standard deviation .08 that differ from run to run."""
    d = _from(row, middle=True)
    return np.asarray(_same(row, "model") * 0.08**2 * np.outer(d, d))


def slope_walk(row: pl.DataFrame) -> np.ndarray:
    """Return slopes that wander by .08 an e-folding from the first checkpoint on, half of it in all runs alike."""
    d = np.maximum(_from(row, middle=False), 0.0)
    near, far = np.minimum(d[:, None], d[None, :]), np.maximum(d[:, None], d[None, :])
    return np.asarray(0.5 * (1.0 + _same(row, "model")) * 0.08**2 * near**2 * (3.0 * far - near) / 6.0)


def checkpoints(row: pl.DataFrame) -> np.ndarray:
    """Return errors of standard deviation .15 that all quantizations of a checkpoint share, whatever the method."""
    return np.asarray(_same(row, "model") * (_from(row)[:, None] == _from(row)[None, :]) * 0.15**2)


def _same(row: pl.DataFrame, column: str) -> np.ndarray:
    values = row[column].to_numpy()
    return np.asarray(values[:, None] == values[None, :], dtype=float)


def _from(row: pl.DataFrame, *, middle: bool = False) -> np.ndarray:
    """Return log D over the first of the fitted checkpoints, or over the middle of them."""
    fitted = np.log(row.filter(asked="fitted")["tokens"].to_numpy())
    return np.log(row["tokens"].to_numpy()) - (fitted.mean() if middle else fitted.min())


@dataclass(frozen=True)
class World:
    """The mean of log QiD, the covariance of what rows share, and whether own errors have Student's t with ν = 2."""

    mean: Callable[[pl.DataFrame], np.ndarray] = eq8
    shared: Callable[[pl.DataFrame], np.ndarray] = no_effects
    heavy: bool = False
    methods: bool = False


WORLDS = {
    "Eq. 8": World(),
    "exponents by bits": World(by_bits),
    "ceiling": World(ceiling),
    "learning rate": World(decay),
    "break": World(break_),
    "heavy tails": World(heavy=True),
    "exp(-P/γ)": World(exponential),
    "run slopes": World(shared=run_slopes),
    "slope walk": World(shared=slope_walk),
    "shared errors": World(shared=checkpoints, methods=True),
}


def places(world: World) -> pl.DataFrame:
    """Return the rows that are simulated, and which of them are fitted, or asked how far beyond the data."""
    columns = ("suite", "model", "revision", "n_params", "tokens", "bits", "method", "group_size", "dataset", "source")
    table = (
        qb.load_table("pythia").filter(pl.col("tokens") <= LAST).select(columns).with_columns(asked=pl.lit("fitted"))
    )
    table = table.with_columns(beyond=pl.lit(1))
    last = table.filter(pl.col("tokens") == pl.col("tokens").max().over("model"))
    found = [table]
    for factor in BEYOND:
        later = last.with_columns(
            pl.col("tokens") * factor, beyond=pl.lit(factor), revision=pl.lit(f"×{factor}"), asked=pl.lit("known run")
        )
        found += [later, later.with_columns(pl.col("model") + " again", asked=pl.lit("new run"))]
    if world.methods:  # 4 bits by a second method: 12 rows fitted, the others of the fitted checkpoints asked
        other = table.filter(bits=4.0).with_columns(method=pl.lit("awq"))
        seen = pl.int_range(pl.len()) % (other.height // 12) == 0
        found.append(other.with_columns(asked=pl.when(seen).then(pl.lit("fitted")).otherwise(pl.lit("second method"))))
    return pl.concat(found)


def simulate(world: World, seed: int) -> tuple[pl.DataFrame, np.ndarray, np.ndarray]:
    """Return all rows with what was drawn as their QiD, the mean of log QiD, and the covariance of what they share."""
    row, rng = places(world), np.random.default_rng(seed)
    mean, shared = world.mean(row), world.shared(row)
    if world.methods:
        mean = mean - 0.1 * (row["method"] == "awq").to_numpy()
    values, vectors = np.linalg.eigh(shared)
    effects = vectors @ (np.sqrt(np.maximum(values, 0.0)) * rng.standard_normal(row.height))
    own = 0.06 * rng.standard_t(2, row.height) if world.heavy else OWN * rng.standard_normal(row.height)
    return row.with_columns(qid=pl.Series(np.exp(mean + effects + own))), mean, shared


def oracle(
    world: World, row: pl.DataFrame, mean: np.ndarray, shared: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return PIT, width of the 90% band and log density of each asked row by who knows the world."""
    fitted = (row["asked"] == "fitted").to_numpy()
    log_qid = np.log(row["qid"].to_numpy())
    if world.heavy:
        found = stats.t(2, loc=mean[~fitted], scale=0.06)
    else:
        known = shared[np.ix_(fitted, fitted)] + OWN**2 * np.eye(fitted.sum())
        weights = np.linalg.solve(known, shared[np.ix_(fitted, ~fitted)])
        left = np.diag(shared)[~fitted] - (shared[np.ix_(fitted, ~fitted)] * weights).sum(axis=0)
        center = mean[~fitted] + (log_qid - mean)[fitted] @ weights
        found = stats.norm(center, np.sqrt(np.maximum(left, 0.0) + OWN**2))
    asked = log_qid[~fitted]
    return found.cdf(asked), found.ppf(0.95) - found.ppf(0.05), found.logpdf(asked)


def scores(task: tuple[str, int]) -> pl.DataFrame:
    """Return a row for each asked measurement of one table and each forecaster."""
    name, seed = task
    folder = HERE / "worlds"
    folder.mkdir(exist_ok=True)
    path = folder / f"{list(WORLDS).index(name)}-{seed:03}.parquet"
    if path.exists():
        return pl.read_parquet(path)
    warnings.simplefilter("ignore")
    row, mean, shared = simulate(WORLDS[name], 1000 * list(WORLDS).index(name) + seed)
    fitted = row.filter(asked="fitted").drop("asked", "beyond")
    asked = row.filter(pl.col("asked") != "fitted")
    log_qid = np.log(asked["qid"].to_numpy())
    # A new run is asked without a model; a fitted one brings its own effects along.
    known = pl.when(pl.col("asked") == "new run").then(None).otherwise("model")
    again = pl.col("asked") == "second method"
    question = asked.select(
        "suite", known.alias("model"), pl.when(again).then("revision").alias("revision"),
        "n_params", "tokens", "bits", "method", "group_size", "dataset",
    )  # fmt: skip
    found = []

    def note(by: str, pit: np.ndarray, width: np.ndarray, density: np.ndarray, seconds: float, failed: int) -> None:
        columns = {"held": np.abs(2 * pit - 1) < 0.9, "width": width, "log_density": density}
        found.append(
            asked.select("asked", "beyond").with_columns(
                **{k: pl.Series(v) for k, v in columns.items()},
                by=pl.lit(by), seconds=pl.lit(seconds), failed=pl.lit(failed),
            )
        )  # fmt: skip

    note("oracle", *oracle(WORLDS[name], row, mean, shared), 0.0, 0)
    for by in (*BY, "least squares"):
        started, failed = time.process_time(), 0
        if by == "least squares":
            fit = bootstrap(fitted, qb.load_law("unified"), seed)
        else:
            fit = qb.fit(fitted, qb.load_law("unified").with_noise(discrepancy=BY[by]), random_seed=seed, **SETTINGS)
            failed = int(bool(fit.diagnostics.problems()))
        seconds = time.process_time() - started
        expected = fit.predictive(question)
        low, high = np.quantile(np.concatenate([expected.draws(s) for s in range(5)]), [0.05, 0.95], axis=0)
        note(by, expected.pit(log_qid), high - low, expected.log_density(log_qid), seconds, failed)
    table = pl.concat(found).with_columns(world=pl.lit(name), table=pl.lit(seed))
    table.write_parquet(path)
    return table


def summary(points: pl.DataFrame) -> pl.DataFrame:
    """Return coverage with its standard error over tables, the median width and the mean log density."""
    numbers = (pl.col("held").mean(), pl.col("width").median(), pl.col("log_density").mean())
    tables = points.group_by(*KEYS, "table", maintain_order=True).agg(
        *numbers, pl.len().alias("rows"), pl.col("seconds").first()
    )
    return tables.group_by(*KEYS, maintain_order=True).agg(
        pl.len().alias("tables"),
        pl.col("rows").sum(),
        pl.col("held").mean().alias("coverage_90"),
        (pl.col("held").std() / pl.len().sqrt()).alias("coverage_se"),
        pl.col("width").median().alias("log_width_90"),
        pl.col("log_density").mean(),
        pl.col("seconds").median().alias("cpu_seconds"),
    )


def main() -> None:
    """Simulate, fit and score what is missing, and write benchmarks/worlds.csv."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tables", type=int, default=10, help="of each world")
    given = parser.parse_args()
    tasks = [(name, seed) for seed in range(given.tables) for name in WORLDS]
    found = []
    for points in each(scores, tasks, JOBS):
        found.append(points)
        print(points["world"][0], points["table"][0], flush=True)
    order = pl.col("world").cast(pl.Enum(list(WORLDS)))
    table = summary(pl.concat(found)).sort(order, maintain_order=True).with_columns(pl.selectors.float().round(3))
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=160):
        print(table)
    table.write_csv(HERE / "worlds.csv")


if __name__ == "__main__":
    main()
