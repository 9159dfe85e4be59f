"""Rows of models whose training tokens nobody tells: laws without D fit them, and the others say what to do."""

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import qidbayes as qb
from qidbayes.infer.design import design
from qidbayes.law import load_law, parse_law
from qidbayes.law.plausibility import doubts

LAW = """\
title = "QiD against size and bits"
response = "qid"
equation = "k / (N**alpha * P**gamma)"
[parameters]
k     = { prior = "LogNormal", mu = -2.0, sigma = 2.0 }
alpha = { prior = "Normal", mu = 0.3, sigma = 0.5 }
gamma = { prior = "Normal", mu = 4.0, sigma = 3.0 }
[reference]
N = 1e9
P = 4
[noise]
groups = ["model"]
discrepancy = "none"
"""


def table() -> pl.DataFrame:
    """Twelve models at three widths; of the even ones nobody tells the tokens. α is 0.3 and γ 5."""
    rng = np.random.default_rng(0)
    rows = []
    for i, n in enumerate(np.geomspace(1e8, 1e11, 12)):
        for bits in (2.0, 3.0, 4.0):
            qid = 0.05 * (n / 1e9) ** -0.3 * (bits / 4) ** -5 * math.exp(0.1 * rng.standard_normal())
            tokens = 2e12 if i % 2 else None
            rows.append({"suite": "s", "model": f"m{i}", "n_params": round(n), "tokens": tokens, "method": "gptq",
                         "bits": bits, "qid": qid, "loss_16bit": 2.5})  # fmt: skip
    return pl.DataFrame(rows)


def test_a_law_without_d_is_fitted_to_them_and_asked(tmp_path: Path) -> None:
    fit = qb.fit(table(), parse_law(LAW), random_seed=0, draws=800, tune=300, chains=2)
    assert fit.data.height == 36 and fit.data["tokens"].null_count() == 18
    for name, true in (("alpha", 0.3), ("gamma", 5.0)):
        found = fit.interval(name).row(0, named=True)
        assert abs(found["mean"] - true) < 4 * found["sd"]
    fit.save(tmp_path / "mine.nc")
    again = qb.load_fit(tmp_path / "mine.nc")
    assert again.data["tokens"].null_count() == 18
    asked = {"n_params": "7B", "bits": [3, 4]}
    assert again.predict(**asked)["median"].to_list() == fit.predict(**asked)["median"].to_list()
    assert again.held(again.predict(**asked))["not_fitted"].null_count() == 2


@pytest.mark.parametrize(
    ("law", "why"),
    [
        ("unified", "its equation has D"),
        ("size", "its constants differ by tokens"),
        ("smooth", "its discrepancy is over D"),
    ],
)
def test_a_law_with_d_says_what_to_do(law: str, why: str) -> None:
    chosen = load_law(law) if law != "smooth" else parse_law(LAW.replace('"none"', '"smooth"'))
    message = (
        rf"tokens: 18 of 36 rows do not say .*\(first: m0 \), and law .* needs that: {why}\. Give the tokens, leave"
    )
    with pytest.raises(qb.InputError, match=message):
        design(table(), chosen)
    if law == "unified":
        assert design(table().filter(pl.col("tokens").is_not_null()), chosen).frame.height == 18


def test_doubts_are_of_the_rows_that_tell() -> None:
    assert doubts(qb.read_table(table().with_columns(tokens=pl.lit(None, pl.Int64)))) == []
    assert any("in millions" in doubt for doubt in doubts(qb.read_table(table().with_columns(n_params=2000))))


def test_they_are_written_read_and_joined(tmp_path: Path) -> None:
    qb.write_table(table(), tmp_path / "mine.csv")
    qb.write_table(table(), tmp_path / "mine.parquet")
    for name in ("mine.csv", "mine.parquet"):
        joined = qb.join_tables(tmp_path / name, "spectra")
        assert joined["tokens"].null_count() == 18 and joined.height == 54
