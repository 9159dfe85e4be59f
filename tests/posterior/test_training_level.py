"""The posterior of tokens against closed forms, a plain multivariate normal, and simulations with known truth."""

import warnings

import numpy as np
import polars as pl
import pytest
from made import NESTED, SMOOTH, unified_fit
from scipy import stats

import qidbayes as qb
from qidbayes.noise.coordinates import Fitted
from qidbayes.noise.kernels import covariance
from qidbayes.posterior.training_level import PriorEdgeWarning

ONE = {"k_ref": 0.04, "beta": 0.5, "alpha": 0.3, "gamma": 5.0}
WIDE = (1e2, 1e20)
KNOWN = "EleutherAI/pythia-160m-deduped"


def log_law(constants: dict, log_tokens: np.ndarray, n: float, bits: np.ndarray) -> np.ndarray:
    """Eq. 8 as printed, relative to its reference point."""
    return (
        np.log(constants["k_ref"])
        + constants["beta"] * (log_tokens - np.log(1e11))
        - constants["alpha"] * np.log(n / 1e9)
        - constants["gamma"] * np.log(bits / 4)
    )


@pytest.fixture
def data() -> pl.DataFrame:
    return qb.load_table("pythia").filter(pl.col("n_params") < 1e9, pl.col("tokens") > 1.5e11)


@pytest.mark.parametrize("effect", [None, 0.25])
def test_one_set_of_constants_gives_generalised_least_squares(data: pl.DataFrame, effect: float | None) -> None:
    """With θ known, log D is normal: precision β²·1ᵀV⁻¹1, V with the effects of run and checkpoint all over."""
    fit = unified_fit(ONE, NESTED, data, None if effect is None else {KNOWN: effect})
    bits, qid, error = np.array([4.0, 3.0, 2.0]), np.array([0.05, 0.25, 1.4]), np.array([0.002, 0.02, 0.01])
    known = {} if effect is None else {"model": KNOWN}
    found = fit.training_level(qid, n_params=7e9, bits=bits, qid_se=error, between=WIDE, ci_prob=0.8, **known)
    shared = 0.2**2 + (0.3**2 if effect is None else 0.0)
    v = np.full((3, 3), shared) + np.diag(0.1**2 + (error / qid) ** 2)
    weights = np.linalg.solve(v, np.ones(3))
    above = np.log(qid) - log_law(ONE, np.zeros(3), 7e9, bits) - (effect or 0.0)
    mean, sd = weights @ above / weights.sum() / 0.5, 1 / np.sqrt(weights.sum()) / 0.5
    expected = stats.norm(mean, sd).ppf([0.5, 0.1, 0.9])
    # The grid of tokens answers to a fifth of a percent.
    np.testing.assert_allclose(np.log(found.select("median", "lower", "upper").row(0)), expected, atol=2e-3)
    assert found["measurements"].item() == 3


def test_draws_are_weighed_by_bayes_rule(data: pl.DataFrame) -> None:
    """Two slopes: under the flat prior each counts with the width it gives log D, 1/β."""
    fit = unified_fit({**ONE, "beta": np.array([0.4, 0.8])}, NESTED, data)
    found = fit.training_level(0.1, n_params=1e9, bits=4, between=(1e-30, 1e60))
    sd = np.sqrt(0.1**2 + 0.2**2 + 0.3**2)
    slopes = np.array([0.4, 0.8])
    parts = stats.norm(np.log(1e11) + np.log(0.1 / 0.04) / slopes, sd / slopes)
    weights = (1 / slopes) / (1 / slopes).sum()
    ends = np.log(found.select("median", "lower", "upper").row(0))
    np.testing.assert_allclose([(weights * parts.cdf(x)).sum() for x in ends], [0.5, 0.05, 0.95], atol=1e-3)


@pytest.mark.parametrize("run", [{}, {"model": KNOWN}])
def test_with_a_discrepancy_it_is_a_ratio_of_multivariate_normals(data: pl.DataFrame, run: dict[str, str]) -> None:
    """p(fitted rows and measurements | D) from scipy, on a grid, is the posterior's density."""
    draws = {**ONE, "beta": np.array([0.45, 0.55])}
    fit = unified_fit(draws, SMOOTH, data)
    bits, qid, n = np.array([4.0, 2.0]), np.array([0.09, 2.0]), 85_056_000.0
    found = fit.training_level(qid, n_params=n, bits=bits, between=(1e9, 1e14), **run)
    grid = np.linspace(np.log(1e9), np.log(1e14), 200)
    place = Fitted(data)
    here = place.coordinates(data)
    own, d, p = (data[c].to_numpy() for c in ("qid", "tokens", "bits"))
    density = np.zeros(len(grid))
    for beta in draws["beta"]:
        one = {**ONE, "beta": beta}
        left = np.log(own) - log_law(one, np.log(d), data["n_params"].to_numpy(), p)
        fitted = covariance(SMOOTH, here, here, np) + 0.01 * np.eye(len(own))
        base = stats.multivariate_normal(cov=fitted).logpdf(left)  # draws already know the fitted rows
        for i, x in enumerate(grid):
            frame = pl.DataFrame(
                {"n_params": [n] * 2, "tokens": [np.exp(x)] * 2, "bits": bits, "revision": ["new"] * 2}
            )
            there = place.coordinates(frame.with_columns(pl.lit(v).alias(k) for k, v in run.items()))
            both = {name: np.concatenate([here[name], there[name]]) for name in here}
            full = covariance(SMOOTH, both, both, np) + 0.01 * np.eye(len(own) + 2)
            all_left = np.concatenate([left, np.log(qid) - log_law(one, x, n, bits)])
            density[i] += np.exp(stats.multivariate_normal(cov=full).logpdf(all_left) - base)
    share = np.cumsum((density[1:] + density[:-1]) / 2)
    expected = np.interp([0.5, 0.05, 0.95], share / share[-1], grid[1:])
    np.testing.assert_allclose(np.log(found.select("median", "lower", "upper").row(0)), expected, atol=2e-3)


