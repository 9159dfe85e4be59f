"""The sampler returns the posterior of the model that tables are simulated from, and a wrong model is found out."""

import dataclasses
from typing import Any

import numpy as np
import polars as pl
import pymc as pm
import pytest
from arviz_stats.ecdf_utils import ecdf_pit
from plain import plain

import qidbayes as qb
from qidbayes.infer import anova, jax_log_density, program
from qidbayes.infer.inputs import inputs
from qidbayes.score.ecdf_envelope import Envelope
from qidbayes.score.sbc import calibrate, simulate

LAW = plain("unified")
THRESHOLDS = pl.DataFrame({"n_params": [1e9, 7e9], "bits": [4, 3], "qid": [0.05, 0.5]})


@pytest.fixture
def grid(pythia: pl.DataFrame) -> pl.DataFrame:
    """Three runs × four checkpoints × three bit widths."""
    runs = pythia["model"].unique(maintain_order=True)[:3]
    return pythia.filter(
        pl.col("model").is_in(runs.implode()), (pl.col("tokens").rank("dense") - 1).over("model") % 6 == 0
    )


@pytest.fixture
def few(grid: pl.DataFrame) -> pl.DataFrame:
    """Two of the runs × two checkpoints × two widths: the less the data say, the more a wrong model shows."""
    runs = grid["model"].unique(maintain_order=True)[:2]
    late = (pl.col("tokens").rank("dense") - 1).over("model") % 3 == 0
    return grid.filter(pl.col("model").is_in(runs.implode()), late, pl.col("bits") != 3)


def least_p(places: pl.DataFrame) -> tuple[float, str]:
    """Return the least p-value of uniformity times the number of quantities (Bonferroni), and whose it is."""
    quantities = places.columns[3:]
    envelope = Envelope(places.height)
    return min((len(quantities) * envelope.p_value(places[name].to_numpy()), name) for name in quantities)


def test_ranks_are_uniform(grid: pl.DataFrame) -> None:
    places = calibrate(grid, LAW, range(100), thresholds=THRESHOLDS)
    assert {"k_ref", "k", "sigma", "model_sd", "log_likelihood"} < set(places.columns)
    assert {"tokens_to_threshold[0.5 | response]", "tokens_to_threshold[0.05 | response_params]"} < set(places.columns)
    assert places["divergences"].sum() == 0
    p, name = least_p(places)
    assert p > 0.01, name  # all 16 are within their envelopes, with 99% probability


def without_the_jacobian_of_k(monkeypatch: pytest.MonkeyPatch) -> None:
    def log_density(model: pm.Model) -> Any:
        right, k = type(model).logp, model["k_ref"]
        rest = [v for v in [*model.free_RVs, *model.potentials] if v is not k]
        model.logp = lambda: right(model, [k], jacobian=False) + right(model, rest)
        return jax_log_density.log_density(model)

    monkeypatch.setattr(program, "log_density", log_density)


def with_a_wrong_noise_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    right = anova.log_density  # every variance half as large again as the parameters say
    monkeypatch.setattr(anova, "log_density", lambda r, n, variance, z, log: right(r, n, 1.5 * variance, z, log))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrong", "found_by"), [(without_the_jacobian_of_k, "k_ref"), (with_a_wrong_noise_scale, "sigma")]
)
def test_a_wrong_model_is_found_out(
    wrong: Any, found_by: str, few: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "_IDLE", {})
    wrong(monkeypatch)
    places = calibrate(few, LAW, range(100))
    assert least_p(places)[0] < 0.01
    assert Envelope(100).margin(places[found_by].to_numpy()) < 0


def test_tables_scatter_as_their_truth_says(pythia: pl.DataFrame) -> None:
    # Constants known to a millionth, so that what is left over is noise.
    fixed = {name: qb.Prior("Normal", mu=mu, sigma=1e-6) for name, mu in (("beta", 0.5), ("alpha", 0.3), ("gamma", 5))}
    law = dataclasses.replace(LAW, priors={"k": qb.Prior("LogNormal", mu=-3, sigma=1e-6), **fixed})
    ratios = []
    for seed in range(200):
        simulated = simulate(pythia, law, seed)
        rows = inputs(simulated.table, law)
        n, d, p = (rows.log_covariates[c] for c in "NDP")
        left = (rows.log_response - (-3 + 0.5 * d - 0.3 * n - 5 * p)).reshape(6, 20, 3)
        sigma2, checkpoint2, model2 = (simulated.truth[f"{s}"] ** 2 for s in ("sigma", "checkpoint_sd", "model_sd"))
        # The mean squares of an analysis of variance, over their expectations.
        checkpoints, models = left.mean(axis=2), left.mean(axis=(1, 2))
        ratios.append(
            (
                left.var(axis=2, ddof=1).mean() / sigma2,
                checkpoints.var(axis=1, ddof=1).mean() / (checkpoint2 + sigma2 / 3),
                np.square(models).mean() / (model2 + checkpoint2 / 20 + sigma2 / 60),
            )
        )
    # Chi-squared over its 240, 114 and 6 degrees of freedom: a mean of 1, and four of its standard errors.
    for ratio, freedom in zip(np.mean(ratios, axis=0), (240, 114, 6), strict=True):
        assert abs(ratio - 1) < 4 * np.sqrt(2 / freedom / 200)


def test_rows_are_measured_with_their_errors(pythia: pl.DataFrame) -> None:
    error = np.where(np.arange(pythia.height) % 2, 1e3, np.nan)  # far above every QiD
    table = pythia.with_columns(pl.Series("qid_se", error).fill_nan(None))
    law = qb.Law("k", {"k": qb.Prior("LogNormal", mu=-3, sigma=0.1)}, noise=qb.Noise(groups=(), discrepancy="none"))
    qid = simulate(table, law, 0).table.filter(pl.col("qid_se").is_not_null())["qid"].to_numpy() / 1e3
    assert abs(qid.mean()) < 4 / np.sqrt(180)
    assert abs(qid.var() - 1) < 4 * np.sqrt(2 / 180)


def test_a_simulation_depends_on_nothing_but_its_seed(grid: pl.DataFrame) -> None:
    both = calibrate(grid, LAW, [3, 4])
    assert calibrate(grid, LAW, [4]).equals(both[1:])
    assert not simulate(grid, LAW, 3).table["qid"].equals(simulate(grid, LAW, 4).table["qid"])


@pytest.mark.parametrize("size", [25, 100])
def test_the_envelope_is_arviz_s(size: int) -> None:
    lower, upper = Envelope(size).band
    points, _, arviz_lower, arviz_upper = ecdf_pit(np.linspace(0, 1, size), 0.99, 2000)
    np.testing.assert_allclose(points[1:-1], Envelope(size).points)
    # Both are simulated, ArviZ's from fewer: their edges may differ by a few counts where the function is steep.
    assert np.abs(lower - arviz_lower[1:-1]).max() <= max(2, 0.01 * size) / size
    assert np.abs(upper - arviz_upper[1:-1]).max() <= max(2, 0.01 * size) / size


def test_the_envelope_holds_99_of_100_uniform_samples() -> None:
    rng = np.random.default_rng(1)
    envelope = Envelope(100)
    samples = rng.uniform(size=(4000, 100))
    inside = np.array([envelope.margin(s) >= 0 for s in samples])
    assert abs(inside.mean() - 0.99) < 4 * np.sqrt(0.99 * 0.01 / 4000)
    # And the p-value says the same as the envelope.
    assert ((np.array([envelope.p_value(s) for s in samples]) > 0.01) == inside).mean() > 0.998
