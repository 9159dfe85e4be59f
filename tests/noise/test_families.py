"""The noise of many families, held against one dense matrix of all rows."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from scipy import stats

from qidbayes.infer.inputs import inputs
from qidbayes.infer.jax_log_density import log_density as jax_log_density
from qidbayes.infer.model import build_model
from qidbayes.law import load_law
from qidbayes.noise.coordinates import Fitted
from qidbayes.noise.families import SHARED_EFFECT, Families
from qidbayes.noise.family_density import draw_shared, log_density, moments
from qidbayes.noise.family_kernel import NUMBERS, SUITE_SCALE
from qidbayes.table import load_table
from tests import families as dense

SUITES = ("opt", "llama-1", "pythia", "bloom", "qwen3")


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    rows = load_table("atlas").filter(pl.col("suite").is_in(SUITES))
    return pl.concat([rows.filter(suite=s).sample(n, seed=3) for s, n in zip(SUITES, (9, 5, 12, 3, 9), strict=True)])


@pytest.fixture(scope="module")
def noise() -> Families:
    return Families(tuple((s, float(np.log(v))) for s, v in zip("NDP", dense.REFERENCE.values(), strict=True)))


def _numbers(table: pl.DataFrame) -> tuple[dict[str, object], dict[str, float]]:
    of_suite = dict(zip(SUITES, (0.5, 1.7, 0.8, 1.2, 0.9), strict=True))
    order = Fitted(table).labels("suite")
    return {**dense.scales(), SUITE_SCALE: np.array([of_suite[s] for s in order])}, of_suite


def _residuals(table: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.standard_normal(table.height), rng.uniform(0.001, 0.1, table.height)


def test_density_is_that_of_one_normal_of_all_rows(table: pl.DataFrame, noise: Families) -> None:
    scale, of_suite = _numbers(table)
    residual, error = _residuals(table)
    parts = noise.partition(noise.rows(table))
    found = log_density(residual, error, scale, parts.buckets, parts.arrays, np)
    whole = dense.covariance(scale, of_suite, table, table)
    whole = whole + np.diag(dense.own_variance(scale, of_suite, table, error) + 1e-9)
    expected = stats.multivariate_normal(np.zeros(len(whole)), whole).logpdf(residual)
    assert found == pytest.approx(expected, rel=1e-10)


def test_sizes_of_one_model_may_differ_by_a_parameter(table: pl.DataFrame, noise: Families) -> None:
    scale, of_suite = _numbers(table)
    rows = table.filter(suite="opt").head(2)
    rows = pl.concat([rows, rows.with_columns(pl.col("n_params") + 1)])
    residual, error = _residuals(rows)
    given = {**scale, SUITE_SCALE: np.array([of_suite["opt"]])}
    parts = noise.partition(noise.rows(rows))
    found = log_density(residual, error, given, parts.buckets, parts.arrays, np)
    whole = dense.covariance(scale, of_suite, rows, rows) + np.diag(dense.own_variance(scale, of_suite, rows, error))
    assert found == pytest.approx(stats.multivariate_normal(np.zeros(4), whole).logpdf(residual), rel=1e-6)


def test_the_closed_gradient_is_the_one_that_jax_derives() -> None:
    import jax
    from jax import numpy as jnp

    from qidbayes.noise.family_solve import log_det_and_gram

    rng = np.random.default_rng(5)
    half, columns = rng.standard_normal((3, 6, 6)), rng.standard_normal((3, 6, 4))
    weight = rng.standard_normal((4, 4))

    def plain(blocks: jax.Array, columns: jax.Array) -> tuple[jax.Array, jax.Array]:
        solved = jnp.linalg.solve(blocks, columns)
        return jnp.linalg.slogdet(blocks)[1].sum(), jnp.einsum("brm,brn->mn", columns, solved)

    def of(moments: Callable[..., tuple[jax.Array, jax.Array]]) -> Callable[..., jax.Array]:
        def value(half: jax.Array, columns: jax.Array) -> jax.Array:
            log_det, gram = moments(half @ jnp.swapaxes(half, 1, 2) + jnp.eye(6), columns)
            return 0.7 * log_det + (weight * gram).sum()

        return value

    with jax.enable_x64(True):
        found, expected = (jax.value_and_grad(of(m), argnums=(0, 1))(half, columns) for m in (log_det_and_gram, plain))
    assert float(found[0]) == pytest.approx(float(expected[0]), rel=1e-12)
    for one, other in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11)


def test_covariance_is_the_same_matrix(table: pl.DataFrame, noise: Families) -> None:
    scale, of_suite = _numbers(table)
    found = noise.covariance(scale, noise.rows(table))
    expected = dense.covariance(scale, of_suite, table, table)
    # sigma² is whoever asks to add.
    expected += np.diag(dense.own_variance(scale, of_suite, table, np.full(table.height, -(scale["sigma"] ** 2))))
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_the_model_has_this_density_and_its_priors(table: pl.DataFrame) -> None:
    import jax

    table = table.with_columns(qid_se=0.05 * pl.col("qid"))
    rows, model = inputs(table, load_law("atlas")), build_model(table, load_law("atlas"))
    start = model.initial_point()
    with jax.enable_x64(True):
        density, names = jax_log_density(model)
        data = [np.asarray(model[name].get_value()) for name in names]
        found = float(density([start[v.name] for v in model.value_vars], data))
    values = {v.name.removesuffix("_log__"): start[v.name] for v in model.value_vars}
    scale = {name: float(np.exp(values[name])) for name in NUMBERS}
    scale |= {SUITE_SCALE: np.exp(scale["suite_scale_sd"] * values[SUITE_SCALE])}
    law = load_law("atlas")
    k, beta, alpha, gamma = np.exp(values["k_ref"]), *(values[n] for n in ("beta", "alpha", "gamma"))
    n, d, p = (np.log(rows.frame[c].to_numpy() / v) for c, v in dense.REFERENCE.items())
    residual = rows.log_response - (np.log(k) + beta * d - alpha * n - gamma * p)
    parts = rows.partition
    expected = log_density(residual, rows.variance, scale, parts.buckets, parts.arrays, np)
    for name, prior in {**{law.sampled_name(n): q for n, q in law.priors.items()}, **rows.errors}.items():
        mu, sigma = dict(prior.arguments)["mu"], dict(prior.arguments)["sigma"]
        expected += stats.norm(mu, sigma).logpdf(values[name])  # of log-normals on the logarithm
    expected += stats.norm.logpdf(values[SUITE_SCALE]).sum()
    assert found == pytest.approx(expected, rel=1e-9)


def test_shared_effects_are_drawn_from_their_conditional(table: pl.DataFrame, noise: Families) -> None:
    scale, of_suite = _numbers(table)
    residual, error = _residuals(table)
    parts = noise.partition(noise.rows(table))
    given = (residual, error, scale, parts.buckets, parts.arrays)
    effects = parts.arrays["shared"].shape[1]
    middle = draw_shared(*given, np.zeros(effects), np)
    steps = np.stack([draw_shared(*given, step, np) - middle for step in np.eye(effects)], axis=1)
    columns = parts.arrays["shared"]
    prior = np.diag(np.array([scale[name] for name in dense.SHARED])[parts.arrays["shared_kind"]] ** 2)
    rest = dense.covariance(scale, of_suite, table, table, shared=False)
    whole = columns @ prior @ columns.T + rest + np.diag(dense.own_variance(scale, of_suite, table, error) + 1e-9)
    gain = prior @ columns.T @ np.linalg.inv(whole)
    np.testing.assert_allclose(middle, gain @ residual, rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(steps @ steps.T, prior - gain @ columns @ prior, rtol=1e-6, atol=1e-9)
    assert moments(*given, np)[1].shape == (effects, effects)


@pytest.fixture(scope="module")
def asked(table: pl.DataFrame) -> pl.DataFrame:
    """Rows of a fitted suite, of a fitted model, and of a suite, a method and a maker that were not fitted."""
    known = table.filter(suite="pythia").head(3)
    new = known.with_columns(suite=pl.lit("mine"), model=pl.lit("mine-1b"), tokens=pl.lit(10**12))
    method = new.head(1).with_columns(method=pl.lit("mine-method"))
    sibling = known.head(1).with_columns(model=pl.lit("another run"))
    known_file = table.filter(method="gguf")["settings"][0]
    file = new.head(1).with_columns(method=pl.lit("gguf"))
    files = [file.with_columns(settings=pl.lit(by)) for by in (known_file, "nobody/Q4_0", "nobody/Q3_K")]
    return pl.concat([known.with_columns(bits=pl.lit(3.5)), sibling, new, method, *files])


def test_conditioning_is_that_of_one_dense_normal(table: pl.DataFrame, noise: Families, asked: pl.DataFrame) -> None:
    one, of_suite = _numbers(table)
    residual, error = _residuals(table)
    count = len(noise.labels(Fitted(table)))
    effect = np.random.default_rng(2).standard_normal((2, count)) * 0.3
    scale = {name: np.array([value, value]) for name, value in one.items() if name != SUITE_SCALE}
    scale |= {SUITE_SCALE: np.stack([one[SUITE_SCALE]] * 2), SHARED_EFFECT: effect}
    fitted = Fitted(table)
    where = noise.coordinates(fitted, asked, together=True)

    def residuals(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        own = np.stack([error[rows]] * 2) + one["sigma"] ** 2
        return np.stack([residual[rows]] * 2), own

    given = noise.condition(scale, fitted, where, residuals)
    mean, variance = given.at(where)
    together, covariance = given.blocks(where, 1)
    np.testing.assert_allclose(together[:, 0], mean, rtol=1e-9)
    np.testing.assert_allclose(np.diagonal(covariance[:, 0], axis1=1, axis2=2), variance, rtol=1e-7, atol=1e-10)
    parts = noise.partition(noise.rows(table))
    makers = table.filter(pl.col("settings").str.contains("/"))["settings"].str.split("/").list.first().n_unique()
    columns = noise.shared(where, [*(len(fitted.labels(g)) for g in ("method", "dataset")), makers])[0]
    for draw in range(2):
        # λ of a new suite is one of its population's quantiles: which one the answer took is in its variance.
        scales = {**of_suite, "mine": float(given._new_scale[draw])}
        pure = dense.covariance(one, scales, table, table, shared=False)
        pure = pure + np.diag(dense.own_variance(one, of_suite, table, error) + 1e-9)
        cross = dense.covariance(one, scales, table, asked, shared=False)
        gain = np.linalg.solve(pure, cross).T
        left = residual - parts.arrays["shared"] @ effect[draw]
        np.testing.assert_allclose(mean[draw], columns @ effect[draw] + gain @ left, rtol=1e-8, atol=1e-9)
        new = dense.covariance(one, scales, asked, asked, shared=False) - gain @ cross
        at = (asked["method"] == "mine-method").to_numpy()
        p = np.log(asked["bits"].to_numpy() / 4.0)
        of_method = one["method_sd"] ** 2 + one["method_bits_sd"] ** 2 * np.outer(p, p)
        of_method = of_method + one["method_curve_sd"] ** 2 * np.outer(p, p) ** 2
        new = new + np.outer(at, at) * of_method
        nobody = asked["settings"].str.starts_with("nobody").to_numpy()
        new = new + np.outer(nobody, nobody) * (one["maker_sd"] ** 2 + one["maker_bits_sd"] ** 2 * np.outer(p, p))
        # sigma² is whoever asks to add: a suite that is noisier has the rest of it here.
        new = new + np.diag([(scales[s] ** 2 - 1) * one["sigma"] ** 2 for s in asked["suite"]])
        np.testing.assert_allclose(covariance[draw, 0], new, rtol=1e-6, atol=1e-8)
    for row in (0, 4):
        single = {name: values[row : row + 1] for name, values in where.items()}
        expected = covariance[:, 0, :, row].mean(axis=0)
        own = np.mean([(given._of_suite(where["suite"])[:, row] ** 2 - 1) * one["sigma"] ** 2])
        expected[row] -= own  # between measurements there is no error of one row
        np.testing.assert_allclose(given.between(where, single), expected, rtol=1e-6, atol=1e-8)


def test_simulated_rows_have_the_covariance(table: pl.DataFrame, noise: Families) -> None:
    few = pl.concat([table.filter(suite="pythia").head(2), table.filter(suite="opt").head(2)])
    scale = {**dense.scales(4), "suite_scale_sd": 1e-9}
    where = noise.rows(few)
    rng = np.random.default_rng(0)
    drawn = np.stack([noise.simulate(scale, where, rng)[0] for _ in range(4000)])
    expected = dense.covariance(scale, dict.fromkeys(SUITES, 1.0), few, few)
    variances = np.outer(np.diag(expected), np.diag(expected)) + expected**2
    errors = np.sqrt(variances / len(drawn))
    assert (np.abs(np.cov(drawn, rowvar=False) - expected) < 4.5 * errors).all()
    scale[SUITE_SCALE] = np.full(2, 1.7)
    own = np.stack([noise.own_errors(scale, where, few.height, rng) for _ in range(4000)])
    expected = dense.own_variance(scale, dict.fromkeys(SUITES, 1.7), few, np.zeros(few.height))
    assert (np.abs(own.var(axis=0) / expected - 1) < 4.5 * np.sqrt(2 / 4000)).all()
