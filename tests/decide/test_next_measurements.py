"""Picks of measurements against conjugate linear regression, and against one big multivariate normal."""

import numpy as np
import polars as pl
import pytest
from made import NESTED, SMOOTH, unified_fit
from scipy import stats

import qidbayes as qb
from qidbayes.noise.coordinates import Fitted
from qidbayes.noise.kernels import covariance

NAMES = ("log_k", "beta", "alpha", "gamma")
MEAN = np.array([np.log(0.04), 0.5, 0.3, 5.0])
PRIOR = np.array([[0.04, 0.01, 0.0, 0.02], [0.01, 0.02, 0.0, 0.0], [0.0, 0.0, 0.01, 0.0], [0.02, 0.0, 0.0, 0.5]])
ONE = {"k_ref": 0.04, "beta": 0.5, "alpha": 0.3, "gamma": 5.0}


@pytest.fixture
def data() -> pl.DataFrame:
    return qb.load_table("pythia").filter(pl.col("n_params") < 1e9, pl.col("tokens") > 1.5e11)


@pytest.fixture
def cells() -> pl.DataFrame:
    """Twelve cells of four checkpoints of two new models."""
    return pl.DataFrame(
        [
            {
                "suite": "pythia",
                "model": f"new/{n:g}",
                "revision": f"at{d:g}",
                "n_params": n,
                "tokens": d,
                "method": "gptq",
                "bits": p,
                "group_size": None,
                "dataset": "refinedweb",
                "cell_seconds": 10.0 * n / 1e9,
                "checkpoint_seconds": 20.0 * n / 1e9,
            }
            for n in (1e9, 2e10)
            for d in (1e10, 1e12)
            for p in (2.0, 3.0, 4.0)
        ],
        schema_overrides={"group_size": pl.Float64},
    )


def regression_fit(data: pl.DataFrame, noise: dict[str, float]) -> qb.Fit:
    """Draws whose moments are exactly those of a normal posterior of the linear model."""
    z = np.random.default_rng(0).standard_normal((500, 4))
    z -= z.mean(axis=0)
    z = z @ np.linalg.inv(np.linalg.cholesky(z.T @ z / 500)).T
    draws = dict(zip(NAMES, (MEAN + z @ np.linalg.cholesky(PRIOR).T).T, strict=True))
    return unified_fit({"k_ref": np.exp(draws.pop("log_k")), **draws}, noise, data)


def row(n: float, d: float, p: float) -> np.ndarray:
    """The regression's row of Eq. 8 in logarithms."""
    return np.array([1.0, np.log(d / 1e11), -np.log(n / 1e9), -np.log(p / 4)])


def posterior_variance(x: np.ndarray, measured: list[np.ndarray], error: np.ndarray) -> float:
    """x'(Σ⁻¹ + X'E⁻¹X)⁻¹x: the conjugate posterior's, by the textbook."""
    design = np.array(measured)
    return float(x @ np.linalg.inv(np.linalg.inv(PRIOR) + design.T @ np.linalg.solve(error, design)) @ x)


def test_the_variance_left_is_that_of_conjugate_regression(data: pl.DataFrame, cells: pl.DataFrame) -> None:
    fit = regression_fit(data, {"sigma": 0.1})
    found = qb.next_measurements(fit, cells, n_params=7e10, tokens=1.5e13, bits=4, kind="response_params", picks=4)
    assert found.height == 4
    x, measured = row(7e10, 1.5e13, 4), []
    for pick in found.join(cells, on=["model", "tokens", "bits"], maintain_order="left").rows(named=True):
        measured.append(row(pick["n_params"], pick["tokens"], pick["bits"]))
        expected = posterior_variance(x, measured, 0.01 * np.eye(len(measured)))
        assert pick["sd"] ** 2 == pytest.approx(expected, rel=1e-6)
        assert pick["variance_left"] == pytest.approx(expected / (x @ PRIOR @ x), rel=1e-6)


