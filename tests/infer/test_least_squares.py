"""Least squares: the paper's constants, and NumPy's solution."""

import numpy as np
import polars as pl
import pytest
from scipy import optimize

from qidbayes.errors import InputError
from qidbayes.infer.inputs import inputs
from qidbayes.infer.least_squares import Space, least_squares, minimize
from qidbayes.infer.problem import Problem
from qidbayes.law import load_law
from qidbayes.table import load_table


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    return load_table("pythia")


def test_linear_space_gives_the_constants_of_equation_8(table: pl.DataFrame) -> None:
    found = least_squares(table, "unified", "linear").constants
    for name, expected in {"k": 0.0165, "beta": 0.5239, "alpha": 0.2256, "gamma": 5.428}.items():
        assert found[name] == pytest.approx(expected, rel=0.03)


def test_linear_space_is_the_least_sum_of_squares_that_scipy_finds(table: pl.DataFrame) -> None:
    found = least_squares(table, "unified", "linear").constants
    n, d, p = (table[c].cast(pl.Float64).to_numpy() for c in ("n_params", "tokens", "bits"))

    def squares(k: float, beta: float, alpha: float, gamma: float) -> float:
        return float(((k * d**beta / (n**alpha * p**gamma) - table["qid"].to_numpy()) ** 2).sum())

    ours = squares(**found)
    start = [np.log(found["k"]) + 0.1, found["beta"], found["alpha"], found["gamma"] - 0.1]
    theirs = optimize.minimize(lambda x: squares(np.exp(x[0]), *x[1:]), start, method="Nelder-Mead", tol=1e-10)
    assert ours <= theirs.fun * (1 + 1e-6)


def test_log_space_gives_numpys_solution(table: pl.DataFrame) -> None:
    found = least_squares(table, "unified", "log").constants
    columns = [np.log(table[c].cast(pl.Float64).to_numpy()) for c in ("tokens", "n_params", "bits")]
    design = np.column_stack([np.ones(table.height), *columns])
    log_k, beta, alpha, gamma = np.linalg.lstsq(design, np.log(table["qid"].to_numpy()))[0]
    expected = {"k": np.exp(log_k), "beta": beta, "alpha": -alpha, "gamma": -gamma}
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-6)
    for name, value in {"k": 0.344, "beta": 0.471, "alpha": 0.296, "gamma": 5.84}.items():
        assert found[name] == pytest.approx(value, rel=0.03)


@pytest.mark.parametrize("space", ["log", "linear"])
def test_a_weight_is_how_often_a_row_counts(table: pl.DataFrame, space: Space) -> None:
    """As in a bootstrap: the solution is that of the table with its rows repeated."""
    weights = np.random.default_rng(1).integers(0, 4, table.height)
    rows = inputs(table, load_law("unified"))
    found = minimize(Problem(rows), space, weights.astype(float))
    repeated = rows.frame.select(pl.all().repeat_by(pl.Series(weights)).explode())
    columns = [np.log(repeated[c].cast(pl.Float64).to_numpy()) for c in ("tokens", "n_params", "bits")]
    matrix = np.column_stack(
        [np.ones(repeated.height), *(c - np.log(r) for c, r in zip(columns, (1e11, 1e9, 4), strict=True))]
    )
    log_qid = np.log(repeated["qid"].to_numpy())
    expected = np.linalg.lstsq(matrix, log_qid)[0]
    if space == "linear":
        expected = optimize.least_squares(
            lambda x: np.exp(matrix @ x) - np.exp(log_qid), expected, xtol=1e-14, ftol=1e-14
        ).x
    np.testing.assert_allclose(found * [1, 1, -1, -1], expected, rtol=1e-5)


def test_one_law_per_bit_width_gives_numpys_solutions(table: pl.DataFrame) -> None:
    found = least_squares(table, "per-bit", "log").constants
    for bits in (2, 3, 4):
        rows = table.filter(bits=float(bits))
        columns = [np.log(rows[c].cast(pl.Float64).to_numpy()) for c in ("tokens", "n_params")]
        design = np.column_stack([np.ones(rows.height), *columns])
        log_c, beta, alpha = np.linalg.lstsq(design, np.log(rows["qid"].to_numpy()))[0]
        assert found["c"][str(bits)] == pytest.approx(np.exp(log_c), rel=1e-6)
        assert found["beta"][str(bits)] == pytest.approx(beta, rel=1e-6)
        assert found["alpha"][str(bits)] == pytest.approx(-alpha, rel=1e-6)


def test_what_the_data_do_not_determine_is_refused(table: pl.DataFrame) -> None:
    with pytest.raises(InputError, match="do not determine every constant of law 'unified'"):
        least_squares(table.filter(bits=4.0), "unified")
    with pytest.raises(InputError, match="space must be 'linear' or 'log', not 'square'"):
        least_squares(table, "unified", "square")  # type: ignore[arg-type]
