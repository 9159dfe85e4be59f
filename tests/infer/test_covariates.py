"""Columns beside N, D and P in an equation: from the law to the answers and the command line."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from command import run

import qidbayes as qb

LAW = qb.Law(
    "k * D**beta * group_size**delta * exp(rho * log(learning_rate)) / bits_per_weight**gamma",
    priors={
        "k": qb.Prior("LogNormal", mu=-3, sigma=2),
        "beta": qb.Prior("Normal", mu=0.5, sigma=0.5),
        "delta": qb.Prior("Normal", mu=0, sigma=0.5),
        "rho": qb.Prior("Normal", mu=0, sigma=0.5),
        "gamma": qb.Prior("Normal", mu=5, sigma=3),
    },
    reference={"D": 1e11, "group_size": 64, "bits_per_weight": 4},
    noise=qb.Noise(groups=(), discrepancy="none"),
)
TRUTH = {"beta": 0.4, "delta": 0.25, "rho": -0.2, "gamma": 5.5}


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    rng = np.random.default_rng(3)
    rows = 120
    columns = {
        "tokens": rng.choice([1e10, 1e11, 1e12], rows),
        "group_size": rng.choice([32, 64, 128, 1024], rows),
        "learning_rate": rng.choice([1e-4, 3e-4, 1e-3], rows),
        "bits": rng.choice([2.0, 3.0, 4.0], rows),
    }
    width = columns["bits"] + 16 / columns["group_size"]
    log_qid = np.log(0.03) + 0.4 * np.log(columns["tokens"] / 1e11) + 0.25 * np.log(columns["group_size"] / 64)
    log_qid += -0.2 * np.log(columns["learning_rate"]) - 5.5 * np.log(width / 4) + 0.05 * rng.standard_normal(rows)
    made = {"model": [f"m{i}" for i in range(rows)], "n_params": 10**9, "method": "gptq", "suite": "made"}
    return pl.DataFrame({**made, **columns, "bits_per_weight": width, "qid": np.exp(log_qid)})


def test_covariates_from_the_law_to_the_command_line(table: pl.DataFrame, tmp_path: Path) -> None:
    fit = qb.fit(table, LAW, random_seed=0)
    assert fit.diagnostics.problems() == []
    for name, true in TRUTH.items():
        draws = fit.draws[name]
        assert abs(draws.mean() - true) < 4 * draws.std(), name  # four posterior standard deviations
    asked = {"group_size": 128, "learning_rate": 1e-3, "bits_per_weight": 4.125}
    found = fit.predict(tokens=1e11, **asked, kind="response_params")
    by_hand = 0.03 * 2**0.25 * 1e-3**-0.2 * (4.125 / 4) ** -5.5
    assert found["median"].item() == pytest.approx(by_hand, rel=0.05)
    with pytest.raises(qb.InputError, match="also needs learning_rate"):
        fit.predict(tokens=1e11, group_size=128, bits_per_weight=4.125)
    fit.save(tmp_path / "fit.nc")
    at = [f"--at={name}={value}" for name, value in asked.items() if name != "group_size"] + ["--group-size", "128"]
    command = ["project", "fit.nc", "--tokens", "100B", "--kind", "response_params", "--format", "json", *at]
    done = run(*command, "--params", "1B", cwd=tmp_path)
    assert done.returncode == 2 and "does not depend on 'n_params'" in done.stderr
    command = ["tokens", "fit.nc", "--qid", "0.2", "--kind", "response_params", "--format", "json", *at]
    done = run(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    expected = fit.tokens_to_threshold(0.2, **asked, kind="response_params")["tokens"].item()
    assert json.loads(done.stdout)[0]["tokens"] == pytest.approx(expected)


FURTHER = qb.Law(  # of tokens of quantization-aware training, which may be none, and the learning rate's decay
    "k * D**beta / N**alpha * (1 + qat_tokens / scale)**-omega * exp(rho * decayed)",
    priors={
        "k": qb.Prior("LogNormal", mu=-3, sigma=2),
        "beta": qb.Prior("Normal", mu=0.5, sigma=0.5),
        "alpha": qb.Prior("Normal", mu=0.3, sigma=0.5),
        "scale": qb.Prior("LogNormal", mu=0, sigma=1),
        "omega": qb.Prior("Normal", mu=0.3, sigma=0.3),
        "rho": qb.Prior("Normal", mu=0, sigma=0.5),
    },
    reference={"N": 1e9, "D": 1e11, "qat_tokens": 1e9},
    noise=qb.Noise(groups=(), discrepancy="none"),
)
ASKED = {"n_params": 1e9, "tokens": 1e11}


@pytest.fixture(scope="module")
def further() -> pl.DataFrame:
    rng = np.random.default_rng(4)
    grid = np.stack(np.meshgrid([1e8, 1e9], [1e10, 1e11], [0, 1e8, 1e9, 1e10], [0, 0.5, 1.0])).reshape(4, -1)
    n, d, qat, decayed = grid
    log_qid = np.log(0.03) + 0.4 * np.log(d / 1e11) - 0.3 * np.log(n / 1e9) - 0.25 * np.log1p(qat / 2e9) + 0.3 * decayed
    model = [f"m{i}" for i in range(len(n))]
    made = {"model": model, "n_params": n, "tokens": d, "method": "qat", "bits": 4.0, "suite": "made"}
    return pl.DataFrame(
        {**made, "qid": np.exp(log_qid + 0.01 * rng.standard_normal(len(n))), "qat_tokens": qat, "decayed": decayed}
    )


@pytest.mark.filterwarnings("ignore::qidbayes.errors.DataWarning")
def test_any_column_of_numbers_is_a_covariate(further: pl.DataFrame, tmp_path: Path) -> None:
    assert FURTHER.covariates == ("N", "D", "qat_tokens", "decayed")
    assert FURTHER.sampled_name("scale") == "scale_ref"  # the units of qat_tokens are scale's
    assert r"\mathrm{qat\_tokens}" in FURTHER.latex()
    point = qb.least_squares(further, FURTHER, space="log")
    assert point.constants["scale"] == pytest.approx(2e9, rel=0.3)
    fit = qb.fit(further, FURTHER, draws=300, random_seed=0)
    for name, true in {"beta": 0.4, "alpha": 0.3, "rho": 0.3}.items():
        assert abs(fit.draws[name].mean() - true) < 4 * fit.draws[name].std(), name
    asked = {"qat_tokens": [0, 6e9], "decayed": 0.5, "kind": "response_params"}
    found = fit.predict(**ASKED, **asked)
    expected = 0.03 * np.exp(0.15) * np.array([1, 4**-0.25])
    np.testing.assert_allclose(found["median"], expected, rtol=0.03)
    fit.save(tmp_path / "fit.nc")
    assert qb.load_fit(tmp_path / "fit.nc").predict(**ASKED, **asked).equals(found)
    command = ["project", "fit.nc", "--params", "1B", "--tokens", "100B", "--kind", "response_params"]
    command += ["--at", "qat_tokens=0,6e9", "--at", "decayed=0.5", "--format", "json"]
    done = run(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [row["median"] for row in json.loads(done.stdout)] == pytest.approx(found["median"].to_list())
    with pytest.raises(qb.InputError, match="also needs decayed"):
        fit.predict(**ASKED, qat_tokens=1e9)
    with pytest.raises(qb.InputError, match="decayed must be positive and finite; got -1"):
        fit.predict(**ASKED, qat_tokens=1e9, decayed=-1)


@pytest.mark.filterwarnings("ignore::qidbayes.errors.DataWarning")
def test_a_column_that_is_missing_in_part_is_named(further: pl.DataFrame) -> None:
    with pytest.raises(qb.InputError, match=r"takes 'decayed', which has no prior and so is a column; .* has qat_tok"):
        qb.least_squares(further.drop("decayed"), FURTHER)
    holes = further.with_columns(decayed=pl.when(pl.col("decayed") > 0).then("decayed"))
    with pytest.raises(qb.InputError, match=r"'decayed' must be known .* not in 16 of 48 rows .first: m0 "):
        qb.least_squares(holes, FURTHER)
    with pytest.raises(qb.InputError, match=r"'decayed' must be known and positive .*, -1.0\)"):
        qb.least_squares(further.with_columns(decayed=-1.0), FURTHER)
    power = qb.Law("k * qat_tokens**-omega", priors={"k": FURTHER.priors["k"], "omega": FURTHER.priors["omega"]})
    with pytest.raises(qb.InputError, match=r"'qat_tokens' must be positive in every row .* no value where it is 0"):
        qb.least_squares(further, power)
    point = qb.least_squares(further.filter(pl.col("qat_tokens") > 0), power)
    with pytest.raises(qb.InputError, match="qat_tokens must be positive: law 'law' has no value where it is 0"):
        point.predict(qat_tokens=0)
    middle = qb.Law("k * (1 + qat_tokens / c)**-0.5", priors={"k": FURTHER.priors["k"], "c": FURTHER.priors["k"]},
                    reference={"qat_tokens": "data"})  # fmt: skip
    with pytest.raises(qb.InputError, match="'qat_tokens' is 0 in some rows, so that it has no middle"):
        qb.least_squares(further, middle)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("gama", "did you mean 'gamma'"),
        ("rate", "'rate' is declared but|has no prior"),
        ("beta", "'beta' has no prior"),
        ("qid", "the column 'qid' is no covariate"),
        ("method", "the column 'method' is no covariate"),
        ("tokens", "write D for the column 'tokens'"),
        ("sigma", "'sigma' has no prior"),
        ("kind", "'kind' has no prior"),
        ("Width", "'Width' has no prior"),
    ],
)
def test_a_name_that_cannot_be_a_column_is_refused(name: str, says: str) -> None:
    with pytest.raises(qb.InputError, match=says):
        qb.Law(f"gamma * {name}", priors={"gamma": qb.Prior("HalfNormal", sigma=1)} | _rate(name))


def _rate(name: str) -> dict[str, qb.Prior]:
    return {"rates": qb.Prior("HalfNormal", sigma=1)} if name == "rate" else {}


def test_a_group_that_is_a_whole_row_is_as_long_as_the_row(table: pl.DataFrame) -> None:
    per_channel = table.with_columns(
        group_size=pl.when(pl.col("group_size") < 1024).then("group_size"), row_length=pl.lit(1024.0)
    )
    expected, found = qb.least_squares(table, LAW), qb.least_squares(per_channel, LAW)
    assert found.constants == pytest.approx(expected.constants)
    asked = {"tokens": 1e11, "learning_rate": 1e-3, "bits_per_weight": 4.125}
    whole = found.predict(**asked, group_size=-1, row_length=1024)["median"].item()
    assert whole == pytest.approx(expected.predict(**asked, group_size=1024)["median"].item())
    with pytest.raises(qb.InputError, match="group_size must be positive"):
        found.predict(**asked, group_size=-1)


def test_an_unknown_value_of_a_covariate_is_named(table: pl.DataFrame) -> None:
    per_channel = table.with_columns(group_size=pl.when(pl.col("bits") > 2).then("group_size"))
    with pytest.raises(qb.InputError, match=r"'group_size' must be known and positive in every row .* as 'row_length'"):
        qb.fit(per_channel, LAW)


OF_EXPERTS = qb.Law(
    "k * D**beta / (N**(alpha * (1 - share)) * n_params_active**(alpha * share) * P**gamma)",
    priors={
        "k": qb.Prior("LogNormal", mu=-3, sigma=2),
        "beta": qb.Prior("Normal", mu=0.5, sigma=0.5),
        "alpha": qb.Prior("Normal", mu=0.3, sigma=0.5),
        "share": qb.Prior("Normal", mu=0.5, sigma=0.5),
        "gamma": qb.Prior("Normal", mu=5, sigma=3),
    },
    reference={"N": 1e9, "n_params_active": 1e9, "D": 1e11, "P": 4},
    noise=qb.Noise(groups=(), discrepancy="none"),
)


def test_active_parameters_of_experts_are_a_covariate(tmp_path: Path) -> None:
    """Dense models and mixtures; least squares finds how much of the size that counts is the active one's.

    The law is linear on logarithms, so NumPy's own least squares says what it must find; with noise of 1% in 24 rows
    that is the truth within some hundredths.
    """
    rng = np.random.default_rng(5)
    grid = np.meshgrid([1e9, 8e9], [1.0, 0.25], [1e11, 1e12], [2.0, 3.0, 4.0])
    n, share, d, bits = np.stack(grid).reshape(4, -1)
    columns = np.log([d / 1e11, n / 1e9, n * share / 1e9, bits / 4])
    log_qid = np.log(0.03) + columns.T @ [0.4, -0.3 * 0.3, -0.3 * 0.7, -5] + 0.01 * rng.standard_normal(len(n))
    made = {"model": [f"m{i}" for i in range(len(n))], "method": "gptq", "suite": "made", "qid": np.exp(log_qid)}
    path = tmp_path / "table.csv"
    table = pl.DataFrame({**made, "n_params": n, "n_params_active": n * share, "tokens": d, "bits": bits})
    table.write_csv(path)
    fit = qb.least_squares(qb.read_table(path), OF_EXPERTS, space="log")  # no warning: the column is known
    k, beta, whole, active, gamma = np.linalg.lstsq(np.vstack([np.ones(len(n)), columns]).T, log_qid)[0]
    expected = {"beta": beta, "alpha": -whole - active, "share": active / (whole + active), "gamma": -gamma}
    assert {name: fit.constants[name] for name in expected} == pytest.approx(expected, rel=1e-3)
    assert [*expected.values()] == pytest.approx([0.4, 0.3, 0.7, 5], abs=0.05)
    asked = {"n_params": 47e9, "tokens": 1e12, "bits": 4}
    found = fit.predict(**asked, n_params_active=13e9)["median"].item()
    assert found == pytest.approx(np.exp(k) * 10**beta * 47**whole * 13**active, rel=1e-3)
    with pytest.raises(qb.InputError, match="also needs n_params_active"):
        fit.predict(**asked)