def test_shared_effects_are_in_it(data: pl.DataFrame, cells: pl.DataFrame) -> None:
    """Two widths of one checkpoint share their effects: the regression with correlated errors."""
    fit = regression_fit(data, NESTED)
    some = cells.filter(pl.col("model") == "new/1e+09", pl.col("bits") < 4)
    found = qb.next_measurements(fit, some, n_params=7e10, tokens=1.5e13, bits=4, kind="response_params", picks=9)
    assert found.height == 4  # there are no more
    last = found.join(some, on=["model", "tokens", "bits"], maintain_order="left")
    measured = [row(*values) for values in last.select("n_params", "tokens", "bits").rows()]
    same = np.array([[a == b for b in last["tokens"]] for a in last["tokens"]])
    error = 0.01 * np.eye(4) + 0.04 * same + 0.09
    expected = posterior_variance(row(7e10, 1.5e13, 4), measured, error)
    assert found["sd"][-1] ** 2 == pytest.approx(expected, rel=1e-6)


def test_a_new_checkpoints_own_luck_stays(data: pl.DataFrame, cells: pl.DataFrame) -> None:
    fit = regression_fit(data, NESTED)
    asked = {"n_params": 7e10, "tokens": 1.5e13, "bits": 4.0, "picks": 3}
    law, new = (qb.next_measurements(fit, cells, **asked, kind=kind) for kind in ("response_params", "response"))
    np.testing.assert_allclose(new["sd"] ** 2 - law["sd"] ** 2, 0.1**2 + 0.2**2 + 0.3**2, rtol=1e-6)


def test_each_pick_is_the_best_by_brute_force(data: pl.DataFrame, cells: pl.DataFrame) -> None:
    fit = regression_fit(data, {"sigma": 0.1})
    found = qb.next_measurements(fit, cells, n_params=7e10, tokens=1.5e13, bits=4, kind="response_params", picks=3)
    x, measured, opened, done = row(7e10, 1.5e13, 4), [], set(), set()
    before = float(x @ PRIOR @ x)
    for pick in found.rows(named=True):
        rates = {}
        for cell in cells.rows(named=True):
            tried = [*measured, row(cell["n_params"], cell["tokens"], cell["bits"])]
            start = 0.0 if (cell["model"], cell["tokens"]) in opened else cell["checkpoint_seconds"]
            taken = before - posterior_variance(x, tried, 0.01 * np.eye(len(tried)))
            rates[(cell["model"], cell["tokens"], cell["bits"])] = (taken / (cell["cell_seconds"] + start), start)
        best = max(rates.keys() - done, key=lambda key: rates[key][0])
        done.add(best)
        assert (pick["model"], pick["tokens"], pick["bits"]) == best
        (cell,) = cells.filter(model=best[0], tokens=best[1], bits=best[2]).rows(named=True)
        assert pick["gpu_seconds"] == pytest.approx(cell["cell_seconds"] + rates[best][1])
        measured.append(row(cell["n_params"], cell["tokens"], cell["bits"]))
        opened.add(best[:2])
        before = pick["sd"] ** 2


def test_tokens_to_a_threshold_are_an_answer_too(data: pl.DataFrame, cells: pl.DataFrame) -> None:
    """log D* = (log q − log k + α·log N' + γ·log P')/β: its variance and covariances from the draws by hand."""
    fit = regression_fit(data, {"sigma": 0.1})
    found = qb.next_measurements(fit, cells, n_params=7e10, qid=0.2, bits=4, picks=1)
    k, beta, alpha, gamma = (fit.draws[n].ravel() for n in ("k_ref", "beta", "alpha", "gamma"))
    reached = (np.log(0.2) - np.log(k) + alpha * np.log(70)) / beta
    pick = found.row(0, named=True)
    n = float(pick["model"].removeprefix("new/"))
    y = np.log(k) + beta * np.log(pick["tokens"] / 1e11) - alpha * np.log(n / 1e9) - gamma * np.log(pick["bits"] / 4)
    expected = reached.var() - np.cov(reached, y, ddof=0)[0, 1] ** 2 / (y.var() + 0.01)
    assert pick["sd"] ** 2 == pytest.approx(expected, rel=1e-6)


