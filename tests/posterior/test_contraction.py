"""What the data leave of the prior: directions of the constants and the noise, against linear algebra by hand."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from made import NESTED, SMOOTH, unified_fit
from scipy import linalg

import qidbayes as qb
from qidbayes.posterior.contraction import judged, least_contracted, of_noise, on_real_line
from qidbayes.posterior.diagnostics import Diagnostics, Direction
from qidbayes.posterior.fit import IdentificationWarning

PRIOR_SD = np.array([2.0, 0.5, 0.5, 3.0])
"""Of log k, β, α and γ in the law `unified`."""
NAMES = ("k_ref", "beta", "alpha", "gamma")


def drawn(precision: np.ndarray, count: int = 20_000) -> dict[str, np.ndarray]:
    """Draws whose covariance is exactly the precision's inverse."""
    noise = np.random.default_rng(0).standard_normal((count, 4))
    noise -= noise.mean(axis=0)
    noise = noise @ np.linalg.inv(np.linalg.cholesky(np.cov(noise, rowvar=False))).T
    values = noise @ np.linalg.cholesky(np.linalg.inv(precision)).T
    return dict(zip(NAMES, values.T, strict=True))


def along_a_line(jitter: float, seed: int = 0) -> pl.DataFrame:
    """Twelve runs of three widths, D = 20·N but for some jitter."""
    rng = np.random.default_rng(seed)
    n = np.geomspace(1e8, 1e10, 12)
    d = 20 * n * np.exp(jitter * rng.standard_normal(12))
    runs = pl.DataFrame({"model": [f"run {i}" for i in range(12)], "n_params": n.round(), "tokens": d.round()})
    table = runs.join(pl.DataFrame({"bits": [2.0, 3.0, 4.0]}), how="cross")
    law = 0.035 * (pl.col("tokens") / 1e11) ** 0.47 / ((pl.col("n_params") / 1e9) ** 0.3 * (pl.col("bits") / 4) ** 5.8)
    return table.with_columns(
        law.alias("qid") * np.exp(0.05 * rng.standard_normal(36)),
        suite=pl.lit("line"), revision=pl.lit("end"), method=pl.lit("gptq"), group_size=128, dataset=pl.lit("x"),
    )  # fmt: skip


def exact_precision(table: pl.DataFrame, sigma: float) -> np.ndarray:
    """Of the constants given rows with independent errors: the prior's and the least-squares one."""
    n, d, p = (table[name].to_numpy() for name in ("n_params", "tokens", "bits"))
    effects = np.stack([np.ones(len(n)), np.log(d / 1e11), -np.log(n / 1e9), -np.log(p / 4)], axis=1)
    return np.asarray(effects.T @ effects / sigma**2 + np.diag(PRIOR_SD**-2.0))


def test_it_is_the_first_generalised_eigenvector() -> None:
    precision = exact_precision(along_a_line(0.02), 0.05)
    found = least_contracted(qb.load_law("unified"), drawn(precision), {})
    assert found is not None
    ratios, directions = linalg.eigh(np.linalg.inv(precision), np.diag(PRIOR_SD**2))
    assert found.ratio == pytest.approx(ratios[-1], rel=0.02)  # the prior's variances are of 20,000 draws
    expected = directions[:, -1] * PRIOR_SD
    expected *= np.sign(expected[np.abs(expected).argmax()])
    assert list(found.weights) == ["log k_ref", "beta", "alpha", "gamma"]
    np.testing.assert_allclose(list(found.weights.values()), expected / np.linalg.norm(expected), atol=0.01)


def test_no_other_direction_is_wider() -> None:
    values = drawn(exact_precision(along_a_line(0.1), 0.05))
    found = least_contracted(qb.load_law("unified"), values, {})
    assert found is not None
    rng = np.random.default_rng(1)
    for a in rng.standard_normal((200, 4)):
        spread = np.var(sum(x * values[n] for x, n in zip(a, NAMES, strict=True)), ddof=1)
        assert spread / np.square(a * PRIOR_SD).sum() < found.ratio * 1.03


