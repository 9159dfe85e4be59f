"""The examples in the figures' docstrings run, on saved fits of the names they use."""

import doctest
import sys
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from qidbayes import plots
from qidbayes.posterior import Fit

# The fits are of 3 and 4 bits, and have few draws.
pytestmark = pytest.mark.filterwarnings(
    *(f"ignore::qidbayes.errors.{name}Warning" for name in ("Assumption", "Diagnostics", "Extrapolation"))
)

# Not of a fit alone, or of the shipped tables' own models.
FIGURES = [name for name in plots.__all__ if name not in ("backtest", "datasets", "save")]


@pytest.mark.parametrize("name", FIGURES)
def test_example_runs(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = getattr(plots, name)
    saved = {"unified": "unified", "gptq": "unified", "kaplan-16bit": "kaplan"}
    saved |= {"tokens": "by_model", "size": "by_size", "bits": "by_checkpoint"}
    for file, fixture in saved.items():
        request.getfixturevalue(fixture).save(tmp_path / f"{file}.nc")
    fit: Fit = request.getfixturevalue("unified")
    replace(fit, data=fit.data.with_columns(method=pl.lit("awq"))).save(tmp_path / "awq.nc")
    monkeypatch.chdir(tmp_path)
    module = sys.modules[figure.__module__]
    (example,) = doctest.DocTestFinder(recurse=False).find(figure, globs=vars(module).copy())
    assert example.examples
    for step in example.examples:
        step.options.pop(doctest.SKIP, None)  # it is skipped where there is no saved fit
    assert doctest.DocTestRunner().run(example).failed == 0
