"""A law of the loss after quantization: its rows, its answers as loss, as 16-bit loss and as QiD."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import qidbayes as qb
from qidbayes.errors import AssumptionWarning
from qidbayes.infer.design import design
from qidbayes.law import law_from_dict, load_law, parse_law
from qidbayes.score.ecdf_envelope import Envelope
from qidbayes.score.sbc import calibrate, simulate
from qidbayes.table.schema import validate

PRIORS = {
    "E": qb.Prior("LogNormal", mu=0.5, sigma=0.3),
    "A": qb.Prior("LogNormal", mu=-0.5, sigma=0.5),
    "B": qb.Prior("LogNormal", mu=-0.5, sigma=0.5),
    "k": qb.Prior("LogNormal", mu=-2, sigma=1),
    "alpha": qb.Prior("LogNormal", mu=-1, sigma=0.4),
    "beta": qb.Prior("LogNormal", mu=-1, sigma=0.4),
    "gamma": qb.Prior("Normal", mu=4, sigma=2),
}
LAW = qb.Law(
    "E + A / N**alpha + B / D**beta + k / P**gamma",
    priors=PRIORS,
    response="loss",
    unquantized=math.inf,
    reference={"N": 1e9, "D": 1e11, "P": 4},
    noise=qb.Noise(groups=("model",), scale=0.1, discrepancy="none"),
)
SIGMA = 0.004
pytestmark = pytest.mark.filterwarnings(
    "ignore::qidbayes.errors.DataWarning",
    "ignore::qidbayes.errors.DiagnosticsWarning",
    "ignore::qidbayes.errors.AssumptionWarning",
)


def _losses(n: np.ndarray, d: np.ndarray, bits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    base = 1.8 + 0.5 * (n / 1e9) ** -0.34 + 0.4 * (d / 1e11) ** -0.37
    return base, base + 0.15 * (bits / 4) ** -4.5


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    n, d, bits = (v.ravel() for v in np.meshgrid([1e8, 4e8, 1.6e9, 6.4e9], [1e10, 5e10, 3e11], [2.0, 3, 4]))
    base, loss = _losses(n, d, bits)
    columns = {"model": [f"m{v:g}" for v in n], "n_params": n, "tokens": d, "method": "gptq", "bits": bits}
    return pl.DataFrame({"suite": "made", **columns, "loss_16bit": base, "loss": loss})


@pytest.fixture(scope="module")
def fit(table: pl.DataFrame) -> qb.Fit:
    rng = np.random.default_rng(1)
    noisy = table.with_columns(loss=table["loss"] * np.exp(SIGMA * rng.standard_normal(table.height)))
    return qb.fit(noisy, LAW, draws=500, random_seed=0)


def test_16_bit_losses_are_rows_of_their_own(table: pl.DataFrame) -> None:
    rows = design(table, LAW)
    whole = rows.frame.filter(method="none")
    assert rows.frame.height == 36 + 12
    assert whole["bits"].unique().to_list() == [1e6] and whole["loss"].equals(whole["loss_16bit"].rename("loss"))
    assert design(table, qb.Law(**{**vars_of(LAW), "unquantized": None})).frame.height == 36
    named = pl.DataFrame({"model": "base", "n_params": 1e9, "tokens": 1e11, "method": "none", "bits": 16.0,
                          "loss_16bit": 2.7})  # fmt: skip
    both = qb.join_tables(table, named)
    assert design(both, LAW).frame.filter(model="base")["loss"].to_list() == [2.7]
    errors = table.with_columns(loss_se=pl.lit(0.03))
    np.testing.assert_allclose(design(errors, LAW).variance, (0.03 / design(errors, LAW).response) ** 2)


def vars_of(law: qb.Law) -> dict[str, Any]:
    return {name: getattr(law, name) for name in law.__dataclass_fields__}


def test_least_squares_answers_as_loss_and_as_qid(table: pl.DataFrame) -> None:
    point = qb.least_squares(table, LAW, space="log")
    asked = {"n_params": 7e8, "tokens": 2e11}
    base, loss = _losses(*(np.array([v]) for v in (7e8, 2e11, 3.0)))
    for response, bits, expected in (("loss", 3, loss), ("qid", 3, loss - base), ("loss_16bit", None, base)):
        found = point.predict(**asked, bits=bits, response=response)["median"].item()  # type: ignore[arg-type]
        assert found == pytest.approx(expected.item(), rel=1e-6)
    with pytest.raises(qb.InputError, match="a 16-bit loss is of no bit width; leave bits out"):
        point.predict(**asked, bits=3, response="loss_16bit")


def test_a_fit_answers_as_loss_as_16_bit_loss_and_as_qid(fit: qb.Fit, tmp_path: Path) -> None:
    asked = {"n_params": 7e8, "tokens": 2e11}
    base, loss = _losses(*(np.array([v]) for v in (7e8, 2e11, 3.0)))
    for response, bits, expected in (("loss", 3, loss), ("qid", 3, loss - base), ("loss_16bit", None, base)):
        found = fit.predict(**asked, bits=bits, response=response, kind="response_params")  # type: ignore[arg-type]
        assert found["lower"].item() < expected.item() < found["upper"].item()
    fit.save(tmp_path / "loss.nc")
    again = qb.load_fit(tmp_path / "loss.nc")
    assert again.predict(**asked, bits=[2, 3], response="qid").equals(fit.predict(**asked, bits=[2, 3], response="qid"))


def test_a_measured_qid_has_two_errors_and_one_run(fit: qb.Fit) -> None:
    with pytest.warns(AssumptionWarning, match="two losses, each with an error of its own"):
        found = fit.predict(n_params=7e8, tokens=2e11, bits=[3, 4], response="qid")
    mean = fit.predict(n_params=7e8, tokens=2e11, bits=[3, 4], response="qid", kind="response_params")
    base, loss = _losses(np.full(2, 7e8), np.full(2, 2e11), np.array([3.0, 4]))
    sigma, run = np.square(fit.draws["sigma"]).mean(), np.square(fit.draws["model_sd"]).mean()
    by_hand = np.sqrt(mean["sd"].to_numpy() ** 2 + sigma * (loss**2 + base**2) + run * (loss - base) ** 2)
    np.testing.assert_allclose(found["sd"], by_hand, rtol=0.1)  # of 2,000 draws: 3 standard errors are 5%


def test_what_a_loss_law_cannot_say_is_refused(fit: qb.Fit, table: pl.DataFrame) -> None:
    with pytest.raises(qb.InputError, match="is of the loss itself; ask predict, with response='qid'"):
        fit.project(n_params=7e9, bits=3)
    with pytest.raises(qb.InputError, match="does not say how QiD grows"):
        fit.tokens_to_threshold(0.2, n_params=1e9, bits=3)
    plain = qb.Law("k / P**gamma", priors={n: PRIORS[n] for n in ("k", "gamma")}, response="loss")
    with pytest.raises(qb.InputError, match="does not say the bits of a model that was not quantized"):
        qb.least_squares(table, plain).predict(bits=3, response="qid")
    for fields, says in (
        ({"response": "qid"}, "unquantized is of a law of the loss after quantization"),
        ({"unquantized": -1.0}, "must be a positive number of bits"),
        ({"equation": "E + A / N**alpha + B / D**beta + k * exp(-gamma)"}, "that depends on bits"),
        ({"equation": "E + A / N**alpha + B / D**beta + k / (P * group_size)**gamma"}, "has no group_size"),
    ):
        with pytest.raises(qb.InputError, match=says):
            qb.Law(**{**vars_of(LAW), "reference": {}, **fields})


def test_a_file_says_what_p_is_without_quantization() -> None:
    said = 'response = "loss"\nequation = "k / P**gamma + 1"\nunquantized = {}\n[parameters]\n'
    said += 'k = {{prior = "HalfNormal", sigma = 1}}\ngamma = {{prior = "HalfNormal", sigma = 1}}'
    assert parse_law(said.format('"infinity"')).bits_unquantized == 1e6
    law = parse_law(said.format(16))
    assert law.bits_unquantized == 16 and law_from_dict(law.to_dict()) == law
    assert r"\mathrm{Loss}_q" in law.latex() and "P = 16" in str(law)
    with pytest.raises(qb.InputError, match="unquantized = 'many'; give a finite number"):
        parse_law(said.format('"many"'))


def test_simulated_losses_agree_with_their_16_bit_losses(table: pl.DataFrame) -> None:
    found = simulate(table, LAW, random_seed=3)
    again = design(found.table, LAW)
    assert again.frame.height == 48
    assert validate(found.table, "simulated").height == 48
    np.testing.assert_allclose(np.sort(again.response), np.sort(np.exp(again.log_response)))
    only = qb.Law(**{**vars_of(LAW), "unquantized": None})
    assert design(simulate(table, only, random_seed=3).table, only).frame.height == 36


def test_the_16_bit_loss_in_shannon_is_one_more_channel() -> None:
    table = qb.load_table("pythia")
    rows = design(table, load_law("shannon"))
    assert rows.coords["bits"] == ("2", "3", "4", "16")
    assert rows.frame.height == 360 + 120


@pytest.mark.slow
def test_a_law_of_the_loss_is_calibrated(table: pl.DataFrame) -> None:
    """Simulated from its priors and refitted, every truth's rank is uniform: losses and 16-bit losses together."""
    seeds = range(60)
    ranks = calibrate(table, LAW, seeds)
    envelope = Envelope(len(seeds))
    outside = [name for name in ranks.columns[3:] if envelope.margin(ranks[name].to_numpy()) < 0]
    assert not outside
