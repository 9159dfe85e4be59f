"""The noise models by their common protocol, against SciPy and dense algebra."""

import ast
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from dense import covariance
from made import SMOOTH
from scipy import stats

import qidbayes as qb
from qidbayes.noise.gaussian_process import GaussianProcess
from qidbayes.noise.model import noise_model
from qidbayes.noise.random_effects import RandomEffects
from qidbayes.noise.student_t import StudentT
from qidbayes.posterior import Fit, PointEstimate, Stack

LAW = qb.load_law("unified")
SCALE = {"sigma": 0.1, "checkpoint_sd": 0.2, "model_sd": 0.3}


def rows() -> pl.DataFrame:
    return qb.load_table("pythia").filter(pl.col("n_params") < 4e8, pl.col("tokens").rank("dense") % 10 == 0)


def test_a_law_declares_its_model() -> None:
    assert noise_model(LAW, ["model", "checkpoint"]) == GaussianProcess(("model", "checkpoint"), has_quantizations=True)
    nested = noise_model(LAW.with_noise(discrepancy="none"), ["model", "checkpoint"])
    assert nested == RandomEffects(("checkpoint", "model"))
    assert nested.names == ("sigma", "checkpoint_sd", "model_sd")
    heavy = LAW.with_noise(discrepancy="none", groups=(), family="student_t")
    assert isinstance(noise_model(heavy, []), StudentT) and not noise_model(heavy, []).is_normal


def test_the_density_of_heavy_tails_is_scipys() -> None:
    residual, variance = np.array([-2.0, 0.1, 0.7]), np.array([0.3, 0.1, 1.0])
    found = StudentT().log_density(residual, variance, {}, None, {}, np)
    assert found == pytest.approx(stats.t(4, scale=np.sqrt(variance)).logpdf(residual).sum(), abs=1e-12)


def test_covariances_are_those_of_the_tables_columns() -> None:
    table, nested = rows(), RandomEffects(("checkpoint", "model"))
    names = [table["model"].to_numpy(), (table["model"] + table["revision"]).to_numpy()]
    model, checkpoint = (np.equal.outer(name, name).astype(float) for name in names)
    np.testing.assert_allclose(nested.covariance(SCALE, nested.rows(table)), 0.09 * model + 0.04 * checkpoint)
    process = GaussianProcess(("model", "checkpoint"), has_quantizations=True)
    np.testing.assert_allclose(process.covariance(SMOOTH, process.rows(table)), covariance(SMOOTH, table, table))


def test_what_is_simulated_has_the_covariance() -> None:
    """Of 4,000 simulations a covariance is known to within v √(2 / 4,000); five of these are allowed."""
    table, rng = rows(), np.random.default_rng(0)
    for model, scale in (
        (RandomEffects(("checkpoint", "model")), SCALE),
        (GaussianProcess(("model",), has_quantizations=True), SMOOTH),
    ):
        where = model.rows(table)
        drawn = np.array([model.simulate(scale, where, rng)[0] for _ in range(4_000)])
        expected = model.covariance({name: scale[name] for name in model.names}, where)
        error = np.abs(drawn.T @ drawn / len(drawn) - expected).max()
        assert error < 5 * expected.max() * np.sqrt(2 / len(drawn))


def test_the_room_knows_nothing_of_fits_and_samplers() -> None:
    for file in Path(qb.__file__).with_name("noise").glob("*.py"):
        imported = [
            node.module or "" for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom)
        ]
        assert not [name for name in imported if name.startswith(("qidbayes.infer", "qidbayes.posterior", "pymc"))]


def test_predict_has_one_signature() -> None:
    assert Fit.predict is Stack.predict is PointEstimate.predict
    with pytest.raises(qb.InputError, match="answers with 'qid', not 'loss'"):
        qb.published("unified").predict(n_params=1e9, tokens=1e11, bits=4, response="loss")
