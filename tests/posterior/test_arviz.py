"""Fits in ArviZ: likelihood, replicates and prior, each against something computed otherwise."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import arviz
import matplotlib.pyplot as plt
import numpy as np
import pymc as pm
import pytest
from made import NESTED, SMOOTH, unified_fit
from plain import plain
from scipy import stats

import qidbayes as qb
from qidbayes.posterior.likelihood import covariances
from qidbayes.score.loo import leave_one_out

pytestmark = pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto")
CONSTANTS = {"k_ref": 0.04, "beta": 0.5, "alpha": 0.3, "gamma": 5.6}


@pytest.fixture(scope="module")
def few(unified: qb.Fit) -> qb.Fit:
    """The fit of 360 rows with 4 × 100 of its draws."""
    draws, stats_ = ({n: v[:, :100] for n, v in values.items()} for values in (unified.draws, unified.stats))
    return replace(unified, draws=draws, stats=stats_)


@pytest.fixture
def no_figures() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.mark.parametrize("unit", ["checkpoint", "row"])
def test_loo_is_the_packages_own(few: qb.Fit, unit: Any) -> None:
    tree = few.to_datatree(log_likelihood=unit)
    theirs = arviz.loo(tree, reff=1.0)
    ours = leave_one_out(few)[unit]
    assert theirs.elpd == pytest.approx(ours.log_density * few.data.height, abs=1e-6)
    assert theirs.n_data_points == {"checkpoint": 120, "row": 360}[unit]


def test_two_fits_compare(few: qb.Fit, per_bit: qb.Fit) -> None:
    trees = {"unified": few.to_datatree(log_likelihood=True), "per-bit": per_bit.to_datatree(log_likelihood=True)}
    found = arviz.compare(trees, round_to="none")
    assert set(found.index) == set(trees) and found["weight"].sum() == pytest.approx(1.0)
    elpd = {name: float(arviz.loo(tree).elpd) for name, tree in trees.items()}
    assert found.index[0] == max(elpd, key=lambda name: elpd[name])


def test_what_the_likelihood_is_of_is_said(few: qb.Fit) -> None:
    found = few.to_datatree(log_likelihood=True)["log_likelihood"]
    assert found.attrs["what"].startswith("log density of the rows of each checkpoint of log qid, given all other rows")
    names = found["checkpoint"].values.tolist()
    first = few.data.row(0, named=True)
    assert names[0] == f"{first['model']} @ {first['revision']}" and len(set(names)) == 120


@pytest.mark.parametrize("noise", [NESTED, SMOOTH], ids=["nested", "smooth"])
def test_replicates_are_the_normals_of_the_model(noise: dict[str, float]) -> None:
    rows = qb.load_table("pythia").filter(tokens=41943040000)
    many = {name: np.full(4000, value) for name, value in CONSTANTS.items()}
    fit = unified_fit(many, noise, rows)
    predicted = fit.to_datatree(posterior_predictive=True)["posterior_predictive"]["qid"]
    drawn = np.log(predicted.values.reshape(-1, rows.height))
    count = len(drawn)
    assert count == 500
    (covariance,) = covariances(replace(fit, data=fit.data.with_columns(qid_se=0.0)), np.array([0]))
    law = fit.log_draws(rows, "response_params")[0]
    sd = np.sqrt(np.diag(covariance))
    # Four standard errors of a mean, of a variance and of a correlation.
    assert np.abs((drawn.mean(axis=0) - law) / sd).max() < 4 / np.sqrt(count)
    assert np.abs(drawn.var(axis=0, ddof=1) / sd**2 - 1).max() < 4 * np.sqrt(2 / count)
    expected, found = covariance / np.outer(sd, sd), np.corrcoef(drawn, rowvar=False)
    assert np.abs(found - expected).max() < 4 / np.sqrt(count)


def test_replicates_of_noisy_rows_scatter_as_they_were_measured() -> None:
    rows = qb.load_table("pythia").filter(tokens=41943040000, bits=4.0).with_columns(qid_se=5.0)
    fit = unified_fit({name: np.full(500, v) for name, v in CONSTANTS.items()}, NESTED, rows)
    found = fit.to_datatree(posterior_predictive=True)["posterior_predictive"]["qid"].values.reshape(-1, rows.height)
    assert np.abs(found.std(axis=0) / 5.0 - 1).max() < 4 / np.sqrt(2 * 500)  # beside 5 nats the rest is nothing
    assert (found < 0).any()


def test_replicates_of_students_t_have_its_tails() -> None:
    law = qb.load_law("unified").with_noise(groups=(), discrepancy="none", family="student_t")
    fit = unified_fit(
        {name: np.full(500, v) for name, v in CONSTANTS.items()}, {"sigma": 0.1}, qb.load_table("spectra")
    )
    fit = replace(fit, law=law)
    drawn = fit.to_datatree(posterior_predictive=True)["posterior_predictive"]["qid"].values
    step = (np.log(drawn.reshape(500, -1)) - fit.log_draws(fit.data, "response_params")[:1]) / 0.1
    assert stats.kstest(step.ravel(), stats.t(4).cdf).pvalue > 1e-3
    with pytest.raises(qb.InputError, match="Student's t errors"):
        fit.to_datatree(log_likelihood=True)


def test_the_prior_is_the_laws(few: qb.Fit) -> None:
    prior = few.to_datatree(prior=True)["prior"]
    drawn = {name: prior[name].values.ravel() for name in ("k_ref", "beta", "gamma", "sigma", "model_sd")}
    expected = {
        "k_ref": stats.lognorm(2.0, scale=np.exp(-3.0)), "beta": stats.norm(0.5, 0.5), "gamma": stats.norm(5.0, 3.0),
        "sigma": stats.halfnorm(0, 0.5), "model_sd": stats.lognorm(0.7, scale=0.25),
    }  # fmt: skip
    for name, distribution in expected.items():
        assert stats.kstest(drawn[name], distribution.cdf).pvalue > 1e-3, name
    raw = drawn["k_ref"] * 1e9 ** prior["alpha"].values.ravel() * 4 ** drawn["gamma"] / 1e11 ** drawn["beta"]
    np.testing.assert_allclose(prior["k"].values.ravel(), raw, rtol=1e-8)
    assert set(prior.data_vars) == set(few.draws) - {"model_effect"}


def test_the_prior_of_groups_has_their_labels(per_bit: qb.Fit) -> None:
    prior = per_bit.to_datatree(prior=True)["prior"]
    assert prior["alpha"].dims == ("chain", "draw", "bits") and prior["bits"].values.tolist() == ["2", "3", "4"]


def test_rows_have_coordinates(few: qb.Fit) -> None:
    tree = few.to_datatree(posterior_predictive=True)
    for group in ("observed_data", "constant_data", "posterior_predictive"):
        for name in ("model", "tokens", "bits"):
            assert tree[group][name].values.tolist() == few.data[name].to_list()
    four = tree["observed_data"]["qid"].where(tree["observed_data"]["bits"] == 4, drop=True)
    assert four.values.tolist() == few.data.filter(bits=4.0)["qid"].to_list()


@pytest.mark.usefixtures("no_figures")
def test_arviz_draws_replicates_and_the_prior(few: qb.Fit) -> None:
    tree = few.to_datatree(posterior_predictive=True, prior=True)
    assert arviz.plot_ppc_dist(tree, num_samples=5).viz["figure"].item() is not None
    assert arviz.plot_prior_posterior(tree, var_names=["beta"]).viz["figure"].item() is not None
    assert arviz.summary(tree, var_names=["beta"]).loc["beta"] is not None


def test_what_there_is_no_group_of_is_refused(few: qb.Fit) -> None:
    with pytest.raises(qb.InputError, match="'row' or 'checkpoint', not 'rows'"):
        few.to_datatree(log_likelihood="rows")  # type: ignore[arg-type]
    borrowed = replace(few, attributes={**few.attributes, "prior_from": {"fit_hash": "x", "weight": 1.0}})
    with pytest.raises(qb.InputError, match="another fit's posterior"):
        borrowed.to_datatree(prior=True)
    below = replace(few, data=few.data.with_columns(qid=-few.data["qid"]))
    with pytest.raises(qb.InputError, match="0 or below"):
        below.to_datatree(log_likelihood=True)


def test_the_model_is_the_one_that_is_sampled() -> None:
    """Its log density is that of the model of the rows."""
    from qidbayes.infer.inputs import inputs
    from qidbayes.infer.model import model_of_inputs

    table, law = qb.load_table("spectra"), plain("unified")
    public, inner = qb.build_model(table, law), model_of_inputs(inputs(table, law))
    point, logp = public.initial_point(), partial(pm.Model.compile_logp, mode="FAST_COMPILE")
    assert logp(public)(point) == pytest.approx(logp(inner)(point))
    assert [v.name for v in qb.build_model(table, "size").free_RVs][:2] == ["a_ref", "alpha"]
    with pytest.raises(qb.InputError, match="no law is called 'unifed'"):
        qb.build_model(table, "unifed")


def test_arvizs_summary_lists_the_laws_constants_first(few: qb.Fit, tmp_path: Path) -> None:
    few.save(tmp_path / "fit.nc")
    ours = few.summary(ci_prob=0.9)
    for tree in (few.to_datatree(), arviz.from_netcdf(tmp_path / "fit.nc")):
        found = arviz.summary(tree, kind="stats_median", ci_prob=0.9, ci_kind="eti", round_to="none")
        assert len(found) == ours.height + 6, "the effects of the six runs, which come last"
        found = found.iloc[: ours.height]
        assert list(found.index) == ours["name"].to_list()
        assert list(found.index)[:5] == ["k_ref", "beta", "alpha", "gamma", "k"]
        for theirs, name in (("median", "median"), ("eti90_lb", "lower"), ("eti90_ub", "upper")):
            np.testing.assert_allclose(found[theirs].astype(float), ours[name], rtol=1e-6)
