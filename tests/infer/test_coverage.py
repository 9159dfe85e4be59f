"""90% intervals hold the truth 9 times in 10, if the model has the effects that the data have."""

import math
from collections.abc import Callable

import polars as pl
import pytest
from plain import plain

import qidbayes as qb

TABLES = 40
TRUTH = {"beta": 0.47, "alpha": 0.3, "gamma": 5.8}
SETTINGS = {"draws": 400, "tune": 400, "chains": 2}


# 800 draws are enough for the ends of an interval (a tenth of their own spread), and some fail a check of 400.
@pytest.mark.filterwarnings("ignore:an answer of a fit that is not to be trusted")
def test_intervals_cover_with_shared_effects_and_not_without(simulate: Callable[..., pl.DataFrame]) -> None:
    with_effects = plain("unified")
    without = with_effects.with_noise(groups=())
    covered = {"with": dict.fromkeys(TRUTH, 0), "without": dict.fromkeys(TRUTH, 0)}
    for seed in range(TABLES):
        table = simulate(1000 + seed, sigma=0.1, checkpoint_sd=0.1, model_sd=0.3)
        for label, law in (("with", with_effects), ("without", without)):
            found = qb.fit(table, law, random_seed=seed, **SETTINGS)
            for name, true in TRUTH.items():
                lower, upper = found.interval(name, ci_prob=0.9).select("lower", "upper").row(0)
                covered[label][name] += lower < true < upper
    # Four binomial standard errors around 0.9.
    slack = 4 * math.sqrt(0.9 * 0.1 / TABLES)
    for name in TRUTH:
        assert abs(covered["with"][name] / TABLES - 0.9) < slack, name
    # A slope over model sizes is as uncertain as the models differ, of which independent errors know nothing.
    assert covered["without"]["alpha"] / TABLES < 0.9 - slack