def test_constants_that_are_narrow_each_may_have_a_sum_that_is_not(tmp_path: Path) -> None:
    """Twelve runs with D = 20·N within 1%: the fit's least contracted direction is that of least squares by hand."""
    table = along_a_line(0.01)
    law = qb.load_law("unified").with_noise(discrepancy="none", groups=())
    fit = qb.fit(table, law, random_seed=0, draws=500, tune=500, chains=2)
    assert fit.diagnostics.unidentified == ()
    assert fit.diagnostics.contraction["alpha"] > 0.4 and fit.diagnostics.contraction["beta"] > 0.4
    (direction,) = fit.diagnostics.directions
    ratio = linalg.eigh(np.linalg.inv(exact_precision(table, 0.05)), np.diag(PRIOR_SD**2))[0][-1]
    assert ratio > 0.8  # a contraction below 0.2
    # A variance of some 400 effective draws has a standard error of 7%.
    assert direction.ratio == pytest.approx(ratio, rel=0.3)
    largest = sorted(direction.weights, key=lambda name: -abs(direction.weights[name]))[:2]
    assert set(largest) == {"alpha", "beta"}
    assert direction.weights["alpha"] * direction.weights["beta"] > 0
    with pytest.warns(IdentificationWarning, match=r"the data hardly tell .*alpha.* apart from the prior") as told:
        fit.predict(n_params=7e9, tokens=15e12, bits=4)
    assert told[0].filename == __file__
    assert any("hardly tell" in remark for remark in fit.diagnostics.remarks())
    fit.save(tmp_path / "fit.nc")
    loaded = qb.load_fit(tmp_path / "fit.nc").diagnostics
    # R-hat and ESS are worked out anew from draws that went through a transform: ranks may change by rounding.
    assert replace(loaded, convergence={}) == replace(fit.diagnostics, convergence={})
    assert loaded.convergence.keys() == fit.diagnostics.convergence.keys()


def test_what_is_not_identified_by_itself_is_left_out() -> None:
    values = drawn(exact_precision(along_a_line(0.5).filter(pl.col("bits") == 3), 0.05))
    law = qb.load_law("unified")
    with_gamma = least_contracted(law, values, {})
    without = least_contracted(law, values, {}, ["gamma"])
    assert with_gamma is not None and without is not None
    assert with_gamma.ratio == pytest.approx(1.0, abs=0.05)
    assert "gamma" not in without.weights and without.ratio < 0.3
    assert least_contracted(law, values, {}, ["gamma", "alpha", "beta"]) is None


def test_groups_enter_by_their_mean_where_they_are_pooled_and_each_by_itself_otherwise() -> None:
    rng = np.random.default_rng(0)
    values = {name: 0.01 * rng.standard_normal((4000, 2)) for name in ("k_ref", "beta", "alpha")}
    values["gamma"] = 0.01 * rng.standard_normal(4000)
    apart = rng.standard_normal(4000) * 0.5
    values["beta"] = values["beta"] + np.stack([apart, -apart], axis=1)  # nothing is known of the difference
    pooled = least_contracted(qb.load_law("pooled-bit"), values, {"bits": ("3", "4")})
    assert pooled is not None and pooled.ratio < 0.01
    names = {"c_ref": values["k_ref"], "beta": values["beta"], "alpha": values["alpha"]}
    each = least_contracted(qb.load_law("per-bit"), names, {"bits": ("3", "4")})
    assert each is not None and each.ratio > 0.5
    assert str(each) in ("beta[3] - beta[4]", "beta[4] - beta[3]")


@pytest.mark.parametrize(
    ("weights", "sd", "text"),
    [
        ({"alpha": 0.7, "beta": 0.71}, (0.5, 0.5), "beta + alpha"),
        ({"log k_ref": 0.9, "alpha": -0.4}, (2.0, 0.5), "log k_ref - 1.8 alpha"),
        ({"a": 0.99, "b": 0.1}, (1.0, 1.0), "a"),
        (dict.fromkeys("abcdef", 0.4), (1.0,) * 6, "a + b + c + d + … (2 more)"),
    ],
)
def test_a_direction_reads_as_a_sum(weights: dict[str, float], sd: tuple[float, ...], text: str) -> None:
    found = Direction(0.8, weights, dict(zip(weights, sd, strict=True)))
    assert str(found) == text
    remarks = Diagnostics({}, 0, (1.0,), {}, directions=(found,)).remarks()
    assert remarks == [f"the data hardly tell {text} apart from the prior: its posterior sd is 89% of its prior sd"]
    assert Diagnostics({}, 0, (1.0,), {}, directions=(Direction(0.49, weights, found.prior_sd),)).remarks() == []
    whole = Diagnostics({}, 0, (1.0,), {}).with_part("loss_16bit", Diagnostics({}, 0, (), {}, directions=(found,)))
    assert "loss_16bit: " in whole.remarks()[0]


