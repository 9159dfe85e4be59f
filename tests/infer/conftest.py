"""Tables simulated from known constants."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from qidbayes.table import load_table

TRUTH = {"log_k": np.log(0.035), "beta": 0.47, "alpha": 0.3, "gamma": 5.8}
"""The unified law at N = 1e9, D = 1e11, P = 4."""


@pytest.fixture(scope="session")
def simulate() -> Callable[..., pl.DataFrame]:
    """Return a function that puts simulated QiDs on the grid of the table `pythia`."""
    table = load_table("pythia")
    n, d, p = (table[c].cast(pl.Float64).to_numpy() for c in ("n_params", "tokens", "bits"))
    mean = TRUTH["log_k"] + TRUTH["beta"] * np.log(d / 1e11) - TRUTH["alpha"] * np.log(n / 1e9)
    mean = mean - TRUTH["gamma"] * np.log(p / 4)
    _, model = np.unique(table["model"].to_numpy(), return_inverse=True)
    _, checkpoint = np.unique((table["model"] + table["revision"]).to_numpy(), return_inverse=True)

    def simulated(seed: int, sigma: float = 0.15, checkpoint_sd: float = 0.0, model_sd: float = 0.0) -> pl.DataFrame:
        rng = np.random.default_rng(seed)
        log_qid = mean + sigma * rng.standard_normal(table.height)
        log_qid += checkpoint_sd * rng.standard_normal(checkpoint.max() + 1)[checkpoint]
        log_qid += model_sd * rng.standard_normal(model.max() + 1)[model]
        return table.with_columns(pl.Series("qid", np.exp(log_qid)), loss=None, loss_16bit=None)

    return simulated
