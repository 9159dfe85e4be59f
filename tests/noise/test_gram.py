"""Inner products over a table, against one dense matrix; whatever the blocks, and for several draws at once."""

import numpy as np
import polars as pl
import pytest
from dense import covariance, variance, with_errors
from test_gp_density import LAW, SCALE, TABLES

from qidbayes.infer.inputs import inputs
from qidbayes.noise.gram import Gram

NUMBERS = {name: value * np.array([1.0, 1.1, 0.9]) for name, value in SCALE.items()} | {
    "sigma": np.array([0.1, 0.2, 0.15])
}


@pytest.mark.parametrize("name", TABLES)
def test_products_are_those_of_the_dense_covariance(name: str) -> None:
    rows = inputs(with_errors(TABLES[name][0]), LAW)
    columns = np.random.default_rng(0).standard_normal((3, rows.frame.height, 2))
    gram = Gram(rows.partition, rows.variance)
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


@pytest.mark.parametrize("name", ["models × tokens × bits", "many left out", "several models of a size", "no grid"])
def test_within_a_grid_a_width_has_the_mean_of_its_variances(name: str) -> None:
    """As the PyMC model has it, whether a block is taken by its grid or as one matrix."""
    table = with_errors(TABLES[name][0])
    share = np.random.default_rng(5).uniform(0.0, 0.045, table.height)
    rows = inputs(table.with_columns(qid_se=pl.Series(share) * pl.col("qid")), LAW)
    own = variance(rows.frame)
    for block in rows.partition.blocks:
        for width in block.grid.rows.T:
            measured = block.members[width[width >= 0]]
            own[measured] = own[measured].mean()
    full = covariance({n: float(v[0]) for n, v in NUMBERS.items()}, rows.frame, rows.frame)
    full += np.diag(NUMBERS["sigma"][0] ** 2 + own)
    found, _ = Gram(rows.partition, rows.variance)(
        rows.log_response[None, :, None], {n: v[:1] for n, v in NUMBERS.items()}
    )
    assert found[0, 0, 0] == pytest.approx(rows.log_response @ np.linalg.solve(full, rows.log_response), rel=1e-7)


def test_a_covariance_without_a_factor_has_no_density() -> None:
    rows = inputs(TABLES["no grid"][0], LAW)
    numbers = {name: values[:1] for name, values in NUMBERS.items()} | {"sigma": np.array([np.nan])}
    found, log_determinant = Gram(rows.partition, rows.variance)(np.ones((1, rows.frame.height, 1)), numbers)
    assert np.isnan(found).all() and np.isnan(log_determinant).all()
