"""The authors' predictions that other tests lean on are whole."""

from pathlib import Path

import numpy as np
import polars as pl

from qidbayes.table import load_table

DATA = Path(__file__).parents[1] / "data"


def test_table_1_and_figure_1() -> None:
    table = pl.read_csv(DATA / "table1_fig1.csv")
    by_source = dict(table.group_by("source").len().rows())
    assert by_source == {"arXiv:2411.17691v2 Table 1": 48, "arXiv:2411.17691v2 Fig 1": 9}
    cell = table.filter(n_params=7_000_000_000, bits=4, qid=0.2)
    assert cell["tokens"].to_list() == [4_506_600_000_000]
    label = table.filter(n_params=405_000_000_000, bits=2, tokens=100_000_000_000_000)
    assert label["qid"].to_list() == [20.07]


def test_figure_10_predictions_match_the_measured_models() -> None:
    predicted = pl.read_csv(DATA / "fig10_predictions.csv")
    measured = load_table("llama-qwen")
    keys = ["model", "n_params", "tokens", "bits"]
    assert predicted.with_columns(pl.col("bits").cast(pl.Float64)).select(keys).equals(measured.select(keys))


def test_figure_10_predictions_are_the_axis_that_follows_a_law() -> None:
    # The figure's axis labels are swapped; what lies on a power law in N, D and P to the last digit is the law's.
    assert _scatter_about_a_power_law(pl.read_csv(DATA / "fig10_predictions.csv")) < 1e-3
    assert _scatter_about_a_power_law(load_table("llama-qwen")) > 0.2


def _scatter_about_a_power_law(points: pl.DataFrame) -> float:
    """Return the largest residual in log QiD of the Qwen points."""
    qwen = points.filter(pl.col("model").str.starts_with("Qwen"))
    covariates = qwen.select("n_params", "tokens", "bits").cast(pl.Float64).to_numpy()
    design = np.column_stack([np.ones(qwen.height), np.log(covariates)])
    response = np.log(qwen["qid"].to_numpy())
    constants, *_ = np.linalg.lstsq(design, response)
    return float(np.abs(response - design @ constants).max())
