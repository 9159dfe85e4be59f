"""A stack is the mixture of its fits."""

import warnings

import numpy as np
import pytest

import qidbayes as qb

ASKED = {"n_params": [1e9, 7e9], "bits": [2, 4]}


def test_all_the_weight_on_one_fit_is_that_fit(unified: qb.Fit, per_bit: qb.Fit) -> None:
    stack = qb.Stack([per_bit, unified], [0.0, 2.0])
    assert stack.predict(tokens=1e12, **ASKED).equals(unified.predict(tokens=1e12, **ASKED))
    assert stack.tokens_to_threshold(0.2, **ASKED).equals(unified.tokens_to_threshold(0.2, **ASKED))
    assert stack.project(**ASKED).equals(unified.project(**ASKED))
    frame = unified.data.head(5)
    assert (stack.predictive(frame).mean == unified.predictive(frame).mean).all()


def test_density_is_the_weighted_sum(unified: qb.Fit, per_bit: qb.Fit) -> None:
    frame = unified.data.head(40)
    y = np.log(frame["qid"].to_numpy())
    parts = [np.exp(fit.predictive(frame).log_density(y)) for fit in (unified, per_bit)]
    found = np.exp(qb.Stack([unified, per_bit], [0.25, 0.75]).predictive(frame).log_density(y))
    # Thinning to 1,000 and 3,000 of 4,000 draws moves a density by a percent or two.
    np.testing.assert_allclose(found, 0.25 * parts[0] + 0.75 * parts[1], rtol=0.06)


def test_a_band_holds_so_much_of_each_part(unified: qb.Fit, per_bit: qb.Fit) -> None:
    stack = qb.Stack([unified, per_bit], [0.5, 0.5])
    asked = {"n_params": 70e9, "tokens": 1e13, "bits": 3}
    band = stack.predict(**asked).row(0, named=True)
    frame = stack.predict(**asked)
    draws = [np.exp(fit.log_draws(frame)[:, 0]) for fit in (unified, per_bit)]
    held = np.mean([((d >= band["lower"]) & (d <= band["upper"])).mean() for d in draws])
    assert held == pytest.approx(0.9, abs=0.02)


def test_refusals(unified: qb.Fit, per_bit: qb.Fit) -> None:
    for weights in ([1.0], [0.0, 0.0], [1.0, -0.5], [np.nan, 1.0]):
        with pytest.raises(qb.InputError, match="weight"):
            qb.Stack([unified, per_bit], weights)
    with pytest.raises(qb.InputError, match="no law of the stack depends on 'colour'"):
        qb.Stack([unified, per_bit], [1, 1]).predict(**ASKED, tokens=1e12, colour="red")
    with pytest.raises(qb.InputError, match="also needs bits"):
        qb.Stack([unified, per_bit], [1, 1]).predict(n_params=1e9, tokens=1e12)


def test_the_default_and_slopes_that_wander_answer_half_and_half() -> None:
    """What docs/choosing.md recommends far beyond the data."""
    law, few = qb.load_law("unified"), {"draws": 100, "chains": 2, "random_seed": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of so few draws, and of what 18 rows leave open
        fits = [qb.fit("spectra", law.with_noise(discrepancy=name), **few) for name in ("smooth", "walk")]
        stack = qb.Stack(fits, [1, 1])
        asked = {"n_params": 7e9, "bits": 4, "suite": "spectra"}
        ends = [one.predict(tokens=1e14, **asked).select("lower", "upper").row(0) for one in (*fits, stack)]
        tokens = stack.tokens_to_threshold(0.2, **asked)
    (low, high), (low_walk, high_walk), (low_both, high_both) = ends
    assert min(low, low_walk) < low_both < max(low, low_walk)
    assert min(high, high_walk) < high_both < max(high, high_walk)
    assert tokens["lower"].item() < tokens["tokens"].item()
