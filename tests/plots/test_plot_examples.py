"""The examples in the figures' docstrings run, on saved fits of the names they use."""

import doctest
import sys
from pathlib import Path

import pytest

from qidbayes.plots import loss_16bit, projection, qid, tokens_to_threshold
from qidbayes.posterior import Fit


@pytest.mark.parametrize("figure", [loss_16bit, projection, qid, tokens_to_threshold], ids=lambda f: f.__name__)
def test_example_runs(
    figure: object, unified: Fit, kaplan: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unified.save(tmp_path / "unified.nc")
    kaplan.save(tmp_path / "kaplan-16bit.nc")
    monkeypatch.chdir(tmp_path)
    module = sys.modules[figure.__module__]
    (example,) = doctest.DocTestFinder(recurse=False).find(figure, globs=vars(module).copy())
    assert example.examples
    for step in example.examples:
        step.options.pop(doctest.SKIP, None)  # it is skipped where there is no saved fit
    assert doctest.DocTestRunner().run(example).failed == 0
