"""The dry run's seconds against those that passes took (benchmarks/sweep.csv), whole and with a cap on the memory."""

from pathlib import Path

import polars as pl
import pytest

from qidbayes.measure.plan.cost import MEMORY, sweep_work

TABLE = pl.read_csv(Path(__file__).parents[3] / "benchmarks" / "sweep.csv").filter(
    pl.col("run").str.starts_with("run6")
)


def seconds(row: dict[str, int], memory: float = MEMORY) -> float:
    """Of a pass whose libraries are ready."""
    tokens = row["evaluation_tokens"], row["calibration_tokens"]
    return sweep_work(row["layers"], row["width"], 2_048, row["variants"], row["variants"], *tokens, memory).seconds


def test_whole_passes_take_what_it_says() -> None:
    rows = TABLE.filter(pl.col("path").is_in(["sweep-next", "sweep"]) & (pl.col("shape") != "growth")).to_dicts()
    assert {row["shape"] for row in rows} == {"160M", "410M", "1.4B", "6.9B"}
    for row in rows:
        # The first pass of a process waits for libraries, which the dry run counts once a model.
        assert seconds(row) == pytest.approx(row["seconds"], rel=0.1 if row["path"] == "sweep-next" else 0.13), row


def test_shapes_that_are_nobodys_take_about_what_it_says() -> None:
    rows = TABLE.filter(pl.col("path").str.starts_with("growth")).to_dicts()
    assert len(rows) == 8
    for row in rows:
        assert seconds(row) == pytest.approx(row["seconds"], rel=0.25), row


@pytest.mark.parametrize("shape, within", [("1.4B", 0.1), ("12B", 0.1), ("410M", 0.3)])
def test_it_knows_of_little_memory(shape: str, within: float) -> None:
    (row,) = TABLE.filter(path="sweep-capped", shape=shape).to_dicts()
    assert seconds(row, row["cap_gib"] * 2**30) == pytest.approx(row["seconds"], rel=within)
    if shape == "1.4B":  # its states stay on a larger GPU
        assert seconds(row) < 0.6 * row["seconds"]
