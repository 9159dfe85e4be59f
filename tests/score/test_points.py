"""Held-out rows are told apart by how far outside the fitted ones they are, and by whose they are."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

import qidbayes as qb
from qidbayes.posterior.coverage import coverage, kept_backtest, read_backtest
from qidbayes.posterior.predictive import Predictive
from qidbayes.score.points import IDENTITY, score_points
from qidbayes.score.rules import folds


class Normal:
    """A forecast that is the same of every row."""

    def predictive(self, frame: pl.DataFrame) -> Predictive:
        return Predictive(np.full((1, frame.height), -2.0), np.full((1, frame.height), 0.5))


def scored(train: pl.DataFrame, held_out: pl.DataFrame, response: str = "qid") -> pl.DataFrame:
    found = score_points(Normal(), train, held_out, response, 0)
    return found.with_columns(split=pl.lit("by hand"))


def test_a_backtest_counts_by_direction_side_and_quantization() -> None:
    table = qb.join_tables(qb.load_table("pythia"), qb.load_table("pythia/gptq-8bit"), qb.load_table("pythia/awq-bnb"))
    middle = pl.col("tokens").is_between(20e9, 80e9) & (pl.col("bits") < 8) & (pl.col("method") == "gptq")
    points = scored(table.filter(middle), table.filter(~middle))
    kept = read_backtest(kept_backtest(points))
    low, high = (table.filter(middle)["tokens"].min(), table.filter(middle)["tokens"].max())
    rows = table.filter(~middle)
    tokens, bits = rows["tokens"].to_numpy(), rows["bits"].to_numpy()
    known = (rows["method"] == "gptq").to_numpy()
    pit = stats.norm(-2.0, 0.5).cdf(np.log(rows["qid"].to_numpy()))
    for where, chosen in {
        "inside": (tokens >= low) & (tokens <= high) & (bits <= 4) & known,
        "tokens up to 2× above": (tokens > high) & (tokens <= 2 * high) & (bits <= 4) & known,
        "tokens up to 2× below": (tokens < low) & (tokens >= low / 2) & (bits <= 4) & known,
        "bits up to 2× above": (tokens >= low) & (tokens <= high) & (bits == 8) & known,
        "quantization not fitted": (tokens >= low) & (tokens <= high) & ~known,
    }.items():
        found = coverage(kept, [where], 0.05, 0.95).row(0, named=True)
        own = rows.filter(chosen)
        counts = (own.height, own.unique(["model", "revision"]).height, own["model"].n_unique())
        assert (found["held_of"], found["held_checkpoints"], found["held_runs"]) == counts, where
        if counts[1] >= 10 and counts[2] >= 3:
            assert found["held"] == pytest.approx(((pit >= 0.05) & (pit <= 0.95))[chosen].mean(), abs=0.002), where
        else:
            assert found["held"] is None, where


def test_16_bit_losses_are_of_no_bit_width_or_method() -> None:
    table = qb.load_table("pythia")
    points = scored(table.filter(bits=3.0), table.filter(bits=4.0).with_columns(method=pl.lit("awq")), "loss_16bit")
    assert "bits_beyond" not in points.columns
    assert (points["outside"] == "inside").all() and points["not_fitted"].null_count() == points.height


def test_rows_that_differ_in_settings_alone_are_told_apart() -> None:
    table = qb.load_table("spectra")
    again = table.with_columns(settings=pl.lit("imatrix"))
    both = qb.join_tables(table, again)
    found = scored(table, both)
    assert found.select(IDENTITY).n_unique() == found.height == 36
    assert folds(both, "settings = imatrix")[0].held_out.sum() == 18
