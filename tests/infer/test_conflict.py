"""Fits that went wrong by nature: a prior the data contradict, data that say nothing, a funnel."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from plain import plain

import qidbayes as qb
from qidbayes.law import Law, Prior


def with_prior(name: str, prior: Prior) -> Law:
    law = plain("unified")
    return replace(law, priors={**law.priors, name: prior})


def test_a_prior_that_the_data_contradict_is_named_with_its_distance(pythia: pl.DataFrame) -> None:
    fit = qb.fit(pythia, with_prior("beta", Prior("Normal", mu=-1.0, sigma=0.1)), random_seed=0)
    distance = abs(fit.draws["beta"].mean() + 1.0) / 0.1
    assert fit.diagnostics.shift["beta"] == pytest.approx(distance, rel=0.02)  # the prior's moments are of 20,000 draws
    assert distance > 3
    (remark,) = fit.diagnostics.conflicts()
    assert remark.startswith(f"prior and data disagree: the posterior of beta ({fit.diagnostics.shift['beta']:.1f})")


def test_the_shipped_prior_is_not_contradicted(unified: qb.Fit, per_bit: qb.Fit) -> None:
    for fit in (unified, per_bit):
        assert fit.diagnostics.conflicts() == []
        assert max(fit.diagnostics.shift.values()) < 2


@pytest.mark.slow
def test_rows_that_say_nothing_identify_nothing(pythia: pl.DataFrame) -> None:
    """Ten rows with standard errors of a hundred times their QiD say how large it is not, and nothing of its slopes."""
    noisy = pythia.head(10).with_columns(qid_se=100 * pl.col("qid"))
    fit = qb.fit(noisy, plain("unified"), draws=300, tune=300, random_seed=0)
    assert set(fit.diagnostics.unidentified) >= {"alpha", "gamma"}
    with pytest.raises(qb.InputError, match="'gamma' is not identified"):
        fit.interval("gamma")


@pytest.mark.slow
def test_a_funnel_fails_its_checks() -> None:
    """Neal's funnel, sampled as it is written, by the same sampler and judged by the same checks."""
    import jax
    from arviz_stats.base import array_stats
    from numpyro.infer import MCMC, NUTS

    from qidbayes.posterior.diagnostics import Convergence, Diagnostics

    def potential(z: dict[str, jax.Array]) -> jax.Array:
        return 0.5 * (z["v"] / 3) ** 2 + 0.5 * (z["x"] ** 2).sum() * jax.numpy.exp(-z["v"]) + 4.5 * z["v"]

    sampler = MCMC(NUTS(potential_fn=potential), num_warmup=300, num_samples=500, num_chains=4, progress_bar=False,
                   chain_method="vectorized")  # fmt: skip
    start = {"v": np.zeros(4), "x": np.random.default_rng(0).normal(size=(4, 9))}
    sampler.run(jax.random.key(0), init_params=start, extra_fields=("diverging", "energy"))
    v = np.asarray(sampler.get_samples(group_by_chain=True)["v"], dtype=float)
    stats = sampler.get_extra_fields(group_by_chain=True)
    energy = np.asarray(stats["energy"], dtype=float)
    found = Diagnostics(
        {"v": Convergence(float(array_stats.rhat(v, chain_axis=0, draw_axis=1)),
                          float(array_stats.ess(v, chain_axis=0, draw_axis=1, method="bulk")),
                          float(array_stats.ess(v, chain_axis=0, draw_axis=1, method="tail", prob=(0.05, 0.95))))},
        int(np.asarray(stats["diverging"]).sum()),
        tuple(float(np.square(np.diff(e)).mean() / np.var(e)) for e in energy),
        {},
    )  # fmt: skip
    assert len(found.problems()) >= 2, found
