"""The compiled program is the PyMC model: same density, same posterior, and compiled once."""

from collections.abc import Callable, Iterator

import jax
import numpy as np
import polars as pl
import pymc as pm
import pytest
from arviz_stats.base import array_stats
from plain import plain

import qidbayes as qb
from qidbayes.infer import program
from qidbayes.infer.inputs import Inputs, inputs
from qidbayes.infer.jax_log_density import log_density
from qidbayes.infer.model import model_data, model_of_inputs
from qidbayes.infer.spec import describe

SETTINGS = {"draws": 200, "tune": 200, "chains": 2}


def sampled_names(rows: Inputs) -> list[str]:
    """Return what the sampler's variables are called."""
    return list(describe(rows, model_data(rows)).names)


def irregular(table: pl.DataFrame) -> pl.DataFrame:
    """Drop rows here and there, and let the rest have standard errors: some unknown, some too large for logarithms."""
    kept = table.sample(fraction=0.7, seed=1)
    row = pl.int_range(pl.len())
    error = pl.when(row % 3 > 0).then(pl.when(row % 5 == 0).then(1.0).otherwise(0.04) * pl.col("qid"))
    return kept.with_columns(qid_se=error)


CASES = {
    "grid": ("pythia", "unified", False),
    "irregular": ("pythia", "unified", True),
    "groups of constants": ("pythia", "per-bit", True),
    "16-bit": ("pythia", "kaplan-16bit", True),
    "one row a checkpoint": ("llama-qwen", "size", False),
}


def case(name: str) -> Inputs:
    table, law, drop = CASES[name]
    rows = qb.load_table(table)
    return inputs(irregular(rows) if drop else rows, plain(law))


@pytest.mark.parametrize("name", CASES)
def test_the_density_is_pymcs(name: str) -> None:
    rows = case(name)
    model = model_of_inputs(rows)
    expected = model.compile_logp(mode="FAST_COMPILE")
    rng = np.random.default_rng(6)
    with jax.enable_x64(True):
        density, data_names = log_density(model)
        arrays = model_data(rows)
        assert set(data_names) == set(arrays)
        data = [jax.numpy.asarray(arrays[n]) for n in data_names]
        for _ in range(5):
            point = {v: np.asarray(x + 0.3 * rng.standard_normal(x.shape)) for v, x in model.initial_point().items()}
            found = density([jax.numpy.asarray(point[v.name]) for v in model.value_vars], data)
            assert float(found) == pytest.approx(float(expected(point)), rel=1e-8)


@pytest.mark.parametrize("name", CASES)
def test_every_number_has_its_name(name: str) -> None:
    rows = case(name)
    model = model_of_inputs(rows)
    assert [v.name for v in model.free_RVs] == sampled_names(rows)
    # The model's variables on the real line are in the same order.
    assert [v.name.split("_log__")[0].split("_logodds__")[0] for v in model.value_vars] == sampled_names(rows)


@pytest.mark.filterwarnings("ignore:There are not enough devices to run parallel chains")  # one after the other will do
def test_pymcs_own_run_of_numpyro_has_the_same_posterior(pythia: pl.DataFrame, unified: qb.Fit) -> None:
    with model_of_inputs(inputs(pythia, plain("unified"))):
        tree = pm.sample(
            nuts_sampler="numpyro", draws=1000, tune=1000, chains=2, random_seed=9, progressbar=False,
            target_accept=0.9, compute_convergence_checks=False,
        )  # fmt: skip
    names = sampled_names(inputs(pythia, plain("unified")))
    for name in names:
        ours, theirs = unified.draws[name], tree["posterior"][name].to_numpy()
        for statistic, method in ((np.mean, "mean"), (np.std, "sd")):
            errors = [array_stats.mcse(v, chain_axis=0, draw_axis=1, method=method) for v in (ours, theirs)]
            # Four combined Monte Carlo standard errors.
            assert abs(statistic(ours) - statistic(theirs)) < 4 * np.hypot(*errors), (name, method)


@pytest.fixture
def compilations() -> Iterator[list[str]]:
    """Collect what JAX traces and compiles."""
    events: list[str] = []
    watching = True

    def listen(event: str, duration: float, **_: object) -> None:
        if watching and "compile" in event:
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)  # cannot be removed alone
    yield events
    watching = False


def test_other_data_of_the_same_shape_compile_nothing(
    compilations: list[str], simulate: Callable[..., pl.DataFrame]
) -> None:
    first = qb.fit(simulate(1), plain("unified"), random_seed=1, **SETTINGS)
    programs = {spec: list(idle) for spec, idle in program._IDLE.items()}
    compilations.clear()
    second = qb.fit(simulate(2), plain("unified"), random_seed=1, **SETTINGS)
    assert compilations == []
    assert programs == program._IDLE
    assert abs(first.draws["beta"].mean() - second.draws["beta"].mean()) > 1e-4
    # Another shape does compile, so the listener would have heard.
    qb.fit(simulate(2).head(300), plain("unified"), random_seed=1, **SETTINGS)
    assert compilations


def test_the_seed_decides_the_draws(simulate: Callable[..., pl.DataFrame]) -> None:
    table = simulate(1)
    first, again, other = (qb.fit(table, plain("unified"), random_seed=s, **SETTINGS) for s in (1, 1, 2))
    unseeded = qb.fit(table, plain("unified"), **SETTINGS)
    repeated = qb.fit(table, plain("unified"), random_seed=unseeded.attributes["random_seed"], **SETTINGS)
    for name in first.draws:
        np.testing.assert_array_equal(first.draws[name], again.draws[name])
        np.testing.assert_array_equal(unseeded.draws[name], repeated.draws[name])
        assert (first.draws[name] != other.draws[name]).any()
    assert len(np.unique(first.draws["beta"][:, 0])) == 2  # chains differ too


def test_kaplans_density_has_no_edge_far_out() -> None:
    """Nc and Dc overflow there, the loss does not; a density that ends in NaN lets transitions diverge."""
    rows = inputs(qb.load_table("pythia"), qb.load_law("kaplan-16bit"))
    model = model_of_inputs(rows)
    with jax.enable_x64(True):
        density, data_names = log_density(model)
        data = [jax.numpy.asarray(model_data(rows)[n]) for n in data_names]
        slope = jax.jit(jax.value_and_grad(lambda z: density(z, data)))
        point = model.initial_point()
        for name in ("slopeN_log__", "slopeD_log__"):
            for away in (-8.0, -9.0, 3.0):
                found, gradient = slope([jax.numpy.asarray({**point, name: away}[v.name]) for v in model.value_vars])
                assert np.isfinite(found), (name, away)
                assert all(np.isfinite(g).all() for g in gradient), (name, away)
