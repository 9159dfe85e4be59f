"""The density under the discrepancy against a multivariate normal, on every shape of table treated apart."""

import numpy as np
import polars as pl
import pytensor.tensor as pt
import pytest
from scipy.stats import multivariate_normal, norm

import qidbayes as qb
from qidbayes.infer import smooth
from qidbayes.infer.design import Design, design
from qidbayes.infer.model import build_model
from qidbayes.posterior.discrepancy import covariance

SCALE = {
    "smooth_sd": 0.4,
    "suite_sd": 0.3,
    "model_sd": 0.15,
    "checkpoint_sd": 0.05,
    "length_params": 1.1,
    "length_tokens": 1.2,
    "length_bits": 0.9,
    "similarity": 0.6,
}
SIGMA = 0.1
LAW = qb.load_law("unified")


def small() -> pl.DataFrame:
    table = qb.load_table("pythia")
    tokens = table["tokens"].unique().sort()[::4].implode()
    return table.filter(pl.col("n_params") < 3e9, pl.col("tokens").is_in(tokens))


def with_suite(count: int) -> pl.DataFrame:
    return qb.join_tables(small(), qb.load_table("spectra").head(count))


def staggered() -> pl.DataFrame:
    table = qb.load_table("pythia").filter(pl.col("n_params") < 3e9)
    place, size = pl.col("tokens").rank("dense"), pl.col("n_params").rank("dense")
    return table.filter(place % 4 == size - 1)


TABLES = {
    "models × tokens × bits": (small(), (20, 3), 4, 0),
    "with rows of another suite": (with_suite(5), (20, 3), 4, 5),
    "a corner left out": (small().filter((pl.col("n_params") < 5e8) | (pl.col("tokens") < 5e10)), (12, 3), 4, 12),
    "one length of training": (qb.load_table("spectra"), (9, 2), 9, 0),
    "runs × bits": (staggered(), (20, 3), 0, 0),
    "no grid": (small().sample(12, seed=1), None, 0, None),
}


@pytest.mark.parametrize("name", TABLES)
def test_density_is_that_of_a_multivariate_normal(name: str) -> None:
    table, shape, models, rest = TABLES[name]
    rows = design(table, LAW)
    assert shape is None or (rows.grid.rows.shape, rows.grid.models, len(rows.grid.rest)) == (shape, models, rest)
    full = covariance(SCALE, rows.cells, rows.cells, np) + SIGMA**2 * np.eye(len(rows.response))
    residual = np.linalg.cholesky(full) @ np.random.default_rng(0).standard_normal(len(full))
    found = smooth.log_density(
        pt.as_tensor(residual),
        pt.as_tensor(np.full(len(full), SIGMA**2)),
        SCALE,
        {key: pt.as_tensor(values.astype(float)) for key, values in rows.cells.items()},
        rows.grid,
        pt.as_tensor(rows.grid.rows),
        pt.as_tensor(rows.grid.rest.astype(int)),
    )
    expected = multivariate_normal.logpdf(residual, np.zeros(len(full)), full)
    assert found.eval(mode="FAST_COMPILE") == pytest.approx(expected, abs=1e-5)


def test_noisy_rows_are_measured_around_their_true_qid() -> None:
    table = small().sort("model", "tokens", "revision", "method", "bits").head(9)
    error = np.where(np.arange(9) % 3 == 2, 0.5 * table["qid"].to_numpy(), 0.0)
    rows = design(table.with_columns(pl.Series("qid_se", error)), LAW)
    model = build_model(rows)
    point = model.initial_point()
    point["latent"] = np.array([0.3, -0.5, 0.2])
    noisy = rows.latent["latent_row"]
    assert list(noisy) == [2, 5, 8]
    found = model.compile_logp(vars=model.potentials, mode="FAST_COMPILE")(point)
    log_true = rows.log_response.copy()
    log_true[noisy] += np.sqrt(np.minimum(rows.variance[noisy], 1.0)) * point["latent"]
    one = _natural(rows, point)
    law = np.log(one["k_ref"]) + one["beta"] * rows.log_covariates["D"] - one["alpha"] * rows.log_covariates["N"]
    law = law - one["gamma"] * rows.log_covariates["P"]
    full = covariance({n: one[n] for n in SCALE}, rows.cells, rows.cells, np) + one["sigma"] ** 2 * np.eye(9)
    expected = multivariate_normal.logpdf(log_true, law, full)
    # The constant of the normal's density, which no parameter changes, is left out.
    expected += norm.logpdf(rows.response[noisy], np.exp(log_true[noisy]), error[noisy]).sum() + 1.5 * np.log(2 * np.pi)
    assert found == pytest.approx(expected, abs=1e-5)


def _natural(rows: Design, point: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the values of a point on the real line, by the names of the model's variables."""
    priors = {rows.law.sampled_name(name): prior for name, prior in rows.law.priors.items()} | rows.errors
    values = {key.split("_log__")[0].split("_logodds__")[0]: value for key, value in point.items()}
    return {name: float(prior.constrain(np.asarray(values[name]))) for name, prior in priors.items()}


def test_every_row_is_in_the_grid_or_beside_it() -> None:
    for table, *_ in TABLES.values():
        rows = design(table, LAW)
        assert sorted([*rows.grid.rows.ravel(), *rows.grid.rest]) == list(range(table.height))
