"""A prior from another fit: sequential updating is the joint fit, and the weight is a power."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from arviz_stats.base import array_stats
from closed_form import posterior
from command import run
from plain import plain, plain_file
from scipy import stats
from scipy.special import expit

import qidbayes as qb
from qidbayes.infer.inputs import inputs
from qidbayes.infer.model import model_data, model_of_inputs
from qidbayes.infer.power_prior import power_prior
from qidbayes.law import Law, Prior, load_law
from qidbayes.posterior.diagnostics import Diagnostics
from qidbayes.posterior.posterior import Posterior


@pytest.fixture(scope="module")
def law() -> Law:
    return load_law("unified").with_noise(groups=(), discrepancy="none")


@pytest.fixture(scope="module")
def drawn(simulate: Callable[..., pl.DataFrame]) -> pl.DataFrame:
    """A table that the law is true of: a normal posterior cannot tell how its width would follow another sigma."""
    return simulate(7)


@pytest.fixture(scope="module")
def early(drawn: pl.DataFrame, law: Law) -> qb.Fit:
    return qb.fit(drawn.filter(pl.col("tokens") < 80e9), law, random_seed=1, draws=2000)


def test_updating_in_two_steps_is_the_joint_fit(drawn: pl.DataFrame, law: Law, early: qb.Fit) -> None:
    late = drawn.filter(pl.col("tokens") > 80e9)
    fit = qb.fit(late, law, random_seed=2, draws=2000, prior_from=early)
    expected = posterior(drawn, {"sigma": np.linspace(np.log(0.05), np.log(0.5), 400)})
    assert fit.diagnostics.problems() == []
    for name, (mean, sd) in expected.items():
        draws, before = (np.log(f.draws[name]) if name == "k_ref" else f.draws[name] for f in (fit, early))
        # The first fit's Monte Carlo error is in the second's prior; and log sigma, which stands in it as normal, is
        # skewed by a hundredth of its sd.
        errors = [array_stats.mcse(d, chain_axis=0, draw_axis=1, method="mean") for d in (draws, before)]
        assert abs(draws.mean() - mean) < 4 * np.hypot(*errors) + 0.02 * sd, name
        assert draws.std() == pytest.approx(sd, rel=0.1), name
    # The first half alone does not say this.
    grid = {"sigma": np.linspace(np.log(0.05), np.log(0.5), 400)}
    _, alone = posterior(drawn.filter(pl.col("tokens") < 80e9), grid)["beta"]
    assert early.draws["beta"].std() == pytest.approx(alone, rel=0.1)
    assert alone > 1.3 * expected["beta"][1]
    assert fit.attributes["prior_from"]["weight"] == 1.0


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_the_prior_is_the_normal_to_the_power_of_the_weight(
    pythia: pl.DataFrame, law: Law, early: qb.Fit, weight: float
) -> None:
    rows = inputs(pythia.head(50), law)
    rows = dataclasses.replace(rows, power_prior=power_prior(law, rows.coords, rows.errors, early, weight))
    assert set(model_data(rows)) >= {"power_prior_mean", "power_prior_root"}
    model = model_of_inputs(rows)
    density = model.compile_logp(mode="FAST_COMPILE")
    likelihood = model.compile_logp(
        vars=[v for v in model.potentials if v.name == "log_likelihood"], mode="FAST_COMPILE"
    )
    numbers = np.stack([
        (np.log(early.draws[n]) if n in ("k_ref", "sigma") else early.draws[n]).ravel()
        for n in ("k_ref", "beta", "alpha", "gamma", "sigma")
    ])  # fmt: skip
    expected = stats.multivariate_normal(numbers.mean(axis=1), np.cov(numbers) / weight)
    rng, differences = np.random.default_rng(0), []
    for _ in range(4):
        z = numbers.mean(axis=1) + rng.normal(0, 0.1, 5)
        point = dict(zip((v.name for v in model.value_vars), z, strict=True))
        differences.append(float(density(point)) - float(likelihood(point)) - expected.logpdf(z))
    np.testing.assert_allclose(differences, differences[0], rtol=1e-6)  # up to a constant


SUPPORTS = {
    "k": Prior("HalfNormal", sigma=1.0),
    "beta": Prior("Uniform", lower=-1.0, upper=3.0),
    "alpha": Prior("Beta", alpha=2.0, beta=3.0),
    "gamma": Prior("Normal", mu=5.0, sigma=3.0),
}
BY_WIDTH = {
    "k": Prior("LogNormal", mu=-3.0, sigma=2.0, by="bits", pooling="none"),
    "beta": Prior("Beta", alpha=2.0, beta=2.0, by="bits", pooling="none"),
}


@pytest.mark.parametrize("discrepancy", ["none", "smooth"])
@pytest.mark.parametrize("by_width", [False, True])
def test_a_borrowed_prior_is_normal_on_the_real_line_of_every_family(
    pythia: pl.DataFrame, discrepancy: str, by_width: bool
) -> None:
    """Where the sampler walks: without the Jacobian of a support with two ends the prior would be another there.

    By width, the other fit has its groups in another order, and one more.
    """
    law = load_law("unified").with_noise(discrepancy=discrepancy)
    law = dataclasses.replace(law, priors=law.priors | (BY_WIDTH if by_width else SUPPORTS))
    rows = inputs(pythia.filter(pl.col("tokens") > 1e11).head(30), law)
    priors = {law.sampled_name(name): prior for name, prior in law.priors.items()} | rows.errors
    labels = rows.coords.get("bits", ())
    # Draws around another place for each number, correlated.
    sizes = {name: len(labels) if prior.by else 1 for name, prior in priors.items()}
    rng, count = np.random.default_rng(4), sum(sizes.values())
    centre = rng.normal(-0.5, 1.0, count)
    real = centre + 0.3 * rng.standard_normal((400, count)) @ rng.normal(size=(count, count))
    ends = np.cumsum([0, *sizes.values()])
    draws, coords = {}, {"bits": ("8", *reversed(labels))}
    for (name, prior), start, end in zip(priors.items(), ends, ends[1:], strict=False):
        values = _constrained(prior, real[:, start:end])
        if prior.by:
            values = np.concatenate([rng.uniform(0.2, 0.8, (400, 1)), values[:, ::-1]], axis=1)
        draws[name] = values[None] if prior.by else values[None, :, 0]
    diagnostics = Diagnostics({}, 0, (1.0,), {})
    other = Posterior(law, draws, {}, coords, {}, rows.frame, diagnostics)
    theirs = power_prior(law, rows.coords, rows.errors, other, 0.5)
    assert dict(theirs.sizes) == sizes

    model = model_of_inputs(dataclasses.replace(rows, power_prior=theirs))
    density = model.compile_logp(mode="FAST_COMPILE")
    (potential,) = [v for v in model.potentials if v.name == "log_likelihood"]
    likelihood = model.compile_logp(vars=[potential], mode="FAST_COMPILE")
    expected = stats.multivariate_normal(real.mean(axis=0), np.cov(real, rowvar=False) / 0.5)
    shapes, differences = model.initial_point(), []
    assert len(shapes) == len(sizes)
    for _ in range(4):
        z = real.mean(axis=0) + rng.normal(0.0, 1.0, count)
        parts = np.split(z, ends[1:-1])
        point = {v.name: part.reshape(shapes[v.name].shape) for v, part in zip(model.value_vars, parts, strict=True)}
        differences.append(float(density(point)) - float(likelihood(point)) - expected.logpdf(z))
    np.testing.assert_allclose(differences, differences[0], rtol=1e-6, atol=1e-6)  # up to a constant


def _constrained(prior: Prior, real: np.ndarray) -> np.ndarray:
    given = dict(prior.arguments)
    if prior.family in ("LogNormal", "HalfNormal"):
        return np.exp(real)
    if prior.family == "Normal":
        return real
    lower, upper = given.get("lower", 0.0), given.get("upper", 1.0)
    return lower + (upper - lower) * expit(real)


def test_few_rows_lean_on_many(pythia: pl.DataFrame, unified: qb.Fit) -> None:
    six = pythia.filter(pl.col("model").str.contains("1b"), bits=4.0).head(6)
    alone = qb.fit(six, plain("unified"), random_seed=0)
    leaning = qb.fit(six, plain("unified"), random_seed=0, prior_from=unified, prior_weight=0.5)
    assert "alpha" in alone.diagnostics.unidentified
    assert leaning.diagnostics.unidentified == ()
    assert leaning.draws["alpha"].std() == pytest.approx(np.sqrt(2) * unified.draws["alpha"].std(), rel=0.25)
    assert leaning.draws["beta"].std() < 0.5 * alone.draws["beta"].std()


def test_what_cannot_be_borrowed_is_named(pythia: pl.DataFrame, unified: qb.Fit, per_bit: qb.Fit) -> None:
    def fit(law: str | Law, other: qb.Fit, weight: float = 1.0) -> None:
        qb.fit(pythia, law, random_seed=0, prior_from=other, prior_weight=weight)

    for weight in (0, 1.5, True):
        with pytest.raises(qb.InputError, match="prior_weight must be above 0 and at most 1"):
            fit(plain("unified"), unified, weight)
    with pytest.raises(qb.InputError, match="its law 'per-bit' has another equation than law 'unified'"):
        fit("unified", per_bit)
    moved = dataclasses.replace(unified.law, reference={"N": 1e9, "D": 1e12, "P": 4})
    with pytest.raises(qb.InputError, match="has another reference"):
        fit(moved, unified)
    # One that asks for the middle of its data gets that of the other fit's.
    anywhere = dataclasses.replace(unified.law, reference={"N": "data", "D": 1e12, "P": 4})
    with pytest.raises(qb.InputError, match="has another reference"):
        fit(anywhere, unified)
    anywhere = dataclasses.replace(unified.law, reference={"N": "data", "D": "data", "P": 4})
    leaning = qb.fit(pythia.head(60), anywhere, draws=100, tune=100, random_seed=0, prior_from=unified)
    assert leaning.law.reference == unified.law.reference
    with pytest.raises(qb.InputError, match="prior_from knows c for bits 2, 3, 4; not 8"):
        qb.fit(qb.load_table("pythia/gptq-8bit"), plain("per-bit"), prior_from=per_bit)


def test_the_command_records_where_the_prior_came_from(pythia: pl.DataFrame, unified: qb.Fit, tmp_path: Path) -> None:
    unified.save(tmp_path / "other.nc")
    qb.write_table(pythia.head(60), tmp_path / "mine.csv")
    law = plain_file("unified", tmp_path).name
    command = ["fit", "mine.csv", "--law", law, "--seed", "0", "-o", "mine.nc"]
    command += ["--prior-from", "other.nc", "--prior-weight", "0.5"]
    done = run(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = qb.load_fit(tmp_path / "mine.nc").attributes["prior_from"]
    assert found["weight"] == 0.5 and len(found["fit_hash"]) == 64