@pytest.mark.parametrize("count", [1, 3])
def test_intervals_hold_the_truth_as_often_as_they_say(data: pl.DataFrame, count: int) -> None:
    """Tokens from the prior, constants from the posterior, effects from their distributions; 90% within 3.5 SE."""
    rng = np.random.default_rng(count)
    draws = {name: value * np.exp(0.1 * rng.standard_normal(60)) for name, value in ONE.items()}
    fit = unified_fit(draws, NESTED, data)
    bits, tries, held = np.array([4.0, 3.0, 2.0])[:count], 400, 0
    for _ in range(tries):
        which = rng.integers(60)
        one = {name: values[which] for name, values in draws.items()}
        log_d = rng.uniform(np.log(1e10), np.log(1e13))
        shared = 0.3 * rng.standard_normal() + 0.2 * rng.standard_normal()
        y = log_law(one, log_d, 7e9, bits) + shared + 0.1 * rng.standard_normal(count)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PriorEdgeWarning)
            found = fit.training_level(np.exp(y), n_params=7e9, bits=bits, between=(1e10, 1e13))
        held += found["lower"].item() <= np.exp(log_d) <= found["upper"].item()
    assert abs(held / tries - 0.9) < 3.5 * np.sqrt(0.09 / tries)


def test_more_widths_of_one_checkpoint_narrow_it_little(unified: qb.Fit) -> None:
    """The effects of run and checkpoint, which all widths share, are most of the variance."""
    qid = unified.predict(n_params=7e9, tokens=1e12, bits=[2, 3, 4], kind="response_params")["median"].to_numpy()
    widths = []
    for count in (1, 3):
        found = unified.training_level(qid[:count], n_params=7e9, bits=[2, 3, 4][:count])
        widths.append(np.log(found["upper"].item() / found["lower"].item()))
    assert 0.85 < widths[1] / widths[0] < 1.0


def test_an_answer_that_hangs_on_the_prior_says_so(data: pl.DataFrame) -> None:
    fit = unified_fit(ONE, NESTED, data)
    sd = np.sqrt(0.1**2 + 0.2**2 + 0.3**2) / 0.5  # of log D, around the tokens at which the law meets the QiD
    ends = {"1B": 1e9, "100T": 1e14}
    for name, end in ends.items():
        log_qid = log_law(ONE, np.log(end), 7e9, np.array([4.0]))
        with pytest.warns(PriorEdgeWarning, match=f"an end of the prior: .* lies near {name} tokens") as told:
            fit.training_level(np.exp(log_qid), n_params=7e9, bits=4, between=tuple(ends.values()))
        # Half a normal density is left, and an e-folding of it lies near the end.
        share = 2 * (stats.norm.cdf(1 / sd) - 0.5)
        assert f"{share:.0%} of" in str(told[0].message)
    middle = log_law(ONE, np.log(3e11), 7e9, np.array([4.0]))
    with warnings.catch_warnings():
        warnings.simplefilter("error", PriorEdgeWarning)
        fit.training_level(np.exp(middle), n_params=7e9, bits=4, between=tuple(ends.values()))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"qid": [0.1, 0.2], "bits": [2, 3, 4]}, "qid: 2 values for 3 measurements"),
        ({"qid": -0.1, "bits": 4}, "qid must be positive"),
        ({"qid": 0.1, "bits": 4, "qid_se": 0.05}, "more than a fifth"),
        ({"qid": 0.1, "bits": 4, "colour": "red"}, "does not depend on 'colour'"),
        ({"qid": 0.1}, "also needs bits"),
        ({"qid": [0.1, 0.2], "bits": 4, "n_params": [1e9, 2e9]}, "of one model"),
        ({"qid": 0.1, "bits": 4, "between": (1e12, 1e9)}, "the smaller one first"),
    ],
)
def test_refusals(data: pl.DataFrame, asked: dict, message: str) -> None:
    with pytest.raises(qb.InputError, match=message):
        unified_fit(ONE, NESTED, data).training_level(**{"n_params": 7e9, **asked})