def noisy_fit(learnt: tuple[str, ...], data: pl.DataFrame, count: int = 4000) -> qb.Fit:
    """A fit whose numbers of the noise are drawn from their priors, but for those that are learnt."""
    rng = np.random.default_rng(0)
    prior = {
        "smooth_sd": np.abs(rng.normal(0, 0.5, count)),
        "suite_sd": rng.lognormal(np.log(0.7), 0.5, count),
        "model_sd": rng.lognormal(np.log(0.25), 0.7, count),
        **{name: rng.lognormal(np.log(1.5), 0.5, count) for name in ("length_params", "length_tokens", "length_bits")},
        "similarity": rng.beta(2, 2, count),
    }
    narrow = {name: SMOOTH[name] * np.exp(0.1 * rng.standard_normal(count)) for name in SMOOTH if name != "similarity"}
    narrow["similarity"] = 0.6 + 0.02 * rng.standard_normal(count)
    noise = {name: narrow[name] if name in learnt or name not in prior else prior[name] for name in SMOOTH}
    constants = {name: np.full(count, value) for name, value in zip(NAMES, (0.04, 0.5, 0.3, 5.0), strict=True)}
    fit = unified_fit(constants, noise, data)
    flat = {name: values.reshape(-1) for name, values in fit.draws.items()}
    return replace(fit, diagnostics=judged(fit.diagnostics, fit.law, flat, fit.coords))


@pytest.fixture
def data() -> pl.DataFrame:
    return qb.load_table("pythia").filter(pl.col("tokens").rank("dense") % 6 == 0)


def test_the_contraction_of_noise_is_of_variances_on_the_log_and_logit_scale() -> None:
    rng = np.random.default_rng(3)
    draws = {
        "suite_sd": rng.lognormal(0, 0.25, 20_000),  # half of the prior's sd
        "similarity": 1 / (1 + np.exp(-rng.normal(0, 0.5, 20_000))),
        "sigma": np.exp(rng.normal(-2, 0.1, 20_000)),
    }
    law = qb.load_law("unified")
    found = of_noise(law, on_real_line(law, draws))
    assert found["suite_sd"] == pytest.approx(1 - 0.5**2, abs=0.02)
    # The logit of Beta(2, 2) has the variance 2·ψ'(2) = 2(π²/6 − 1); the log of a half-normal π²/8.
    assert found["similarity"] == pytest.approx(1 - 0.25 / (2 * (np.pi**2 / 6 - 1)), abs=0.02)
    assert found["sigma"] == pytest.approx(1 - 0.01 / (np.pi**2 / 8), abs=0.002)


ASKED = {
    "suite_sd": {"suite": "another", "model": None},
    "similarity": {"method": "awq"},
    "length_params": {"n_params": 1e12},
    "length_tokens": {"tokens": 1e14},
    "length_bits": {"bits": 8.0},
    "model_sd": {},
}


@pytest.mark.filterwarnings("ignore::qidbayes.errors.ExtrapolationWarning")
@pytest.mark.parametrize("name", ASKED)
def test_an_answer_that_rests_on_a_number_of_the_noise_says_so(name: str, data: pl.DataFrame) -> None:
    known = tuple(number for number in SMOOTH if number != name)
    unlearnt, learnt = noisy_fit(known, data), noisy_fit(tuple(SMOOTH), data)
    inside = {"n_params": 1e9, "tokens": 1e11, "bits": 4.0}
    asked = {**inside, **{column: value for column, value in ASKED[name].items() if value is not None}}
    with pytest.warns(
        IdentificationWarning, match=f"^these data do not identify {name}: an answer for .* rests on its prior$"
    ) as told:
        unlearnt.predict(**asked)
    assert told[0].filename == __file__
    for fit, values, kind in (
        (learnt, asked, "response"),  # the data say something of it
        (unlearnt, asked, "response_params"),  # the law alone has no noise
        (unlearnt, {**inside, "model": data["model"][0]}, "response"),  # nothing of it is new
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("error", IdentificationWarning)
            fit.predict(
                **({k: v for k, v in values.items() if k in inside} if kind != "response" else values), kind=kind
            )


def test_without_a_discrepancy_a_single_run_says_nothing_of_how_much_runs_differ(data: pl.DataFrame) -> None:
    rng = np.random.default_rng(0)
    constants = {name: np.full(4000, value) for name, value in zip(NAMES, (0.04, 0.5, 0.3, 5.0), strict=True)}
    fit = unified_fit(constants, {**NESTED, "model_sd": rng.lognormal(np.log(0.25), 0.7, 4000)}, data)
    flat = {name: values.reshape(len(values[0]), -1)[:, 0] for name, values in fit.draws.items()}
    fit = replace(fit, diagnostics=judged(fit.diagnostics, fit.law, flat, fit.coords))
    asked = pl.DataFrame({"n_params": [1e9], "tokens": [1e11], "bits": [4.0]})
    (told,) = fit.cautions(asked)
    assert told.startswith("these data do not identify model_sd: an answer for a training run that was not fitted")
    assert fit.cautions(asked.with_columns(model=pl.lit(data["model"][0]))) == []
