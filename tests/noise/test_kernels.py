"""What the discrepancy says of new measurements, against the conditional of one big multivariate normal."""

import numpy as np
import polars as pl
import pytest
from dense import covariance
from made import SMOOTH, unified_fit

import qidbayes as qb
from qidbayes.noise.conditioned import ConditionedBlock, FittedResiduals
from qidbayes.noise.coordinates import NEW, Fitted
from qidbayes.noise.grid import Block, partition
from qidbayes.noise.kernels import Coordinates, matern, prior_variance
from qidbayes.posterior.fit import SMOOTH_DRAWS

SCALE = {
    "smooth_sd": 0.4,
    "suite_sd": 0.3,
    "model_sd": 0.15,
    "checkpoint_sd": 0.05,
    "length_params": 1.1,
    "length_tokens": 1.2,
    "length_bits": 0.9,
    "similarity": 0.6,
}


def rows() -> pl.DataFrame:
    return qb.load_table("pythia").filter(pl.col("n_params") < 1e9, pl.col("tokens") > 1e11)


def conditioned(
    scale: dict[str, np.ndarray], residual: np.ndarray, variance: np.ndarray, blocks: tuple[Block, ...], at: Coordinates
) -> FittedResiduals:
    coordinates = [{name: values[b.members] for name, values in at.items()} for b in blocks]
    parts = [
        ConditionedBlock(scale, residual[:, b.members], variance[:, b.members], b.grid, of_block)
        for b, of_block in zip(blocks, coordinates, strict=True)
    ]
    return FittedResiduals(scale, parts)


