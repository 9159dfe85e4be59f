"""Tokens that nobody tells, drawn given all else, held against a dense normal on a grid."""

import numpy as np
import polars as pl
from scipy import stats

from qidbayes.infer.inputs import inputs
from qidbayes.infer.untold_tokens import untold_tokens
from qidbayes.law import load_law
from qidbayes.noise.coordinates import Fitted
from qidbayes.noise.families import SHARED_EFFECT
from qidbayes.noise.family_kernel import SUITE_SCALE
from qidbayes.noise.unknown_tokens import BETWEEN, UNKNOWN
from qidbayes.posterior.constants import raw_constants
from qidbayes.table import load_table
from tests import families as dense

DRAWS = 3_000


def test_they_are_drawn_from_their_conditional_whatever_they_start_from() -> None:
    table = load_table("atlas").filter(pl.col("suite").is_in(["opt", "llama-1", "bloom"]), pl.col("method") != "gguf")
    table = table.group_by("suite", maintain_order=True).head(14)
    model = "BLOOM-7.1B"
    assert table.filter(model=model).height >= 2
    told = table
    table = table.with_columns(pl.when(model=model).then(None).otherwise("tokens").alias("tokens"))
    rows, law = inputs(table, load_law("atlas")), load_law("atlas")
    rng = np.random.default_rng(4)
    of_suite = dict(zip(Fitted(table).labels("suite"), (0.7, 1.4, 1.1), strict=True))
    constants = {"k_ref": 0.1, "beta": 0.4, "alpha": 0.3, "gamma": 5.0}
    scale = {**dense.scales(), **constants}
    effect = 0.3 * rng.standard_normal(rows.partition.arrays["shared"].shape[1])
    flat = {name: np.full(DRAWS, value) for name, value in scale.items()}
    flat[SUITE_SCALE] = np.tile(list(of_suite.values()), (DRAWS, 1))
    flat[SHARED_EFFECT] = np.tile(effect, (DRAWS, 1))
    flat[UNKNOWN] = np.full((DRAWS, 1), BETWEEN[0] * 1.01)  # all at one end
    flat |= raw_constants(law, flat)
    error = np.full(table.height, 0.01)
    log_response = np.log(table["qid"].to_numpy())
    given = (np.tile(log_response, (DRAWS, 1)), np.tile(error, (DRAWS, 1)))
    found = np.log(untold_tokens(rows, flat, *given, seed=1)[:, 0])

    grid = np.linspace(*np.log(BETWEEN), 400)
    here = (table["suite"] == "bloom").to_numpy()
    density = []
    for log_tokens in grid:
        at = told.with_columns(pl.when(model=model).then(float(np.exp(log_tokens))).otherwise("tokens").alias("tokens"))
        n, d, p = (np.log(at[c].to_numpy() / v) for c, v in dense.REFERENCE.items())
        mean = np.log(0.1) + 0.4 * d - 0.3 * n - 5.0 * p + rows.partition.arrays["shared"] @ effect
        suite = at.filter(here)
        whole = dense.covariance(scale, of_suite, suite, suite, shared=False)
        whole = whole + np.diag(dense.own_variance(scale, of_suite, suite, error[here]) + 1e-9)
        density.append(stats.multivariate_normal(mean[here], whole).logpdf(log_response[here]))
    weight = np.exp(np.array(density) - max(density))
    below = np.concatenate([[0.0], np.cumsum((weight[1:] + weight[:-1]) / 2)])
    assert weight.min() < 0.5  # the rows say something
    test = stats.kstest(found, lambda x: np.interp(x, grid, below / below[-1]))
    assert test.pvalue > 1e-3, test
    start = np.log(BETWEEN[0] * 1.01)
    assert stats.kstest(np.full(DRAWS, start), lambda x: np.interp(x, grid, below / below[-1])).pvalue < 1e-6
