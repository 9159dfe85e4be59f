"""The search for a law's form: it finds what tables were simulated from, and says so where nothing is better."""

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from scipy import stats

import qidbayes as qb
from qidbayes.cli import cli
from qidbayes.score.search import _density, _held_out, search, unseen

SD = {"model": 0.1, "checkpoint": 0.05, "row": 0.05}


def simulated(of_bits: str, seed: int, table: pl.DataFrame) -> pl.DataFrame:
    """Return a table whose log QiD is Eq. 8's, or falls with each bit by the same; runs and checkpoints differ."""
    rng = np.random.default_rng(seed)
    n, d, p = (table[name].cast(pl.Float64).to_numpy() for name in ("n_params", "tokens", "bits"))
    log_qid = np.log(0.05) + 0.5 * np.log(d / 1e11) - 0.25 * np.log(n / 1e9)
    log_qid += -5.5 * np.log(p / 4) if of_bits == "power" else -(p - 4) / 0.65
    for name, columns in {"model": ["model"], "checkpoint": ["model", "tokens"]}.items():
        group = table.select(pl.struct(columns).rank("dense") - 1).to_series().to_numpy()
        log_qid += SD[name] * rng.standard_normal(group.max() + 1)[group]
    log_qid += SD["row"] * rng.standard_normal(table.height)
    return table.with_columns(qid=pl.Series(np.exp(log_qid)), loss=None, loss_16bit=None)


@pytest.fixture(scope="module")
def rows() -> pl.DataFrame:
    return qb.load_table("pythia").filter(pl.col("tokens").rank("dense") % 4 == 0)


def test_of_eq_8_nothing_is_better(rows: pl.DataFrame) -> None:
    found = qb.search(simulated("power", 0, rows))
    assert found.better is None and found.p_value > 0.05
    assert found.runs == 6 and found.left_out == 0
    best = found.table.filter(equation="k * N**alpha * D**beta * P**gamma")
    assert best["behind"].item() < 0.02  # nats a row: what is ahead, if anything, is so by luck


def test_the_exponential_is_found(rows: pl.DataFrame) -> None:
    found = qb.search(simulated("exponential", 0, rows))
    assert found.better is not None and "exp(gamma * P)" in found.better
    eq8 = found.table.filter(equation="k * N**alpha * D**beta * P**gamma")["behind"].item()
    assert eq8 > 0.3 and found.p_value < 0.01


def test_a_named_column_is_found(rows: pl.DataFrame) -> None:
    table = simulated("power", 1, rows.filter(pl.col("bits") < 4))
    cooled = np.random.default_rng(2).uniform(0.0, 1.0, table.height)
    table = table.with_columns(cooled=pl.Series(cooled), qid=pl.col("qid") * pl.Series(np.exp(0.8 * cooled)))
    found = search(table, ["cooled"])
    assert found.better is not None and "cooled" in found.better


def test_every_equation_is_one_of_the_language(rows: pl.DataFrame) -> None:
    found = search(simulated("power", 0, rows.filter(pl.col("bits") == 4)))
    assert found.table.height > 20
    for equation in found.table["equation"]:
        assert "P" not in equation  # which is one number here
        constants = set(re.findall(r"\b(?:k|alpha|beta)2?\b", equation))
        law = qb.Law(equation, priors={name: qb.Prior("Normal", mu=0, sigma=1) for name in constants})
        assert set(law.covariates) <= {"N", "D"}


def test_a_sum_is_fitted_where_there_is_no_noise() -> None:
    x = np.tile(np.linspace(0.0, 6.0, 20), 5)
    runs = np.repeat(np.arange(5), 20)
    y = np.logaddexp(-1.0 - 2.0 * x, -4.0 + 0.3 * x)
    matrix = np.stack([np.ones(100), x], axis=1)
    np.testing.assert_allclose(_held_out([matrix, matrix], y, runs), 0.0, atol=1e-4)
    assert np.abs(_held_out([matrix], y, runs)).max() > 0.5


def test_a_run_that_alone_differs_leaves_a_form_out() -> None:
    runs = np.repeat(np.arange(4), 5)
    matrix = np.stack([np.ones(20), (runs == 3) * 1.0], axis=1)
    assert np.isnan(_held_out([matrix], np.zeros(20), runs)).any()


def test_the_density_is_the_dense_normals() -> None:
    rng = np.random.default_rng(0)
    runs = np.repeat(np.arange(4), [3, 5, 4, 6])
    residual = rng.normal(0.0, 1.0, 18) + rng.normal(0.0, 0.7, 4)[runs]
    found = _density(residual, runs)
    for run_left, n in enumerate(np.bincount(runs)):
        others = [residual[runs == one] for one in range(4) if one != run_left]
        own = sum(((o - o.mean()) ** 2).sum() for o in others) / sum(len(o) - 1 for o in others)
        shared = max(np.mean([o.mean() ** 2 - own / len(o) for o in others]), 0.0)
        full = own * np.eye(n) + shared
        expected = stats.multivariate_normal(cov=full).logpdf(residual[runs == run_left]) / n
        assert found[run_left] == pytest.approx(expected)


@pytest.mark.parametrize("runs", [6, 20])
def test_a_hundred_looks_at_nothing_are_seldom_better(runs: int) -> None:
    """Of 200 simulations with no form better than another at most .05 are below .05, within 3 standard errors."""
    below = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        density = rng.normal(0.0, 1.0, (100, runs)) * rng.uniform(0.2, 1.0, (100, 1))
        below += unseen(density)[1] < 0.05
    assert below / 200 < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)


def test_refusals(rows: pl.DataFrame) -> None:
    with pytest.raises(qb.InputError, match="wants 4 models or more; the table has 2"):
        search(rows.filter(pl.col("n_params") < 4e8))
    both = pl.concat([rows, rows.with_columns(method=pl.lit("awq"))])
    with pytest.raises(qb.InputError, match="of one method, and the rows have awq, gptq: choose one"):
        search(both)
    with pytest.raises(qb.InputError, match="takes 'cooled'"):
        search(rows, ["cooled"])


def test_noisy_rows_are_counted(rows: pl.DataFrame) -> None:
    few = rows.filter(pl.col("bits") == 4).with_row_index("i")
    noisy = few.with_columns(qid_se=pl.when(pl.col("i") < 3).then(0.5 * pl.col("qid"))).drop("i")
    assert search(noisy).left_out == 3


def test_the_command(rows: pl.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    qb.write_table(simulated("power", 0, rows), path)
    done = CliRunner().invoke(cli, ["search", str(path), "--bits", "4", "--format", "csv"])
    assert done.exit_code == 0 and done.stdout.splitlines()[0] == "equation,log_density,behind"
    assert "no better than unified\n" in done.stderr and "(p = " in done.stderr