@pytest.mark.parametrize("most", [1e9, 0.0], ids=["kept", "along an axis"])
@pytest.mark.parametrize(("holes", "rest"), [(0, 0), (0, 7), (5, 0), (5, 7)])
def test_conditional_is_that_of_a_multivariate_normal(
    holes: int, rest: int, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qidbayes.noise.conditioned._MOST", most)
    table = qb.load_table("pythia").sample(fraction=1.0, shuffle=True, seed=0)
    of_grid = pl.col("tokens").rank("dense") % 2 == 0
    fitted, asked = table.filter(of_grid), table.filter(~of_grid)
    fitted, asked = pl.concat([fitted[holes:], asked.head(rest)]), asked[rest : rest + 20]
    place = Fitted(fitted)
    here, there = place.coordinates(fitted), place.coordinates(asked)
    # New checkpoints, told apart.
    _, checkpoint = np.unique(asked["model"] + asked["revision"], return_inverse=True)
    there["checkpoint"] = np.where(there["checkpoint"] == NEW, NEW - 1 - checkpoint, there["checkpoint"])
    residual = np.random.default_rng(0).standard_normal((2, fitted.height))
    # Each width has errors of its own, and those beside the grid each their own.
    variance = 0.01 * np.array([[1.0], [1.5]]) * (4.0 / fitted["bits"].to_numpy()) ** 3
    scale = {name: np.array([value, 1.3 * value]) for name, value in SCALE.items()}
    scale["similarity"] = np.array([0.6, 0.7])
    where = partition(here).blocks
    assert [len(block.grid.rest) for block in where] == [rest]
    assert where[0].grid.models == fitted["model"].n_unique()
    assert where[0].grid.holes.shape[1] == holes
    beside = where[0].members[where[0].grid.rest]
    variance[:, beside] *= np.linspace(0.5, 3.0, rest)
    known = conditioned(scale, residual, variance, where, here)
    mean, left = known.at(there)
    one_block, alone = known.blocks(there, 1), known.blocks(there, asked.height)
    for draw in range(2):
        one = {name: values[draw] for name, values in scale.items()}
        both = pl.concat([fitted, asked])
        full = covariance(one, both, both)
        n = fitted.height
        own, cross = full[:n, :n] + np.diag(variance[draw]), full[:n, n:]
        np.testing.assert_allclose(mean[draw], cross.T @ np.linalg.inv(own) @ residual[draw], rtol=1e-8)
        np.testing.assert_allclose(
            left[draw], np.diag(full)[n:] - np.einsum("ij,ij->j", cross, np.linalg.inv(own) @ cross), rtol=1e-6
        )
        np.testing.assert_allclose(
            one_block[1][draw, 0], full[n:, n:] - cross.T @ np.linalg.inv(own) @ cross, rtol=1e-6, atol=1e-12
        )
        np.testing.assert_allclose(one_block[0][draw, 0], mean[draw], rtol=1e-8)
        np.testing.assert_allclose(alone[1][draw, :, 0, 0], left[draw], rtol=1e-6)


def test_what_is_kept_answers_as_what_is_taken_up_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two suites, of which one is beside its grid: whatever was asked before, and however much memory there is."""
    table = pl.concat([rows(), rows().head(9).with_columns(suite=pl.lit("other"), model=pl.lit("other"))])
    constants = {"k_ref": np.full(30, 0.04), "beta": 0.5, "alpha": 0.3, "gamma": 5.0}
    noise = {**SMOOTH, "length_tokens": np.linspace(1.0, 2.0, 30)}
    asked = [
        pl.DataFrame({"n_params": [1e9, 3e9], "tokens": [1e12, 2e11], "bits": [3.0, 4.0], "suite": suites})
        for suites in (["pythia", "pythia"], ["other", "pythia"], ["third", "other"])
    ]
    fit = unified_fit(constants, noise, table)
    kept = [fit.log_draws(frame) for frame in (*asked, *asked)]
    np.testing.assert_array_equal(kept[:3], kept[3:])
    blocks = fit._few(SMOOTH_DRAWS).fitted.kept._blocks
    assert len(blocks) == 2
    assert sum(block.bytes for block in blocks.values()) < 1e8
    for most, step in ((1e9, 1_000), (1.0, 1_000_000)):  # a few draws at a time; nothing kept
        monkeypatch.setattr("qidbayes.noise.conditioned._MOST", most)
        monkeypatch.setattr("qidbayes.noise.conditioned._AT_ONCE", step)
        other = unified_fit(constants, noise, table)
        anew = [other.log_draws(frame) for frame in asked]
        np.testing.assert_allclose(anew, kept[:3], rtol=1e-9)
    assert [len(block._kept) for block in other._few(SMOOTH_DRAWS).fitted.kept._blocks.values()] == [0]


def test_far_from_the_data_anything_goes_that_the_scales_allow() -> None:
    table = rows()
    place = Fitted(table)
    far = place.coordinates(pl.DataFrame({"n_params": [1e14], "tokens": [1e20], "bits": [4.0], "suite": ["another"]}))
    scale = {name: np.array([value]) for name, value in SCALE.items()}
    residual, variance = np.ones((1, table.height)), np.full((1, table.height), 0.01)
    fitted = place.coordinates(table)
    where = partition(fitted).blocks
    mean, left = conditioned(scale, residual, variance, where, fitted).at(far)
    assert mean[0, 0] == pytest.approx(0.0, abs=1e-6)
    assert left[0, 0] == pytest.approx(0.4**2 + 0.3**2 + 0.15**2 + 0.05**2)
    assert left[0, 0] == pytest.approx(prior_variance(scale, far)[0, 0])


def test_a_suite_left_out_is_new_and_a_method_only_where_the_rows_do_not_agree() -> None:
    place = Fitted(rows())
    bare = place.coordinates(pl.DataFrame({"n_params": [1e9], "tokens": [1e11], "bits": [4.0]}))
    assert (bare["suite"][0], bare["kind"][0], bare["model"][0], bare["checkpoint"][0]) == (NEW, 0, NEW, NEW)
    of_model = place.coordinates(pl.DataFrame({"tokens": [1e11], "bits": [4.0], "model": [rows()["model"][0]]}))
    assert of_model["suite"][0] == 0, "a fitted model brings its suite along"
    named = place.coordinates(pl.DataFrame({"n_params": [1e9], "tokens": [1e11], "bits": [4.0], "method": ["awq"]}))
    assert named["kind"][0] == NEW
    both = Fitted(qb.join_tables(rows(), qb.load_table("pythia/awq-bnb")))
    assert both.coordinates(pl.DataFrame({"n_params": [1e9], "tokens": [1e11], "bits": [4.0]}))["kind"][0] == NEW


def test_the_size_of_a_named_model_need_not_be_given() -> None:
    table = rows()
    found = Fitted(table).coordinates(pl.DataFrame({"model": [table["model"][0]], "tokens": [1e11], "bits": [4.0]}))
    assert found["log_params"][0] == pytest.approx(np.log(table["n_params"][0]))


def test_kernel_falls_from_one_to_nothing() -> None:
    found = matern(np.linspace(0.0, 20.0, 50), np)
    assert found[0] == 1.0
    assert (np.diff(found) < 0).all()
    assert found[-1] < 1e-12


@pytest.mark.parametrize("beta", [0.5, -0.3])
def test_the_tokens_of_a_draw_do_not_depend_on_the_others(beta: float) -> None:
    noise = {**SMOOTH, "length_tokens": np.array([1.2, 3.0, 6.0])}
    constants = {"k_ref": 0.04, "beta": beta, "alpha": 0.3, "gamma": 5.6}
    together = unified_fit(constants, noise, rows())
    alone = unified_fit(constants, {**SMOOTH, "length_tokens": np.array([1.2])}, rows())
    asked = pl.DataFrame({"n_params": [1e9] * 3, "bits": [2.0, 3.0, 4.0], "qid": [0.05, 0.2, 0.5]})
    both = [fit.log_tokens_draws(asked, "response") for fit in (alone, together)]
    # The normal deviates of the first draw are the same ten.
    np.testing.assert_allclose(both[0], both[1][: len(both[0])], rtol=1e-9)


def test_a_threshold_below_the_grid_is_met_where_the_law_continues_from_its_first_point() -> None:
    """Eight e-foldings before the data the discrepancy no longer moves: from there log QiD is a line of slope β."""
    table = rows()
    constants = {"k_ref": np.full(40, 0.04), "beta": 0.5, "alpha": 0.3, "gamma": 5.0}
    fit = unified_fit(constants, SMOOTH, table)
    first = np.log(table["tokens"].min()) - 8.0
    asked = {"n_params": [1e9] * 3, "bits": [4.0, 4.0, 3.0]}
    height = fit.log_draws(pl.DataFrame({**asked, "tokens": np.exp(first)}))
    log_qid = np.array([-14.0, -20.0, -16.0])
    found = fit.log_tokens_draws(pl.DataFrame({**asked, "qid": np.exp(log_qid)}))
    expected = first - (height - log_qid) / 0.5
    assert (expected < first - 1).all()  # all of them lie below the grid
    np.testing.assert_allclose(found, expected, rtol=1e-6)
