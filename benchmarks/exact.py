"""Means and standard deviations of a fit beside those of PyMC's NUTS on one dense normal: `make exact`.

The dense path shares the priors with the package and nothing else: its covariance is written here pair by pair, the
constants are in it by their columns, and `pm.sample` draws what is left. Five shapes of tables of some 130 rows.
`difference` is in Monte Carlo standard errors of both together.
"""

import argparse
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import arviz_stats.base
import numpy as np
import polars as pl
import pymc as pm
import pytensor.tensor as pt

import qidbayes as qb
from qidbayes.law.prior import Prior
from qidbayes.posterior.contraction import noise_priors

RESULTS = Path(__file__).parent / "exact.csv"
CONSTANTS = ("log k_ref", "beta", "alpha", "gamma")


def shapes() -> dict[str, pl.DataFrame]:
    """Return the tables."""
    rng = np.random.default_rng(0)
    pythia = qb.load_table("pythia")
    small = pythia.filter(pl.col("n_params") < 3e9, pl.col("tokens").rank("dense") % 4 == 0)
    others = qb.load_table("pythia/awq-bnb").filter(pl.col("n_params") < 3e9, pl.col("tokens").rank("dense") % 3 == 0)
    spectra = qb.load_table("spectra").filter(pl.col("qid") > 0)
    # Below 20 standard errors a row's true QiD is sampled: its error is no normal one of the logarithm.
    nano = qb.load_table("nano").filter(pl.col("qid") > 20 * pl.col("qid_se"), pl.col("bits") < 5)
    nano = nano.filter(pl.Series(rng.random(nano.height) < 120 / nano.height))
    # 30 runs whose checkpoints are at no common tokens.
    jitter = np.exp(rng.uniform(-0.3, 0.3, pythia.height))
    irregular = pythia.with_columns(
        model=pl.col("model") + "-" + pl.Series(rng.integers(0, 5, pythia.height)).cast(pl.String),
        tokens=(pl.col("tokens") * pl.Series(jitter)).cast(pl.Int64),
        revision=pl.Series([f"row {i}" for i in range(pythia.height)]),
        loss=None, loss_16bit=None,
    ).filter(pl.Series(rng.random(pythia.height) < 1 / 3))  # fmt: skip
    return {
        "grid": pythia.filter(pl.col("tokens").rank("dense") % 3 == 0),
        "grid with holes": pythia.filter(pl.Series(rng.random(pythia.height) < 0.4)),
        "irregular": irregular,
        "suites and methods": qb.join_tables(small, others, spectra),
        "measurement errors": nano,
    }


def covariance(rows: pl.DataFrame, scale: Mapping[str, Any], xp: Any) -> Any:
    """Return the covariance of the rows' logarithms but for their own errors, pair by pair; ``(rows, rows)``."""

    def same(*columns: str) -> np.ndarray:
        labels = np.array([str(row) for row in rows.select(columns).rows()])
        return (labels[:, None] == labels[None, :]).astype(float)

    def near(column: str, length: str) -> Any:
        at = np.log(rows[column].cast(pl.Float64).to_numpy())
        r = np.sqrt(5.0) * np.abs(at[:, None] - at[None, :]) / scale[length]
        return (1.0 + r + r**2 / 3.0) * xp.exp(-r)

    smooth = near("n_params", "length_params") * near("tokens", "length_tokens")
    found = same("suite") * (scale["suite_sd"] ** 2 + scale["smooth_sd"] ** 2 * smooth)
    for group, columns in (("model", ["model"]), ("checkpoint", ["model", "revision"])):
        if f"{group}_sd" in scale:
            found = found + same(*columns) * scale[f"{group}_sd"] ** 2
    kind = same("method", "group_size", "dataset")
    return found * near("bits", "length_bits") * (scale["similarity"] + (1.0 - scale["similarity"]) * kind)


