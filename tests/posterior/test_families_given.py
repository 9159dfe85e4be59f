"""A fit of families given further rows, against dense normals of all rows and quadrature over what is left."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy import stats

from qidbayes.law import load_law
from qidbayes.noise.coordinates import Fitted
from qidbayes.noise.families import SHARED_EFFECT, Families
from qidbayes.noise.family_kernel import SUITE_SCALE
from qidbayes.noise.unknown_tokens import BETWEEN, UNKNOWN
from qidbayes.posterior import Fit, conditioning
from qidbayes.posterior.constants import raw_constants
from qidbayes.posterior.diagnostics import Diagnostics
from qidbayes.posterior.families_given import GivenRows, given_rows
from qidbayes.posterior.likelihood import covariances, grouped_log_likelihood
from qidbayes.posterior.smoothed import smoothed
from qidbayes.table import load_table
from tests import families as dense

COUNT = 2000
CONSTANTS = {"k_ref": 0.1, "beta": 0.3, "alpha": 0.25, "gamma": 5.0}
SCALE = {**{name: 0.6 * value for name, value in dense.scales(1).items()}, "suite_scale_sd": 0.5}
OF_FITTED = {"llama-1": 0.7, "opt": 1.4}
Z = np.linspace(-4.0, 4.0, 81)


def law_of(frame: pl.DataFrame) -> np.ndarray:
    n, d, p = (np.log(frame[c].to_numpy() / v) for c, v in dense.REFERENCE.items())
    return np.asarray(np.log(0.1) + 0.3 * d - 0.25 * n - 5.0 * p)


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    rows = load_table("atlas").filter(pl.col("qid") > 0)
    parts = [rows.filter(suite=s).sample(n, seed=2) for s, n in (("llama-1", 9), ("opt", 7))]
    return pl.concat(parts).with_columns(qid_se=pl.lit(None, pl.Float64))


def whole(table: pl.DataFrame, of_new: float) -> np.ndarray:
    """The covariance of rows with their own errors."""
    scales = {**OF_FITTED, "mine": of_new}
    none = np.zeros(table.height)
    return dense.covariance(SCALE, scales, table, table) + np.diag(dense.own_variance(SCALE, scales, table, none))


@pytest.fixture(scope="module")
def fit(table: pl.DataFrame) -> Fit:
    """Draws in which the effects that suites share alone are unknown: exact draws given the rows, by dense algebra."""
    law, noise = (
        load_law("atlas"),
        Families(tuple((s, float(np.log(v))) for s, v in zip("NDP", dense.REFERENCE.values(), strict=True))),
    )
    labels = noise.labels(Fitted(table))
    parts = noise.partition(noise.rows(table))
    columns, kind = parts.arrays["shared"], parts.arrays["shared_kind"]
    prior = np.diag(np.array([SCALE[name] for name in dense.SHARED])[kind] ** 2)
    gain = prior @ columns.T @ np.linalg.inv(whole(table, 1.0))
    middle = gain @ (np.log(table["qid"].to_numpy()) - law_of(table))
    rng = np.random.default_rng(0)
    effect = rng.multivariate_normal(middle, prior - gain @ columns @ prior, COUNT, method="eigh")
    flat = {name: np.full(COUNT, value) for name, value in {**SCALE, **CONSTANTS}.items()}
    flat |= raw_constants(law, flat)
    suites = Fitted(table).labels("suite")
    flat |= {SUITE_SCALE: np.tile([OF_FITTED[s] for s in suites], (COUNT, 1)), SHARED_EFFECT: effect}
    names = ("energy", "n_steps", "acceptance_rate", "lp")
    # What is the same in all draws would make them one: a sliver tells the draws of the sampler apart.
    flat["sigma"] = flat["sigma"] * (1.0 + 1e-9 * np.arange(COUNT))
    return Fit(
        law=law,
        draws={name: values[None] for name, values in flat.items()},
        dims={SUITE_SCALE: "suite", SHARED_EFFECT: "effect"},
        coords={"suite": suites, "effect": labels},
        stats={**dict.fromkeys(names, np.zeros((1, COUNT))), "diverging": np.zeros((1, COUNT), dtype=bool)},
        data=table,
        diagnostics=Diagnostics({}, 0, (1.0,), dict.fromkeys(CONSTANTS, 1.0)),
        attributes={"random_seed": 3},
    )


def test_the_fitted_rows_have_the_covariance_of_the_dense_normal(fit: Fit, table: pl.DataFrame) -> None:
    """What leaves one out goes by it: the suites' scales and the bits' power are in it."""
    (found,) = covariances(fit, np.array([0]))
    np.testing.assert_allclose(found, whole(table, 1.0), rtol=1e-9, atol=1e-12)


def test_untold_tokens_are_left_out_at_each_draw(fit: Fit, table: pl.DataFrame) -> None:
    """As if each draw's tokens had been told: its covariance and its law."""
    model, drawn = table["model"][0], np.array([2e12, 3e11, 9e12])
    untold = pl.when(model=model).then(None).otherwise("tokens").alias("tokens")
    draws = {**fit.draws, UNKNOWN: np.resize(drawn, COUNT)[None, :, None]}
    coords, dims = {**fit.coords, "untold": (model,)}, {**fit.dims, UNKNOWN: "untold"}
    of = replace(fit, data=table.with_columns(untold), draws=draws, coords=coords, dims=dims)
    found = grouped_log_likelihood(of, np.arange(3))
    for draw, tokens in enumerate(drawn):
        told = table.with_columns(pl.when(model=model).then(tokens).otherwise("tokens").cast(pl.Int64).alias("tokens"))
        as_told = grouped_log_likelihood(replace(fit, data=told), np.array([draw]))
        np.testing.assert_allclose(found["row"][draw], as_told["row"][0], rtol=1e-6)
        np.testing.assert_allclose(found["checkpoint"][draw], as_told["checkpoint"][0], rtol=1e-6)


