"""Laws of the field whose covariates are further columns: data made from them by hand give their constants back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pytest

import qidbayes as qb
from qidbayes.law import Law, load_law
from qidbayes.law.evaluate import evaluate
from qidbayes.score.ecdf_envelope import Envelope
from qidbayes.score.sbc import calibrate

type Columns = Mapping[str, np.ndarray]

pytestmark = pytest.mark.filterwarnings("ignore::qidbayes.errors.DataWarning")
SIZES, TOKENS = [4e7, 1.6e8, 6.4e8, 2.56e9], [1e10, 4e10, 1.6e11, 6.4e11]


@dataclass(frozen=True)
class Case:
    """A law: the values of its columns, their formula with NumPy, and constants in raw counts."""

    columns: Mapping[str, list[float]]
    formula: Callable[[Columns, Mapping[str, float]], np.ndarray]
    constants: Mapping[str, float]


def _qat(x: Columns, c: Mapping[str, float]) -> np.ndarray:
    return c["k"] * x["tokens"] ** c["gammaD"] * np.log2(x["group_size"]) ** c["gammaG"] / x["n_params"] ** c["gammaN"]


def _floats(x: Columns, c: Mapping[str, float]) -> np.ndarray:
    size, tokens = x["n_params"] ** c["alpha"], x["tokens"] ** c["beta"]
    bits = (x["exponent_bits"] + 0.5) ** c["delta"] * (x["mantissa_bits"] + 0.5) ** c["nu"]
    lost = tokens / size * np.log2(x["group_size"]) / (c["gamma"] * bits)
    return c["n"] / size + c["d"] / tokens + c["epsilon"] + lost


def _capacity(x: Columns, c: Mapping[str, float]) -> np.ndarray:
    with np.errstate(divide="ignore"):
        rho = np.tanh(c["F"] * np.log(x["gaussian_mse"]) / np.log(0.25)) ** c["C"]
    return c["A"] / (x["n_params"] * rho) ** c["alpha"] + c["B"] / x["tokens"] ** c["beta"] + c["E"]


def _split(x: Columns, c: Mapping[str, float]) -> np.ndarray:
    n, bits = x["n_params"], x["bits"]
    s_qat, s_fp = x["qat_tokens"] / (n * bits / 8), x["fp_tokens"] / (n * bits / 8)
    short = c["phi"] * 2 ** (-c["chi"] * bits) / (n ** c["psi"] * s_qat ** c["omega"])
    late = c["lam"] * 2 ** (-c["mu"] * bits) / (n ** c["nu"] * s_fp ** c["xi"] * s_qat ** c["rho"])
    return c["theta"] * 2 ** (-c["kappa"] * bits) + short + late


def _tasks(x: Columns, c: Mapping[str, float]) -> np.ndarray:
    calibrated = np.log2(x["calibration_samples"]) ** c["gamma"] * x["group_size"] ** c["delta"]
    return c["A"] * x["n_params"] ** c["alpha"] * np.log2(x["bits"]) ** c["beta"] * calibrated


def _precision(x: Columns, c: Mapping[str, float]) -> np.ndarray:
    kept = 1.0
    for column, gamma in (("bits", "gammaW"), ("bits_activation", "gammaA"), ("bits_kv", "gammaKV")):
        kept = kept * (1 - np.exp(-x[column] / c[gamma]))
    return c["A"] * (x["n_params"] * kept) ** -c["alpha"] + c["B"] * x["tokens"] ** -c["beta"] + c["E"]


def _decayed(x: Columns, c: Mapping[str, float]) -> np.ndarray:
    rate = c["beta"] + c["slope"] * x["decayed"]
    level = c["k"] / (x["n_params"] ** c["alpha"] * x["bits"] ** c["gamma"])
    return level * c["rise"] ** x["decayed"] * x["tokens"] ** rate


def _shannon(x: Columns, c: Mapping[str, float]) -> np.ndarray:
    n, d = x["n_params"], x["tokens"]
    noise = c["c"] * (d * n) ** c["gamma"] + c["d"] * d ** c["delta"] + c["e"]
    return 1 / (c["a"] * n ** c["alpha"] * np.log2(1 + c["b"] * d ** c["beta"] / noise))


def published(law: str, point: str) -> dict[str, float]:
    return {name: float(value) for name, value in load_law(law).published[point].items()}


GROUPS = {"group_size": [32.0, 64.0, 128.0, 256.0]}
CASES = {
    **{f"qat:{point}": Case(GROUPS, _qat, published("qat", point)) for point in load_law("qat").published},
    "float-training": Case(
        {"exponent_bits": [0.0, 1, 2, 4], "mantissa_bits": [1.0, 2, 3], **GROUPS}, _floats,
        published("float-training", "capybara"),
    ),
    "capacity": Case(
        {"gaussian_mse": [0.0, 0.0012, 0.0115, 0.0374, 0.1188, 0.3634]}, _capacity,
        {"A": 400, "alpha": 0.34, "B": 2000, "beta": 0.37, "E": 1.8, "F": 0.45, "C": 1.2},
    ),
    "qat-split": Case(
        {"bits": [1.0, 2, 3, 4, 6], "qat_tokens": [1e8, 1e9, 1e10, 1e11], "fp_tokens": [1e9, 1e10, 1e11]}, _split,
        {"theta": 0.8, "kappa": 1.4, "phi": 60, "chi": 0.5, "psi": 0.2, "omega": 0.6, "lam": 0.4, "mu": 1.2,
         "nu": 0.1, "xi": -0.4, "rho": 0.2},
    ),
    "task-stratified": Case(
        {"bits": [3.0, 4, 8], "calibration_samples": [8.0, 32, 128, 1024], **GROUPS}, _tasks,
        {"A": 1000.0, **published("task-stratified", "general")},
    ),
    "precision-training": Case(
        {"bits": [3.0, 4, 6, 16], "bits_activation": [3.0, 6, 16], "bits_kv": [2.0, 4, 16]}, _precision,
        {**published("precision-training", "table2"), "B": 20_000.0, "beta": 0.45, "E": 2.7, "gammaA": 2.2},
    ),
    "decayed": Case(
        {"bits": [2.0, 3, 4], "decayed": [0.0, 0.5, 1.0]}, _decayed,
        {"k": 0.017, "beta": 0.5251, "alpha": 0.2261, "gamma": 5.4967, "slope": 0.08, "rise": 0.15},
    ),
}  # fmt: skip


def made(case: Case, law: Law, noise: float = 0.0) -> pl.DataFrame:
    """Every combination of the columns' values, with the law's response."""
    axes = {"n_params": SIZES, "tokens": TOKENS, "bits": [4.0], **case.columns}
    grid = np.meshgrid(*axes.values(), indexing="ij")
    columns = {name: values.ravel() for name, values in zip(axes, grid, strict=True)}
    response = case.formula(columns, case.constants)
    response = response * np.exp(noise * np.random.default_rng(5).standard_normal(len(response)))
    losses = {"qid": response} if law.response == "qid" else {"loss": response, "loss_16bit": 1.0}
    model = [f"m{n:g}" for n in columns["n_params"]]
    revision = [str(i) for i in range(len(response))]
    return pl.DataFrame({"model": model, "revision": revision, "method": "qat", "suite": "made", **columns, **losses})


@pytest.mark.parametrize("name", CASES)
def test_least_squares_gives_constants_back(name: str) -> None:
    law, case = load_law(name.split(":")[0]), CASES[name]
    assert set(case.constants) == set(law.constants)
    found = qb.least_squares(made(case, law), law, space="log").constants
    assert found == pytest.approx(dict(case.constants), rel=1e-3 if name != "qat-split" else 0.02)


@pytest.mark.parametrize("name", CASES)
def test_priors_hold_the_published_constants(name: str) -> None:
    law, case = load_law(name.split(":")[0]), CASES[name]
    for parameter, prior in law.priors.items():
        value = case.constants[parameter]
        if parameter in law.unit_powers:
            scope = law.scope(np, dict(case.constants))
            powers = law.unit_powers[parameter].items()
            value *= float(np.exp(-sum(evaluate(p, scope) * law.log_reference[c] for c, p in powers)))
        draws = prior.sample(4000, np.random.default_rng(0))
        assert 0.01 < (draws < value).mean() < 0.99, (parameter, value)


SHANNON = {
    "a": 9e-3,
    "alpha": 0.12,
    "b": 1.0,
    "beta": 0.45,
    "c": 2e-9,
    "gamma": 0.65,
    "d": 4e-6,
    "delta": 0.8,
    "e": 900,
}


def test_the_shannon_law_gives_its_constants_back_where_data_are_wide_enough() -> None:
    sizes, tokens = [1e7 * 4**i for i in range(6)], [1e9 * 4**i for i in range(7)]
    law = load_law("shannon")
    table = made(Case({"n_params": sizes, "tokens": tokens}, _shannon, SHANNON), law).drop("loss_16bit")
    table = table.with_columns(qid=pl.col("loss") / 2)
    found = qb.least_squares(table, Law(**vars_of(law) | {"unquantized": None}), space="log").constants
    common = SHANNON["b"] / found["b"]["4"]  # b, c, d and e have a factor in common
    for name, times in (*((n, 1.0) for n in ("a", "alpha", "beta", "gamma", "delta")), *((n, common) for n in "cde")):
        assert times * found[name]["4"] == pytest.approx(SHANNON[name], rel=0.05), name


def vars_of(law: Law) -> dict[str, Any]:
    return {name: getattr(law, name) for name in law.__dataclass_fields__}


COLUMNS = {
    "capacity": "gaussian_mse",
    "decayed": "decayed",
    "float-training": "exponent_bits",
    "precision-training": "bits_activation",
    "qat-split": "qat_tokens",
    "task-stratified": "calibration_samples",
}


@pytest.mark.parametrize("law", COLUMNS)
def test_a_table_without_the_columns_of_a_law_is_told_which(law: str) -> None:
    table = qb.load_table("pythia").with_columns(group_size=128)
    missing = f"law '{law}' takes '{COLUMNS[law]}', .* the table has no such column"
    empty = f"column '{COLUMNS[law]}' must be known .* for law '{law}'"  # of a column that every table has
    with pytest.raises(qb.InputError, match=f"{missing}|{empty}"):
        qb.least_squares(table, law)


def test_a_posterior_gives_the_constants_of_quantization_aware_training_back() -> None:
    law, case = load_law("qat"), CASES["qat:w4a4"]
    fit = qb.fit(made(case, law, noise=0.03), law, random_seed=0)
    assert fit.diagnostics.problems() == []
    for name, true in case.constants.items():
        draws = np.log(fit.draws[name]) if name == "k" else fit.draws[name]
        assert abs(draws.mean() - (np.log(true) if name == "k" else true)) < 4 * draws.std(), name


def test_a_posterior_gives_the_constants_of_floating_point_training_back() -> None:
    law, case = load_law("float-training"), CASES["float-training"]
    fit = qb.fit(made(case, law, noise=0.003), law, random_seed=0)
    assert fit.diagnostics.problems() == []
    for name, true in case.constants.items():
        draws = np.log(fit.draws[name])
        assert abs(draws.mean() - np.log(true)) < 4 * draws.std(), name


@pytest.mark.slow
def test_floating_point_training_is_calibrated() -> None:
    seeds = range(60)
    law = load_law("float-training")
    table = made(CASES["float-training"], law).filter(pl.col("group_size") == 128, pl.col("mantissa_bits") != 2)
    ranks = calibrate(table, law, seeds)
    envelope = Envelope(len(seeds))
    assert not [name for name in ranks.columns[3:] if envelope.margin(ranks[name].to_numpy()) < 0]
