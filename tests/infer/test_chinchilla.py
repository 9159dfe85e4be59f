"""The refit of Chinchilla's runs: Epoch's constants, by another error model with tails."""

import numpy as np
import polars as pl
import pytest
from scipy import optimize, stats

import qidbayes as qb
from qidbayes.infer.inputs import inputs
from qidbayes.infer.model import model_of_inputs
from qidbayes.law import load_law

# Besiroglu et al. 2024 (arXiv:2404.10102): estimates and bootstrapped standard errors.
EPOCH = {
    "E": (1.8169, 0.026),
    "A": (482.01, 124.5),
    "alpha": (0.3478, 0.015),
    "B": (2085.4, 1293.0),
    "beta": (0.3659, 0.021),
}


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    return qb.load_table("chinchilla")  # without the five runs that Epoch excludes


@pytest.fixture(scope="module")
def fit(table: pl.DataFrame) -> qb.Fit:
    return qb.fit(table, "chinchilla-16bit", random_seed=0, draws=2000)


def test_a_refit_lands_within_epochs_standard_errors(fit: qb.Fit) -> None:
    assert fit.diagnostics.problems() == [] and fit.diagnostics.unidentified == ()
    for name, (estimate, error) in EPOCH.items():
        assert abs(np.median(fit.draws[name]) - estimate) < error, name


def test_the_table_is_epochs(table: pl.DataFrame) -> None:
    # Their own procedure, a Huber loss of 1e-3 on the logarithm, gives their numbers.
    n, d, loss = (table[c].cast(pl.Float64).to_numpy() for c in ("n_params", "tokens", "loss_16bit"))

    def huber(x: np.ndarray) -> float:
        terms = np.stack([np.full(len(n), x[0]), x[1] - x[2] * np.log(n), x[3] - x[4] * np.log(d)])
        left = np.abs(np.log(loss) - np.logaddexp.reduce(terms))
        return 1e6 * float(np.where(left < 1e-3, 0.5 * left**2, 1e-3 * (left - 5e-4)).sum())

    start = np.array([np.log(1.8), np.log(480.0), 0.35, np.log(2000.0), 0.36])
    for _ in range(6):
        start = optimize.minimize(huber, start, method="Nelder-Mead", options={"maxiter": 20_000, "xatol": 1e-9}).x
    found = dict(zip(("E", "A", "alpha", "B", "beta"), start, strict=True))
    for name in ("E", "A", "B"):
        found[name] = np.exp(found[name])
    for name, (estimate, error) in EPOCH.items():
        assert abs(found[name] - estimate) < 0.07 * error, name


def test_the_density_is_students(table: pl.DataFrame) -> None:
    law = load_law("chinchilla-16bit")
    rows = inputs(table, law)
    model = model_of_inputs(rows)
    point = model.initial_point()
    constants = {"loss0": 2.5, "irreducible": 0.7, "share": 0.5, "alpha": 0.35, "beta": 0.36, "sigma": 0.01}
    values = {}
    for variable, (name, value) in zip(model.value_vars, constants.items(), strict=True):
        values[variable.name] = np.asarray(
            np.log(value / (1 - value)) if name in ("irreducible", "share") else np.log(value)
        )
    assert set(values) == set(point)
    at = rows.law.reference  # the geometric mean of the runs, to two digits
    middle = {"N": stats.gmean(rows.frame["n_params"]), "D": stats.gmean(rows.frame["tokens"])}
    assert at == {c: float(f"{value:.1e}") for c, value in middle.items()}
    n, d = rows.frame["n_params"].to_numpy() / at["N"], rows.frame["tokens"].to_numpy() / at["D"]
    mean = 2.5 * (0.7 + 0.3 * 0.5 * n**-0.35 + 0.3 * 0.5 * d**-0.36)
    expected = stats.t(4, scale=0.01).logpdf(rows.log_response - np.log(mean)).sum()
    found = model.compile_logp(vars=model.potentials, mode="FAST_COMPILE")(values)
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_a_new_rows_band_has_students_tails(fit: qb.Fit) -> None:
    asked = {"n_params": 1e9, "tokens": 3e10, "ci_prob": 0.98}
    law = np.log(fit.predict(**asked, kind="response_params")["median"].item())
    band = fit.predict(**asked)
    reach = (np.log(band["upper"].item()) - law) / fit.draws["sigma"].mean()
    # 8,000 draws: the 99% quantile of t(4), 3.75, is known to about 0.13; a normal's is 2.33.
    assert reach == pytest.approx(stats.t(4).ppf(0.99), abs=0.5)


def test_noisy_rows_go_with_normal_errors_only() -> None:
    law = qb.load_law("unified").with_noise(groups=(), family="student_t", discrepancy="none")
    with pytest.raises(
        qb.InputError, match="rows have a qid_se above 5% of their QiD, which goes with normal errors only"
    ):
        qb.fit(qb.load_table("tiny"), law, random_seed=0)
