"""Columns beside N, D and P in an equation: from the law to the answers and the command line."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

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
    at = [f"--at={name}={value}" for name, value in asked.items()]
    command = ["project", "fit.nc", "--tokens", "100B", "--kind", "response_params", "--format", "json", *at]
    done = subprocess.run([sys.executable, "-m", "qidbayes", *command, "--params", "1B"], cwd=tmp_path,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 2 and "does not depend on 'n_params'" in done.stderr
    command = ["tokens", "fit.nc", "--qid", "0.2", "--kind", "response_params", "--format", "json", *at]
    done = subprocess.run([sys.executable, "-m", "qidbayes", *command], cwd=tmp_path,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    expected = fit.tokens_to_threshold(0.2, **asked, kind="response_params")["tokens"].item()
    assert json.loads(done.stdout)[0]["tokens"] == pytest.approx(expected)


def test_an_unknown_value_of_a_covariate_is_named(table: pl.DataFrame) -> None:
    per_channel = table.with_columns(group_size=pl.when(pl.col("bits") > 2).then("group_size"))
    with pytest.raises(qb.InputError, match="column 'group_size' must be known and positive in every row"):
        qb.fit(per_channel, LAW)
