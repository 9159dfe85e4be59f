"""What can be refused of a table is refused before anything is sampled."""

import polars as pl
import pytest
from plain import plain

import qidbayes as qb
from qidbayes.infer.fit import fit
from qidbayes.table import schema


class SampledError(Exception):
    """The sampler reported a transition."""


def progress(done: int, total: int) -> None:
    raise SampledError


@pytest.fixture
def repeated(pythia: pl.DataFrame) -> pl.DataFrame:
    """A complete frame, as a program makes one, that holds a cell twice."""
    return pl.concat([pythia, pythia.head(1)])


def test_a_repeated_cell_costs_no_fit(repeated: pl.DataFrame) -> None:
    with pytest.raises(qb.InputError, match=r"row 361.* the same cell as row 1 "):
        fit(repeated, plain("unified"), random_seed=0, progress=progress)


def test_a_table_is_checked_once(pythia: pl.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    checked, right = [], schema._check_header
    monkeypatch.setattr(schema, "_check_header", lambda frame, where: (checked.append(where), right(frame, where)))
    with pytest.raises(SampledError):
        fit(pythia, plain("unified"), random_seed=0, progress=progress)
    assert checked == ["table"]


def test_a_repeated_cell_costs_no_backtest(repeated: pl.DataFrame) -> None:
    with pytest.raises(qb.InputError, match="the same cell as row 1 "):
        qb.backtest(repeated, plain("unified"), "tokens > 100B", progress=progress)


def test_a_repeated_cell_costs_no_comparison(repeated: pl.DataFrame) -> None:
    with pytest.raises(qb.InputError, match="the same cell as row 1 "):
        qb.compare(repeated, [plain("unified"), plain("per-bit")], "tokens > 100B", progress=progress)


def test_a_law_that_the_whole_table_does_not_fit_costs_no_comparison(pythia: pl.DataFrame) -> None:
    lonely = plain("per-bit")  # a constant for each width, and one row of each
    rows = pythia.unique("bits", maintain_order=True)
    with pytest.raises(qb.InputError, match="each has one row"):
        qb.compare(rows, [plain("unified"), lonely], "leave bits", progress=progress)