def columns(rows: pl.DataFrame, law: qb.Law) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what each constant of Eq. 8 multiplies in log QiD, and the means and variances of their priors."""
    n, d, p = (rows[c].cast(pl.Float64).to_numpy() for c in ("n_params", "tokens", "bits"))
    at = {symbol: float(value) for symbol, value in law.reference.items()}
    effects = [np.ones(rows.height), np.log(d / at["D"]), -np.log(n / at["N"]), -np.log(p / at["P"])]
    given = [dict(law.priors[name].arguments) for name in ("k", "beta", "alpha", "gamma")]
    return np.stack(effects, axis=1), np.array([g["mu"] for g in given]), np.array([g["sigma"] ** 2 for g in given])


def _variable(name: str, prior: Prior) -> Any:
    return getattr(pm, prior.family)(name, **dict(prior.arguments))


def dense(rows: pl.DataFrame, names: list[str], law: qb.Law, settings: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return draws by PyMC's NUTS on one dense normal, and of the constants given them; shape ``(chains, draws)``."""
    effects, mean, variance = columns(rows, law)
    y = np.log(rows["qid"].to_numpy())
    relative = (
        (rows["qid_se"].fill_null(0.0) / rows["qid"]).to_numpy() if "qid_se" in rows.columns else np.zeros(len(y))
    )
    of_constants = effects * variance @ effects.T
    priors = noise_priors(law)
    with pm.Model():
        scale = {name: _variable(name, priors[name]) for name in names}
        full = covariance(rows, scale, pt) + of_constants + pt.diag(scale["sigma"] ** 2 + relative**2)
        pm.MvNormal("y", effects @ mean, cov=full, observed=y)
        tree = pm.sample(**settings, nuts_sampler="numpyro", random_seed=1, target_accept=0.9, progressbar=False)
    drawn = {name: tree["posterior"][name].values for name in names}
    rng = np.random.default_rng(2)
    chains, draws = drawn["sigma"].shape
    constants = np.empty((chains, draws, len(mean)))
    for at in np.ndindex(chains, draws):
        one = {name: values[at] for name, values in drawn.items()}
        own = covariance(rows, one, np) + np.diag(one["sigma"] ** 2 + relative**2)
        precision = np.linalg.inv(np.diag(1.0 / variance) + effects.T @ np.linalg.solve(own, effects))
        centre = precision @ (mean / variance + effects.T @ np.linalg.solve(own, y))
        constants[at] = rng.multivariate_normal(centre, precision)
    return drawn | {name: constants[..., i] for i, name in enumerate(CONSTANTS)}


def shipped(rows: pl.DataFrame, **settings: Any) -> tuple[dict[str, np.ndarray], str]:
    """Return the draws of `qidbayes.fit`, and how they were drawn."""
    fit = qb.fit(rows, "unified", random_seed=0, **settings)
    drawn = {name: fit.draws[name] for name in (*noise_priors(fit.law), "beta", "alpha", "gamma") if name in fit.draws}
    return drawn | {"log k_ref": np.log(fit.draws["k_ref"])}, fit.attributes["sampler"]


def compare(ours: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> list[dict[str, object]]:
    """Return means and standard deviations of both, and how many Monte Carlo standard errors they are apart."""
    found: list[dict[str, object]] = []
    for name in other:
        both = [_moments(name, drawn[name]) for drawn in (ours, other)]
        for what in ("mean", "sd"):
            (one, error), (two, other_error) = both[0][what], both[1][what]
            apart = (one - two) / np.hypot(error, other_error)
            found.append({"quantity": name, "what": what, "fit": one, "dense": two, "difference": apart})
    return found


def _moments(name: str, values: np.ndarray) -> dict[str, tuple[float, float]]:
    values = values if name in CONSTANTS else np.log(values)  # the scales are positive
    mcse = arviz_stats.base.array_stats.mcse
    return {
        what: (float(number), float(mcse(values, chain_axis=0, draw_axis=1, method=what)))
        for what, number in (("mean", values.mean()), ("sd", values.std(ddof=1)))
    }


def main() -> None:
    """Compare on every shape."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", choices=list(shapes()), action="append", help="of these alone, into the same table")
    chosen = parser.parse_args().shape
    warnings.simplefilter("ignore")
    law, found = qb.load_law("unified"), []
    for shape, table in shapes().items():
        if chosen and shape not in chosen:
            continue
        ours, sampler = shipped(table)
        names = [name for name in noise_priors(law) if name in ours]
        of_shape = compare(ours, dense(table, names, law, {"tune": 400, "draws": 500, "chains": 4}))
        found += [{"shape": shape, "rows": table.height, "sampler": sampler, **one} for one in of_shape]
        worst = max(of_shape, key=lambda one: abs(one["difference"]))  # type: ignore[arg-type]
        print(shape, table.height, "rows:", worst, flush=True)
    made = pl.DataFrame(found).with_columns(pl.selectors.float().round(4))
    if chosen and RESULTS.exists():
        made = pl.concat([pl.read_csv(RESULTS).filter(~pl.col("shape").is_in(chosen)), made])
    made.write_csv(RESULTS)


if __name__ == "__main__":
    main()
