"""Partial pooling: the hierarchical normal model however it is sampled, and groups that were never seen."""

import dataclasses

import numpy as np
import polars as pl
import pytest
from closed_form import posterior
from plain import plain
from scipy import stats
from test_closed_form import assert_agrees

import qidbayes as qb
from qidbayes.infer.inputs import Inputs, inputs
from qidbayes.infer.model import model_data, model_of_inputs
from qidbayes.infer.pooling import groups_and_populations, population_and_groups
from qidbayes.infer.spec import describe
from qidbayes.law import Law

SPREAD = 0.4


@pytest.fixture(scope="module")
def by_model() -> Law:
    """The unified law with a level for each model in the place of the models' effects: the same law by other means."""
    law = plain("unified")
    pooled = qb.Prior("LogNormal", mu=-3, sigma=2, by="model", spread=SPREAD)
    return dataclasses.replace(
        law, priors={**law.priors, "k": pooled}, noise=qb.Noise(groups=("checkpoint",), discrepancy="none")
    )


@pytest.fixture(scope="module")
def fitted(pythia: pl.DataFrame, by_model: Law) -> qb.Fit:
    return qb.fit(pythia, by_model, random_seed=3)


def flat(fit: qb.Fit, name: str) -> np.ndarray:
    return fit.draws[name].reshape(-1, *fit.draws[name].shape[2:])


def with_centring(rows: Inputs, value: float) -> Inputs:
    other = dataclasses.replace(rows)
    other.__dict__["centring"] = {name: np.full_like(c, value) for name, c in rows.centring.items()}
    return other


def test_the_posterior_is_the_closed_form(pythia: pl.DataFrame, fitted: qb.Fit) -> None:
    wide = np.linspace(-6, 1.5, 60)
    grids = {"sigma": np.linspace(-2.5, 0, 50), "checkpoint_sd": wide, "model_sd": wide}
    expected = posterior(pythia, grids, {"model_sd": stats.norm(np.log(SPREAD), 0.7).logpdf})
    expected["k_ref_population"] = expected.pop("k_ref")
    expected["k_ref_sd"] = expected.pop("model_sd")
    logs = {**fitted.draws, "k_ref": None, "k_ref_population": np.log(fitted.draws["k_ref_population"])}
    assert_agrees(dataclasses.replace(fitted, draws=logs), expected)
    assert fitted.diagnostics.problems() == []


@pytest.mark.parametrize("value", [0.0, 0.35, 1.0])
def test_every_centring_is_the_textbooks_model(pythia: pl.DataFrame, value: float) -> None:
    # Less the textbook's density of z, μ and log τ, and the Jacobian of μ and z in u and x, what is left is of z and
    # the parameters that are not pooled alone: the same wherever μ and τ are, and at every centring.
    law = plain("pooled-bit")
    rows = inputs(pythia.sample(200, seed=1), law)
    names = list(describe(rows, model_data(rows)).names)
    designs = {c: with_centring(rows, c) for c in (1.0, value)}
    models = {c: model_of_inputs(one) for c, one in designs.items()}
    densities = {c: model.compile_logp(mode="FAST_COMPILE") for c, model in models.items()}
    start = models[1.0].initial_point()
    assert [variable.split("_log__")[0] for variable in start] == names
    called = dict(zip(names, start, strict=True))
    rng = np.random.default_rng(5)

    def rest(c: float, point: dict[str, np.ndarray]) -> tuple[float, dict[str, np.ndarray]]:
        draw = {name: point[called[name]][None, None] for name in names}
        known = {n: v[0, 0] for n, v in groups_and_populations(law, draw, designs[c].centring).items()}
        found = float(densities[c](point))
        for name, sampled in (("k", "k_ref"), ("beta", "beta"), ("alpha", "alpha")):
            prior = law.priors[name]
            m, s = dict(prior.arguments)["mu"], dict(prior.arguments)["sigma"]
            mu, log_sd, z = (known[n] for n in (f"{sampled}_population", f"{sampled}_sd", sampled))
            found -= stats.norm(m, s).logpdf(mu) + stats.norm(np.log(prior.spread), 0.7).logpdf(log_sd)
            found -= stats.norm(mu, np.exp(log_sd)).logpdf(z).sum()
            scale = np.exp(log_sd) / prior.spread
            found += 0.5 * np.log(s**-2 + len(z) * (c / (prior.spread * scale**c)) ** 2)
            found -= len(z) * (1 - c) * np.log(scale)
        return found, known

    for _ in range(3):
        point = {v: np.asarray(x + 0.3 * rng.standard_normal(x.shape)) for v, x in start.items()}
        left, known = rest(value, point)
        elsewhere = dict(point)
        for name in ("k_ref", "beta", "alpha"):
            elsewhere[called[f"{name}_offset"]] = known[name]  # z itself, with μ and τ anew
            for moved in (f"{name}_population_offset", f"{name}_sd"):
                elsewhere[called[moved]] = point[called[moved]] + rng.standard_normal()
        assert left == pytest.approx(rest(1.0, elsewhere)[0], rel=1e-10)


def test_the_centred_model_is_the_textbooks() -> None:
    # z ~ N(μ, τ²) is what x is at c = 1; at c = 0 it is a standard deviation's worth of steps from μ, and μ from m.
    prior = qb.Prior("Normal", mu=1.0, sigma=0.5, by="bits", spread=SPREAD)
    x = np.array([1.7, 1.9])
    mu, z = population_and_groups(0.0, np.float64(0.2), x, prior, np.ones(2))
    np.testing.assert_array_equal(z, x)
    assert mu == pytest.approx((1.0 / 0.5**2 + x.sum() / 0.2**2) / (1 / 0.5**2 + 2 / 0.2**2))
    mu, z = population_and_groups(3.0, np.float64(0.2), np.full(2, 1.5 * SPREAD), prior, np.zeros(2))
    assert mu == pytest.approx(1.0 + 3.0 * 0.5)
    assert z == pytest.approx([mu + 1.5 * 0.2] * 2)


