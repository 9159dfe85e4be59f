"""The density under the discrepancy against a multivariate normal, on every shape of table treated apart."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from dense import ERRORS, covariance, variance, with_errors
from scipy.stats import multivariate_normal, norm

import qidbayes as qb
from qidbayes.infer.inputs import Inputs, inputs
from qidbayes.infer.model import model_of_inputs
from qidbayes.noise import gp_density

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


def without(count: int) -> pl.DataFrame:
    return small().sample(60 - count, seed=2)


def schedules() -> pl.DataFrame:
    """Two more runs of two sizes at the same tokens, one of them shorter: places (N, D) of several models."""
    table = small()
    again = table.filter(pl.col("n_params") < 8e8).with_columns(pl.col("model") + "-again")
    return pl.concat([staggered(), table, again]).unique(["model", "revision", "bits"], maintain_order=True)


def suites(count: int, table: pl.DataFrame | None = None) -> pl.DataFrame:
    """The same runs as if of several suites."""
    table = small() if table is None else table
    return pl.concat(
        table.with_columns(suite=pl.lit(f"suite {i}"), model=pl.col("model") + f" {i}") for i in range(count)
    )


def shared_model() -> pl.DataFrame:
    """Two suites with one model in both."""
    table = suites(2)
    one = table["model"][0]
    return table.with_columns(model=pl.when(pl.col("model") == f"{one[:-2]} 1").then(pl.lit(one)).otherwise("model"))


def one_model_of_both() -> pl.DataFrame:
    """Two suites that share a model, and no checkpoint of it."""
    again = pl.col("suite") == "suite 1"
    return shared_model().with_columns(
        revision=pl.when(again).then(pl.col("revision") + " again").otherwise("revision")
    )


def methods() -> pl.DataFrame:
    """The same checkpoints by two methods."""
    return pl.concat([small(), small().with_columns(method=pl.lit("awq"))])


# The table, and of each block the grid's runs and widths, its models, holes and the rest.
TABLES = {
    "models × tokens × bits": (small(), [((20, 3), 4, 0, 0)]),
    "with rows of another suite": (with_suite(5), [((20, 3), 4, 0, 0), None]),
    "a corner left out": (small().filter((pl.col("n_params") < 5e8) | (pl.col("tokens") < 5e10)), None),
    "few rows": (qb.load_table("spectra"), [((0, 0), 0, 0, 18)]),
    "runs × bits": (staggered(), [((20, 3), 0, 0, 0)]),
    "no grid": (small().sample(12, seed=1), None),
    "a few left out": (without(3), [((20, 3), 4, 3, 0)]),
    "many left out": (without(25), None),
    "several models of a size": (schedules(), None),
    "equal suites": (suites(3), [((20, 3), 4, 0, 0)] * 3),
    "equal suites of runs": (suites(3, staggered()), [((20, 3), 0, 0, 0)] * 3),
    "equal suites with gaps": (suites(3).filter(~((pl.col("bits") == 4) & (pl.col("tokens") < 5e9))), None),
    "suites with a model in both": (shared_model(), None),
    "suites with a model in both and no checkpoint": (one_model_of_both(), None),
    "some quantized twice, with other settings": (
        pl.concat([small(), small().head(7).with_columns(settings=pl.lit("imatrix"))]),
        [((20, 3), 4, 0, 7)],
    ),
    "two methods": (methods(), [((20, 6), 4, 0, 0)]),
    "two methods and a group size": (
        pl.concat([methods(), methods().head(7).with_columns(group_size=pl.lit(32, pl.Int64))]),
        None,
    ),
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("by", [False, True])
@pytest.mark.parametrize("errors", [False, True])
def test_density_is_that_of_a_multivariate_normal(name: str, by: bool, errors: bool) -> None:
    table, expected_blocks = TABLES[name]
    # No two rows have one QiD: suites that stand alike differ.
    table = with_errors(table)
    if not errors:
        table = table.with_columns(qid_se=0.0)
    priors = {**LAW.priors, "beta": qb.Prior("Normal", mu=0.5, sigma=0.5, by="suite", pooling="none")}
    if by and table["suite"].n_unique() == 1:
        pytest.skip("one suite")
    rows = inputs(table, replace(LAW, priors=priors) if by else LAW)
    for block, expected in zip(rows.partition.blocks, expected_blocks or [], strict=False):
        grid = block.grid
        assert expected in (None, (grid.rows.shape, grid.models, grid.holes.shape[1], len(grid.rest)))
    suite = np.unique(rows.frame["suite"], return_inverse=True)[1]
    step = (0.3 + by * 0.1 * np.sin(suite)) * rows.log_covariates["D"] - 0.2
    residual = rows.log_response - step
    found = _density(rows, residual)
    assert found == pytest.approx(_dense(rows.frame, residual, variance(rows.frame)), rel=1e-6, abs=1e-4)


def _density(rows: Inputs, residual: np.ndarray) -> float:
    where = rows.partition
    own = SIGMA**2 + rows.variance[where.order]
    return float(gp_density.log_density(residual[where.order], own, SCALE, where.shapes, where.arrays, np))


def _dense(frame: pl.DataFrame, residual: np.ndarray, own: np.ndarray) -> float:
    """Return the log density by SciPy's multivariate normal."""
    full = covariance(SCALE, frame, frame) + np.diag(SIGMA**2 + own)
    return float(multivariate_normal.logpdf(residual, np.zeros(len(full)), full))


