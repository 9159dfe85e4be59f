"""Inner products over a table, against one dense matrix; whatever the blocks, and for several draws at once."""

import numpy as np
import polars as pl
import pytest
from dense import covariance, variance, with_errors
from test_gp_density import LAW, SCALE, TABLES

from qidbayes.infer.inputs import inputs
from qidbayes.noise.dense import Among
from qidbayes.noise.gram import Gram, _OfGrid
from qidbayes.noise.state_space import StateSpace

NUMBERS = {name: value * np.array([1.0, 1.1, 0.9]) for name, value in SCALE.items()} | {
    "sigma": np.array([0.1, 0.2, 0.15])
}


@pytest.mark.parametrize("name", TABLES)
def test_products_are_those_of_the_dense_covariance(name: str) -> None:
    rows = inputs(with_errors(TABLES[name][0]), LAW)
    columns = np.random.default_rng(0).standard_normal((3, rows.frame.height, 2))
    gram = Gram(rows.partition, rows.coordinates, rows.variance)
    found, log_determinant = gram(columns, NUMBERS)
    shared, _ = gram(columns[:1], NUMBERS)
    for draw in range(3):
        full = covariance({n: float(v[draw]) for n, v in NUMBERS.items()}, rows.frame, rows.frame)
        full += np.diag(NUMBERS["sigma"][draw] ** 2 + variance(rows.frame))
        expected = columns[draw].T @ np.linalg.solve(full, columns[draw])
        np.testing.assert_allclose(found[draw], expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
        assert log_determinant[draw] == pytest.approx(np.linalg.slogdet(full)[1], rel=1e-7, abs=1e-5)
        expected = columns[0].T @ np.linalg.solve(full, columns[0])
        np.testing.assert_allclose(shared[draw], expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("axis", ["tokens", "params"])
@pytest.mark.parametrize("name", TABLES)
def test_along_an_axis_the_products_are_the_same(name: str, axis: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever way would be cheaper, with a standard error of each row's own, and in windows of a few rows."""
    monkeypatch.setattr("qidbayes.noise.state_space._LEAST", 5)
    table = with_errors(TABLES[name][0])
    share = np.random.default_rng(5).uniform(0.0, 0.045, table.height)
    rows = inputs(table.with_columns(qid_se=pl.Series(share) * pl.col("qid")), LAW)
    columns = np.random.default_rng(0).standard_normal((1, rows.frame.height, 2))
    one = {name: values[:1] for name, values in NUMBERS.items()}
    found, log_determinant = np.zeros((2, 2)), 0.0
    for block in rows.partition.blocks:
        coordinates = {name: values[block.members] for name, values in rows.coordinates.items()}
        along = StateSpace(coordinates, rows.variance[block.members], axis)
        assert along.possible
        products, of_block = along(columns[:, block.members], one)
        found, log_determinant = found + products[0], log_determinant + of_block[0]
    full = covariance({n: float(v[0]) for n, v in NUMBERS.items()}, rows.frame, rows.frame)
    full += np.diag(NUMBERS["sigma"][0] ** 2 + variance(rows.frame))
    np.testing.assert_allclose(found, columns[0].T @ np.linalg.solve(full, columns[0]), rtol=1e-8, atol=1e-8)
    assert log_determinant == pytest.approx(np.linalg.slogdet(full)[1], abs=1e-7)


@pytest.mark.parametrize("length", [20.0, 1.2, 0.05, 0.002])
def test_the_matrix_is_the_dense_covariance_at_any_length(length: float) -> None:
    """Of tokens in no order; at the shortest length the products of exponentials would overflow."""
    rng = np.random.default_rng(0)
    table = TABLES["models × tokens × bits"][0]
    some = table.with_columns(tokens=pl.Series(np.exp(rng.uniform(20.0, 27.0, table.height)).astype(int)))
    rows = inputs(some, LAW)
    among = Among(rows.coordinates)
    one = {name: float(values[0]) for name, values in NUMBERS.items()} | {"length_tokens": length}
    expected = covariance(one, rows.frame, rows.frame)[np.ix_(among.order, among.order)]
    np.testing.assert_allclose(np.triu(among.covariance(one)), np.triu(expected), rtol=0.0, atol=1e-10)


@pytest.mark.parametrize("name", ["models × tokens × bits", "many left out", "several models of a size", "no grid"])
def test_every_row_has_its_own_standard_error(name: str) -> None:
    table = with_errors(TABLES[name][0])
    share = np.random.default_rng(5).uniform(0.0, 0.045, table.height)
    rows = inputs(table.with_columns(qid_se=pl.Series(share) * pl.col("qid")), LAW)
    full = covariance({n: float(v[0]) for n, v in NUMBERS.items()}, rows.frame, rows.frame)
    full += np.diag(NUMBERS["sigma"][0] ** 2 + variance(rows.frame))
    found, _ = Gram(rows.partition, rows.coordinates, rows.variance)(
        rows.log_response[None, :, None], {n: v[:1] for n, v in NUMBERS.items()}
    )
    assert found[0, 0, 0] == pytest.approx(rows.log_response @ np.linalg.solve(full, rows.log_response), rel=1e-7)


def test_a_large_grid_with_holes_goes_along_an_axis_and_a_full_one_by_its_sides() -> None:
    """600 rows of 12 sizes at 50 counts of tokens: whole, and with a third missing at random."""
    rng = np.random.default_rng(0)
    size, step = (x.ravel() for x in np.meshgrid(np.arange(12), np.arange(50), indexing="ij"))
    table = pl.DataFrame({
        "suite": "made", "model": [f"m{i}" for i in size], "revision": [f"s{i}" for i in step],
        "n_params": (1e7 * 1.3**size).astype(int), "tokens": (1e9 * 1.15**step).astype(int), "method": "rtn",
        "bits": 4.0, "dataset": "x", "qid": np.exp(rng.normal(-3.0, 0.5, 600)),
    })  # fmt: skip
    for some, way in ((table, _OfGrid), (table.filter(pl.Series(rng.random(600) > 1 / 3)), StateSpace)):
        rows = inputs(some, LAW)
        gram = Gram(rows.partition, rows.coordinates, rows.variance)
        assert [type(block) for block in gram._blocks] == [way]
        one = {name: NUMBERS[name][:1] for name in (*rows.noise.names,)}
        found, log_determinant = gram(rows.log_response[None, :, None], one)
        full = covariance({n: float(v[0]) for n, v in NUMBERS.items()} | {"checkpoint_sd": 0.0}, rows.frame, rows.frame)
        full += np.diag(np.full(some.height, NUMBERS["sigma"][0] ** 2))
        expected = rows.log_response @ np.linalg.solve(full, rows.log_response)
        assert found[0, 0, 0] == pytest.approx(expected, rel=1e-7)
        assert log_determinant[0] == pytest.approx(np.linalg.slogdet(full)[1], rel=1e-7)


def test_a_covariance_without_a_factor_has_no_density() -> None:
    rows = inputs(TABLES["no grid"][0], LAW)
    numbers = {name: values[:1] for name, values in NUMBERS.items()} | {"sigma": np.array([np.nan])}
    found, log_determinant = Gram(rows.partition, rows.coordinates, rows.variance)(
        np.ones((1, rows.frame.height, 1)), numbers
    )
    assert np.isnan(found).all() and np.isnan(log_determinant).all()