def test_one_group_leaves_its_population_to_the_priors(pythia: pl.DataFrame) -> None:
    law = plain("pooled-bit")
    found = qb.fit(pythia.filter(bits=3.0), law, random_seed=0)
    assert found.diagnostics.problems() == []
    assert found.attributes["target_accept"] == 0.9  # a sampler of μ itself has to take smaller steps
    for name in ("beta", "alpha"):
        prior = law.priors[name]
        m, s = dict(prior.arguments)["mu"], dict(prior.arguments)["sigma"]
        mu, sd, z = flat(found, f"{name}_population"), flat(found, f"{name}_sd"), flat(found, name)[:, 0]
        precision = s**-2 + sd**-2
        steps = (mu - (m / s**2 + z / sd**2) / precision) * np.sqrt(precision)
        for known in (steps, (np.log(sd) - np.log(prior.spread)) / 0.7):  # standard normal, both
            # Within five standard errors, of draws that count for half as many independent ones at least.
            assert abs(known.mean()) < 5 / np.sqrt(len(known) / 2)
            assert abs(known.std() - 1.0) < 5 / np.sqrt(len(known))


def test_groups_are_centred_as_far_as_their_rows_know_them(pythia: pl.DataFrame) -> None:
    law = plain("unified")
    pooled = {n: qb.Prior("Normal", mu=p.mu, sigma=p.sigma, by="method") for n, p in _normal(law).items()}
    law = dataclasses.replace(law, priors={**law.priors, **pooled})
    rows = inputs(qb.load_table("pythia", "pythia/awq-bnb"), law)
    gptq = np.array(rows.coords["method"]) == "gptq"
    # AWQ and bitsandbytes have 4 bits alone, the reference point, where gamma has no effect.
    np.testing.assert_allclose(rows.centring["gamma"][~gptq], 0.0, atol=1e-6)
    assert rows.centring["gamma"][gptq] > 0.9
    assert (rows.centring["beta"] > 0.9).all()
    few = inputs(qb.load_table("spectra"), dataclasses.replace(plain("unified"), priors={
        **plain("unified").priors, "beta": qb.Prior("Normal", mu=0.5, sigma=0.5, by="model", spread=0.001)
    }))  # fmt: skip
    assert (few.centring["beta"] < 0.1).all()  # so little is expected of the groups that their rows say less


@dataclasses.dataclass
class _Moments:
    mu: float
    sigma: float


def _normal(law: Law) -> dict[str, _Moments]:
    return {n: _Moments(**dict(p.arguments)) for n, p in law.priors.items() if p.family == "Normal"}


def test_a_new_group_is_drawn_from_the_population(fitted: qb.Fit) -> None:
    asked = {"n_params": 1e9, "tokens": 1e11, "bits": 4, "kind": "response_params", "ci_prob": 0.9}
    new = fitted.predict(model="new", **asked)
    # By hand, with other random numbers: at the reference point the law is k_ref.
    log_k = np.log(flat(fitted, "k_ref_population"))
    log_k = log_k + flat(fitted, "k_ref_sd") * np.random.default_rng(1).standard_normal(log_k.size)
    for column, share in (("median", 0.5), ("lower", 0.05), ("upper", 0.95)):
        # Where the quantile lies among the other draws, within four standard errors of shares of 4,000 draws.
        place = (log_k < np.log(new[column].item())).mean()
        assert abs(place - share) < 4 * np.sqrt(2 * share * (1 - share) / log_k.size)
    known = fitted.predict(model=list(fitted.coords["model"]), **asked)
    assert (known["upper"] / known["lower"]).max() < new["upper"].item() / new["lower"].item()
    # A label has its own draws, whatever else is asked about.
    both = fitted.predict(model=["other", "new"], **asked)
    assert both["median"][1] == new["median"].item() != both["median"][0]


def test_every_question_takes_a_new_group(fitted: qb.Fit) -> None:
    tokens = fitted.tokens_to_threshold(0.3, n_params=1e9, bits=3, model="new")
    upper = fitted.predict(n_params=1e9, bits=3, model="new", tokens=tokens["lower"].item())["upper"].item()
    assert upper == pytest.approx(0.3, rel=0.005)
    assert fitted.project(n_params=7e9, bits=3, model="new")["median"].item() > 0


def test_groups_and_populations_are_saved_and_reported(fitted: qb.Fit, tmp_path: object) -> None:
    path = f"{tmp_path}/fit.nc"
    fitted.save(path)
    again = qb.load_fit(path)
    asked = {"n_params": 1e9, "tokens": 1e12, "bits": 3, "model": ["new", fitted.coords["model"][0]]}
    assert again.predict(**asked).equals(fitted.predict(**asked))
    names = fitted.summary()["name"].to_list()
    assert names[:8] == ["k_ref"] * 6 + ["k_ref_population", "k_ref_sd"]
    assert {"k_ref_population", "k_ref_sd"} <= set(fitted.diagnostics.convergence)
    assert fitted.interval("k_ref_population")["median"].item() == pytest.approx(
        np.median(flat(fitted, "k_ref_population"))
    )


def test_independent_groups_have_no_population(per_bit: qb.Fit) -> None:
    with pytest.raises(qb.InputError, match=r"law 'per-bit' knows bits 2, 3, 4; not 5"):
        per_bit.predict(n_params=1e9, tokens=1e11, bits=5)