@pytest.fixture(scope="module")
def own(table: pl.DataFrame) -> pl.DataFrame:
    """Rows of a suite, of a method and a data set that were not fitted, beside some of a fitted method."""
    rows = table.head(1).drop("qid", "method", "bits", "model", "n_params", "group_size", "revision", strict=False)
    cells = pl.DataFrame(
        {
            "method": ["hqq", "hqq", "hqq", "gptq", "gptq"],
            "bits": [2.0, 3.0, 4.0, 3.0, 4.0],
            "model": ["a", "a", "b", "b", "a"],
            "n_params": [10**9, 10**9, 8 * 10**9, 8 * 10**9, 10**9],
            "group_size": pl.Series([None, 128, None, 64, None], dtype=pl.Int64),
            "qid": [1.6, 0.7, 0.05, 0.3, 0.12],
        }
    )
    rows = rows.with_columns(suite=pl.lit("mine"), dataset=pl.lit("pile"), tokens=pl.lit(8 * 10**12))
    rows = rows.join(cells, how="cross").with_columns(loss=None, loss_16bit=None, revision=pl.lit(""))
    return rows.select(table.columns)


@pytest.fixture(scope="module")
def further(own: pl.DataFrame) -> pl.DataFrame:
    return own.head(3).with_columns(
        bits=pl.Series([3.5, 3.0, 4.0]), model=pl.Series(["a", "c", "d"]), method=pl.Series(["hqq", "hqq", "gptq"]),
        n_params=pl.Series([10**9, 3 * 10**9, 3 * 10**10]),
    )  # fmt: skip


