"""Sufficient statistics of a full grid: the same density as the rows', and only where there are any."""

import numpy as np
import polars as pl
import pymc as pm
import pytest
from dense import variance, with_errors
from made import log_unified
from plain import plain
from scipy import stats

import qidbayes as qb
from qidbayes.infer import program
from qidbayes.infer.anova import log_density, strata
from qidbayes.infer.inputs import Inputs, inputs
from qidbayes.infer.model import model_of_inputs
from qidbayes.infer.problem import Problem


def dense_covariance(rows: Inputs, variance: float, effects: list[float]) -> np.ndarray:
    same = [np.equal.outer(rows.index[level.name], rows.index[level.name]) for level in rows.levels]
    return variance * np.eye(len(rows.frame)) + sum(t * s for t, s in zip(effects, same, strict=True))


@pytest.mark.parametrize("law", ["unified", "per-bit", "tokens", "size", "bits"])
def test_the_density_is_the_dense_normals(law: str, pythia: pl.DataFrame) -> None:
    rows = inputs(pythia, plain(law))
    found = strata(rows)
    assert found is not None and found.freedom.sum() == 360
    rng = np.random.default_rng(4)
    for _ in range(5):
        z = rng.normal(0.0, 1.0, found.root.shape[-1] - 1)
        variance, *effects = np.exp(rng.normal(-2.0, 1.0, 1 + len(rows.levels)))
        eigenvalues = variance + np.cumsum([0.0, *(found.members * effects)])
        residual = rows.log_response - Problem(rows).log_mean(z)
        expected = stats.multivariate_normal(cov=dense_covariance(rows, variance, effects)).logpdf(residual)
        ours = log_density(found.root, found.freedom, eigenvalues, np.concatenate([[1.0], -z]), np.log)
        assert ours == pytest.approx(expected, rel=1e-8)


def test_there_are_none_for_a_curve_that_is_not_log_linear(pythia: pl.DataFrame) -> None:
    assert strata(inputs(pythia, plain("kaplan-16bit"))) is None


def test_there_are_none_for_a_grid_with_holes_or_errors_that_differ(pythia: pl.DataFrame) -> None:
    law = plain("unified")
    assert strata(inputs(pythia.head(359), law)) is None
    assert strata(inputs(pythia.with_columns(qid_se=0.1 * pl.col("qid")), law)) is None


@pytest.mark.parametrize("height", [360, 359])
def test_standard_errors_count_on_a_full_grid_too(pythia: pl.DataFrame, height: int) -> None:
    """Errors of 1 to 4%, too small for any other treatment; a table with a hole goes the same way."""
    rows = inputs(with_errors(pythia).head(height), plain("unified"))
    assert strata(rows) is None and not rows.latent
    model = model_of_inputs(rows)
    found = model.compile_logp(vars=model.potentials, mode="FAST_COMPILE")(model.initial_point())
    at = _natural(model)
    constants = {name: at[name] for name in ("k_ref", "beta", "alpha", "gamma")}
    full = dense_covariance(rows, at["sigma"] ** 2, [at["checkpoint_sd"] ** 2, at["model_sd"] ** 2])
    residual = rows.log_response - log_unified(constants, rows.frame)
    expected = stats.multivariate_normal(cov=full + np.diag(variance(rows.frame))).logpdf(residual)
    assert found == pytest.approx(expected, rel=1e-8)


def _natural(model: pm.Model) -> dict[str, float]:
    """Return the model's starting point by its variables' names."""
    point = model.initial_point()
    return {n.removesuffix("_log__"): float(np.exp(v) if n.endswith("_log__") else v) for n, v in point.items()}


def test_both_ways_have_the_same_posterior(pythia: pl.DataFrame, unified: qb.Fit) -> None:
    # Standard errors of nothing to speak of send the same rows the other way.
    rows = qb.fit(pythia.with_columns(qid_se=1e-9 * pl.col("qid")), plain("unified"), random_seed=1)
    for name in ("beta", "alpha", "gamma", "sigma", "checkpoint_sd"):
        a, b = unified.draws[name], rows.draws[name]
        # Four standard errors of the difference of means, each from at least 1,000 effective draws.
        assert abs(a.mean() - b.mean()) < 4 * np.hypot(a.std(), b.std()) / np.sqrt(1000)


def test_one_program_serves_grids_of_every_size(pythia: pl.DataFrame) -> None:
    qb.fit(pythia.filter(pl.col("tokens") > 50e9), plain("unified"), random_seed=1)
    programs = set(program._IDLE)
    smaller = qb.fit(pythia.filter(pl.col("n_params") < 5e9), plain("unified"), random_seed=1)
    assert set(program._IDLE) == programs
    assert smaller.data.height == 240 and not smaller.diagnostics.problems()