def test_with_a_discrepancy_it_is_one_big_normal(data: pl.DataFrame, cells: pl.DataFrame) -> None:
    """Constants known: what is left of the answer's variance given fitted rows and cells, by one matrix."""
    fit = unified_fit(ONE, SMOOTH, data)
    asked = {"n_params": 3e9, "tokens": 1e12, "bits": 4.0, "suite": "pythia"}
    found = qb.next_measurements(fit, cells, **asked, picks=3)
    picked = found.join(cells, on=["model", "tokens", "bits"], maintain_order="left")
    place = Fitted(data)
    parts = [place.coordinates(data)]
    # Names of models that were not fitted would all be one new model to `Fitted`: tell them apart.
    for i, values in enumerate(picked.select("n_params", "tokens", "bits", "model", "revision").rows(named=True)):
        of_cell = {k: v for k, v in values.items() if k not in ("model", "revision")}
        at = place.coordinates(pl.DataFrame([{**of_cell, "suite": "pythia"}]))
        model = picked["model"].to_list().index(values["model"])
        run = picked.select("model", "revision").rows().index((values["model"], values["revision"]))
        parts.append({**at, "model": np.array([-10 - model]), "checkpoint": np.array([-10 - run])})
        target = {**place.coordinates(pl.DataFrame([asked])), "model": np.array([-99]), "checkpoint": np.array([-99])}
        both = {name: np.concatenate([p[name] for p in (*parts, target)]) for name in target}
        full = covariance(SMOOTH, both, both, np) + 0.01 * np.eye(data.height + i + 2)
        own, cross = full[:-1, :-1], full[:-1, -1]
        assert found["sd"][i] ** 2 == pytest.approx(full[-1, -1] - cross @ np.linalg.solve(own, cross), rel=1e-6)


def test_measured_cells_and_unknown_methods_are_not_picked(data: pl.DataFrame, cells: pl.DataFrame) -> None:
    fit = regression_fit(data, NESTED)
    seen = data.select(
        "suite", "model", "revision", pl.col("n_params", "tokens").cast(pl.Float64), "method", "bits", "dataset"
    )
    seen = seen.with_columns(cell_seconds=pl.lit(1e-3), checkpoint_seconds=pl.lit(1e-3))
    unknown = cells.with_columns(method=pl.lit("awq"), cell_seconds=pl.lit(1e-3), checkpoint_seconds=pl.lit(1e-3))
    every = pl.concat([cells, seen, unknown], how="diagonal")
    asked = {"n_params": 7e10, "tokens": 1.5e13, "bits": 4.0}
    assert qb.next_measurements(fit, every, **asked).equals(qb.next_measurements(fit, cells, **asked))
    with pytest.raises(qb.InputError, match="has seen all these cells"):
        qb.next_measurements(fit, pl.concat([seen, unknown], how="diagonal"), **asked)


def test_less_variance_is_what_measuring_gives(data: pl.DataFrame, cells: pl.DataFrame) -> None:
    """Simulated: the posterior given a simulated measurement, by weighing the draws, has the variance that was said."""
    z = np.random.default_rng(1).multivariate_normal(MEAN, PRIOR, 40_000)
    draws = dict(zip(NAMES, z.T, strict=True))
    fit = unified_fit({"k_ref": np.exp(draws["log_k"]), **{n: draws[n] for n in NAMES[1:]}}, {"sigma": 0.3}, data)
    found = qb.next_measurements(fit, cells, n_params=7e10, tokens=1.5e13, bits=4, kind="response_params", picks=1)
    pick = found.row(0, named=True)
    answer = z @ row(7e10, 1.5e13, 4)
    expected = z @ row(float(pick["model"].removeprefix("new/")), pick["tokens"], pick["bits"])
    rng, left = np.random.default_rng(2), []
    for truth in rng.choice(expected, 100):
        weight = stats.norm(expected, 0.3).pdf(truth + 0.3 * rng.standard_normal())
        mean = np.average(answer, weights=weight)
        left.append(np.average((answer - mean) ** 2, weights=weight))
    assert np.mean(left) == pytest.approx(pick["sd"] ** 2, abs=4 * np.std(left) / 10 + 0.02 * pick["sd"] ** 2)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "give either tokens"),
        ({"tokens": 1e12, "qid": 0.2}, "give either tokens"),
        ({"tokens": 1e12, "picks": 0}, "picks must be 1 or more"),
    ],
)
def test_refusals(data: pl.DataFrame, cells: pl.DataFrame, asked: dict, message: str) -> None:
    with pytest.raises(qb.InputError, match=message):
        qb.next_measurements(regression_fit(data, NESTED), cells, **{"n_params": 7e9, "bits": 4.0, **asked})


def test_cells_without_a_column_are_refused(data: pl.DataFrame, cells: pl.DataFrame) -> None:
    fit = regression_fit(data, NESTED)
    for column in ("revision", "dataset", "cell_seconds"):
        with pytest.raises(qb.InputError, match=f"cells: column '{column}' is missing"):
            qb.next_measurements(fit, cells.drop(column), n_params=7e9, tokens=1e12, bits=4)
