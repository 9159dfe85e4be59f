"""Small tables to break."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest


@pytest.fixture
def csv_file(tmp_path: Path) -> Callable[..., Path]:
    """Write lines to a CSV file called mine.csv."""

    def write(*lines: str) -> Path:
        path = tmp_path / "mine.csv"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write


@pytest.fixture
def point() -> pl.DataFrame:
    """One valid row."""
    return pl.DataFrame(
        {"suite": "s", "model": "m", "n_params": 10**9, "tokens": 2 * 10**11, "method": "gptq", "bits": 4.0, "qid": 0.1}
    )
