"""The sampler returns the posterior of the model that tables are simulated from, and a wrong model is found out."""

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pymc as pm
import pytest

import qidbayes as qb
from qidbayes.infer import bridge, sample, strata
from qidbayes.infer.calibration import calibrate, simulate
from qidbayes.infer.envelope import Envelope

LAW = qb.load_law("unified")
THRESHOLDS = pl.DataFrame({"n_params": [1e9, 7e9], "bits": [4, 3], "qid": [0.05, 0.5]})


@pytest.fixture
def grid(pythia: pl.DataFrame) -> pl.DataFrame:
    """Three runs × four checkpoints × three bit widths."""
    runs = pythia["model"].unique(maintain_order=True)[:3]
    checkpoint = pl.col("tokens").rank("dense").over("model")
    return pythia.filter(pl.col("model").is_in(runs.implode()), checkpoint.is_in([1, 7, 13, 19]))


def least_p(places: pl.DataFrame) -> tuple[float, str]:
    """Return the smallest p-value of uniformity, times the number of quantities (Bonferroni), and whose it is."""
    quantities = places.columns[3:]
    envelope = Envelope(places.height)
    return min((len(quantities) * envelope.p_value(places[name].to_numpy()), name) for name in quantities)


def test_ranks_are_uniform(grid: pl.DataFrame) -> None:
    places = calibrate(grid, LAW, range(100), thresholds=THRESHOLDS)
    assert places.height == 100
    assert {"k_ref", "k", "sigma", "model_sd", "log_likelihood"} < set(places.columns)
    assert {"tokens_to_threshold[0.5 | response]", "tokens_to_threshold[0.05 | response_params]"} < set(places.columns)
    assert places["divergences"].sum() == 0
    # All within their envelope with 99% probability.
    p, name = least_p(places)
    assert p > 0.01, name