def expected(
    table: pl.DataFrame, own: pl.DataFrame, further: pl.DataFrame, nodes: np.ndarray = Z
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return log p(own | fitted, z) and its weights over nodes of z, and the mean and sd of further rows given all."""
    both, every = pl.concat([table, own]), pl.concat([table, own, further])
    log_qid = np.log(both["qid"].to_numpy()) - law_of(both)
    count, known = table.height, both.height
    log_density, mean, variance = [], [], []
    for z in nodes:
        covariance = whole(every, float(np.exp(SCALE["suite_scale_sd"] * z)))
        of_both = stats.multivariate_normal(np.zeros(known), covariance[:known, :known])
        of_fitted = stats.multivariate_normal(np.zeros(count), covariance[:count, :count])
        log_density.append(of_both.logpdf(log_qid) - of_fitted.logpdf(log_qid[:count]))
        gain = np.linalg.solve(covariance[:known, :known], covariance[:known, known:]).T
        mean.append(gain @ log_qid)
        variance.append(np.diag(covariance[known:, known:] - gain @ covariance[:known, known:]))
    weight = np.exp(np.array(log_density) - max(log_density)) * stats.norm.pdf(nodes)
    weight /= weight.sum()
    middle = weight @ np.array(mean)
    total = weight @ (np.array(variance) + np.square(mean)) - middle**2
    return np.array(log_density), weight, middle + law_of(further), np.sqrt(total)


ROUNDS = [(0,), (1200,)]


@pytest.mark.parametrize("batches", [(5,), (2, 3)])
@pytest.mark.parametrize("rounds", ROUNDS)
def test_answers_are_those_of_one_dense_normal(
    fit: Fit, table: pl.DataFrame, own: pl.DataFrame, further: pl.DataFrame, rounds: tuple[int, ...],
    batches: tuple[int, ...], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Means and sds of further rows and of λ, to four Monte Carlo errors, however much is integrated out, at once or
    one batch after another."""
    monkeypatch.setattr(conditioning, "_ROUNDS", rounds)
    given, ends = fit, np.cumsum(batches)
    for first, last in zip(ends - batches, ends, strict=True):
        given = given.condition(own[first:last])
    told = given.attributes["conditioned_on"][-1]
    assert told["pareto_k"] < 0.7
    _, weight, mean, sd = expected(table, own, further)
    found = given.predictive(further)
    # Draws that the sampler's are worth, and no more than were taken: the effects are drawn anew for each.
    error = sd / np.sqrt(min(told["ess"], 1000))
    middle = found.mean.mean(axis=0)
    assert (np.abs(middle - mean) < 4 * error).all()
    spread = np.sqrt((found.sd**2 + found.mean**2).mean(axis=0) - middle**2)
    np.testing.assert_allclose(spread, sd, rtol=4 / np.sqrt(2 * min(told["ess"], 1000)))
    z = np.log(given.flat(SUITE_SCALE)[:, -1]) / SCALE["suite_scale_sd"]
    middle_z, sd_z = weight @ Z, np.sqrt(weight @ Z**2 - (weight @ Z) ** 2)
    assert abs(z.mean() - middle_z) < 4 * sd_z / np.sqrt(min(told["ess"], 1000))
    assert z.std() == pytest.approx(sd_z, rel=4 / np.sqrt(2 * min(told["ess"], 1000)))


def test_the_density_with_all_integrated_out_is_that_of_the_dense_normals(
    fit: Fit, table: pl.DataFrame, own: pl.DataFrame, further: pl.DataFrame
) -> None:
    log_density, *_ = expected(table, own, further)
    rows = conditioning.own_rows(fit, own, "mine")
    given = given_rows(rows, integrated=50)
    every = log_density + stats.norm.logpdf(Z)
    whole_density = np.log(np.exp(every - every.max()).sum() * (Z[1] - Z[0])) + every.max()
    # Each draw's grid is shifted, which costs a few millionths; all draws have the same numbers.
    np.testing.assert_allclose(given.log_weight, whole_density, rtol=0, atol=5e-5)


def test_further_rows_of_a_fitted_suite_have_the_density_of_the_dense_normals(
    fit: Fit, table: pl.DataFrame, own: pl.DataFrame
) -> None:
    """How noisy the suite is is integrated out too, of the fitted and the further rows together."""
    further = own.with_columns(suite=pl.lit("opt"))
    both = pl.concat([table, further])
    log_qid = np.log(both["qid"].to_numpy()) - law_of(both)

    def log_density(rows: int) -> float:
        found = []
        for z in Z:
            scales = {**OF_FITTED, "opt": float(np.exp(SCALE["suite_scale_sd"] * z))}
            here = both.head(rows)
            own_variance = dense.own_variance(SCALE, scales, here, np.zeros(rows))
            covariance = dense.covariance(SCALE, scales, here, here) + np.diag(own_variance)
            found.append(stats.multivariate_normal(np.zeros(rows), covariance).logpdf(log_qid[:rows]))
        every = np.array(found) + stats.norm.logpdf(Z)
        return float(np.log(np.exp(every - every.max()).sum() * (Z[1] - Z[0])) + every.max())

    given = given_rows(conditioning.own_rows(fit, further, "opt"), integrated=50)
    assert given.log_weight == pytest.approx(log_density(both.height) - log_density(table.height), abs=1e-4)
    scales = given.completed(np.arange(5))[SUITE_SCALE]
    place = given.source.coords["suite"].index("opt")
    assert len(np.unique(scales[:, place])) > 1
    assert (np.delete(scales, place, axis=1) == OF_FITTED["llama-1"]).all()


def test_shared_effects_are_as_sure_as_both_tables_make_them(
    fit: Fit, table: pl.DataFrame, own: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mean and sd of every effect given fitted and own rows, with λ known, against the dense conditional."""
    sure = replace(fit, draws={**fit.draws, "suite_scale_sd": np.full((1, COUNT), 1e-6)})
    both = pl.concat([table, own])
    noise = fit.noise
    assert isinstance(noise, Families)
    parts = noise.partition(noise.rows(both))
    columns, kind = parts.arrays["shared"], parts.arrays["shared_kind"]
    prior = np.diag(np.array([SCALE[name] for name in dense.SHARED])[kind] ** 2)
    gain = prior @ columns.T @ np.linalg.inv(whole(both, 1.0))
    mean = gain @ (np.log(both["qid"].to_numpy()) - law_of(both))
    sd = np.sqrt(np.diag(prior - gain @ columns @ prior))
    for rounds in ROUNDS:
        monkeypatch.setattr(conditioning, "_ROUNDS", rounds)
        given = sure.condition(own)
        assert given.coords["effect"] == noise.labels(Fitted(both))
        count = min(given.attributes["conditioned_on"][-1]["ess"], 1000)
        effect = given.flat(SHARED_EFFECT)
        assert (np.abs(effect.mean(axis=0) - mean) < 4.5 * sd / np.sqrt(count)).all()
        np.testing.assert_allclose(effect.std(axis=0), sd, rtol=4.5 / np.sqrt(2 * count))


def test_tokens_that_nobody_tells_are_those_of_quadrature(fit: Fit, table: pl.DataFrame, own: pl.DataFrame) -> None:
    """However they are proposed: their mean and sd by weighted draws, against a grid over one model's log D."""
    few = own.filter(model="a")
    blank = few.with_columns(tokens=pl.lit(None, pl.Int64))
    low, high = np.log(BETWEEN)
    at, nodes = np.linspace(low, high, 25), Z[::4]
    height = []
    for log_tokens in at:
        told = few.with_columns(tokens=pl.lit(round(float(np.exp(log_tokens)))))
        log_density, *_ = expected(table, told, told.head(1), nodes)
        height.append(np.log((np.exp(log_density) * stats.norm.pdf(nodes)).sum()))
    share = np.exp(np.array(height) - max(height))
    share[[0, -1]] /= 2
    share /= share.sum()
    mean = share @ at
    sd = np.sqrt(share @ at**2 - mean**2)
    rows = conditioning.own_rows(fit, blank, "mine")
    assert rows.untold == ("a",)
    flat = given_rows(rows, integrated=400)
    sloped = np.linspace(1.0, 3.0, 12)[None] / 24.0
    for given in (flat, given_rows(rows, sloped, integrated=400), given_rows(rows, flat.tokens(weights(flat)), 400)):
        weight = weights(given)
        drawn = np.log(given.source.flat(UNKNOWN)[:, -1])
        middle = weight @ drawn
        count = 1.0 / np.square(weight).sum()
        assert abs(middle - mean) < 4 * sd / np.sqrt(count)
        assert np.sqrt(weight @ drawn**2 - middle**2) == pytest.approx(sd, rel=4 / np.sqrt(2 * count))


def weights(given: GivenRows) -> np.ndarray:
    found = np.exp(given.log_weight - given.log_weight.max())
    return np.asarray(found / found.sum())


@pytest.mark.parametrize("sd", [0.1, 1.0, 2.0, 5.0, 30.0])
@pytest.mark.parametrize("count", [40, 500, 3000])
def test_weights_are_smoothed_as_arviz_does(sd: float, count: int) -> None:
    from arviz_stats.base import array_stats

    log_weight = sd * np.random.default_rng(count).standard_normal(count)
    found, k = smoothed(log_weight)
    theirs, their_k = array_stats.psislw(-log_weight)
    assert k == pytest.approx(float(their_k), rel=1e-9)
    np.testing.assert_allclose(found, theirs - theirs.max(), rtol=1e-9, atol=1e-9)


def test_weights_that_are_all_the_same_have_no_k() -> None:
    found, k = smoothed(np.zeros(1000))
    assert (found == 0).all()
    assert k == np.inf


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_no_answer_depends_on_what_else_is_asked(fit: Fit, own: pl.DataFrame, further: pl.DataFrame) -> None:
    """Of suites with many rows and with few, each has the draws that it has when asked alone, evenly repeated."""
    many = pl.concat([fit.data] * 8).with_columns(revision=pl.arange(8 * fit.data.height, eager=True).cast(pl.String))
    large = replace(fit, data=many.with_columns(bits=pl.col("bits") + 0.01 * pl.arange(many.height)))
    asked = further.drop("qid", "model", "loss", "loss_16bit").with_columns(
        suite=pl.Series(["opt", "elsewhere", "llama-1"]), method=pl.lit("gptq"), dataset=pl.lit("wikitext2")
    )
    together = large.log_draws(asked)
    shared = large.predictive(asked)
    projected = large.project(n_params=7e9, tokens=1e12, bits=3.0, suite=["opt", "elsewhere"], method="gptq")
    for row in range(asked.height):
        alone = large.log_draws(asked[row : row + 1])[:, 0]
        each = len(together) // len(alone)
        np.testing.assert_allclose(together[:, row], np.repeat(alone, each), rtol=1e-9)
        mean = large.predictive(asked[row : row + 1]).mean[:, 0]
        np.testing.assert_allclose(shared.mean[:, row], np.repeat(mean, len(shared.mean) // len(mean)), rtol=1e-9)
    counts = {len(large.log_draws(asked[row : row + 1])) for row in range(3)}
    assert len(counts) > 1
    for row, suite in enumerate(("opt", "elsewhere")):
        alone = large.project(n_params=7e9, tokens=1e12, bits=3.0, suite=suite, method="gptq")
        # Quantiles of draws that are repeated lie between the same two draws.
        assert projected["median"][row] == pytest.approx(alone["median"][0], rel=2e-3)