@pytest.mark.parametrize("name", ["with rows of another suite", "a few left out", "many left out", "no grid"])
def test_within_a_grid_a_width_has_the_mean_of_its_variances(name: str) -> None:
    """Errors of a row's own: 0 to 4.5% of QiD. Rows beside the grid keep theirs, and what is not there has none."""
    table = with_errors(TABLES[name][0])
    share = np.random.default_rng(5).uniform(0.0, 0.045, table.height)
    rows = inputs(table.with_columns(qid_se=pl.Series(share) * pl.col("qid")), LAW)
    own = variance(rows.frame)
    for block in rows.partition.blocks:
        for width in block.grid.rows.T:
            measured = block.members[width[width >= 0]]
            own[measured] = own[measured].mean()
    found = _density(rows, rows.log_response)
    assert found == pytest.approx(_dense(rows.frame, rows.log_response, own), rel=1e-6, abs=1e-4)


def test_noisy_rows_are_measured_around_their_true_qid() -> None:
    table = small().sort("model", "tokens", "revision", "method", "bits").head(9)
    share = table["bits"].replace_strict(ERRORS).to_numpy().copy()
    error = np.where(np.arange(9) % 3 == 2, 0.5, share) * table["qid"].to_numpy()
    rows = inputs(table.with_columns(pl.Series("qid_se", error)), LAW)
    model = model_of_inputs(rows)
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
    share[noisy] = 0.0  # their true QiD has no error of measurement
    full = covariance({n: one[n] for n in SCALE}, rows.frame, rows.frame) + np.diag(one["sigma"] ** 2 + share**2)
    expected = multivariate_normal.logpdf(log_true, law, full)
    # The constant of the normal's density, which no parameter changes, is left out.
    expected += norm.logpdf(rows.response[noisy], np.exp(log_true[noisy]), error[noisy]).sum() + 1.5 * np.log(2 * np.pi)
    assert found == pytest.approx(expected, abs=1e-5)


def _natural(rows: Inputs, point: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the values of a point on the real line, by the names of the model's variables."""
    priors = {rows.law.sampled_name(name): prior for name, prior in rows.law.priors.items()} | rows.errors
    values = {key.split("_log__")[0].split("_logodds__")[0]: value for key, value in point.items()}
    return {name: float(prior.constrain(np.asarray(values[name]))) for name, prior in priors.items()}


@pytest.mark.parametrize("name", TABLES)
def test_every_row_counts_once(name: str) -> None:
    rows = inputs(TABLES[name][0], LAW)
    found: list[int] = []
    for block in rows.partition.blocks:
        grid = block.grid
        assert sorted([*grid.rows[grid.rows >= 0], *grid.rest]) == list(range(len(block.members)))
        found += block.members.tolist()
    assert sorted(found) == list(range(len(rows.response)))
