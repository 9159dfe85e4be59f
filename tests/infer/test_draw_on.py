"""Chains that draw on until the checks pass, unless somebody said how many draws there are to be.

No seed decides these tests: ArviZ's ESS of n draws is at most n·log10(n), which is 152 for 4 × 20 draws and 352 for
4 × 40, so that neither can be above 400.
"""

import importlib

import numpy as np
import pytest

import qidbayes as qb
from qidbayes.law import load_law
from qidbayes.posterior.diagnostics import ESS_ABOVE

MODULE = importlib.import_module("qidbayes.infer.fit")
LAW = load_law("unified").with_noise(discrepancy="none")


@pytest.fixture
def first(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(MODULE, "FIRST", 20)
    return 20


def fitted(draws: int | None = None) -> qb.Fit:
    return qb.fit(qb.load_table("pythia"), LAW, draws=draws, tune=300, random_seed=3)


def test_chains_draw_on_until_the_checks_pass_and_no_further(first: int) -> None:
    found = fitted()
    drawn = found.draws["beta"].shape[1]
    assert found.attributes["draws"] == drawn == found.stats["lp"].shape[1]
    assert drawn > first
    assert drawn % first == 0
    assert found.diagnostics.problems() == []
    # Draws of a number that is given are as many, whatever the checks say, and the same ones.
    before = fitted(drawn - first)
    assert before.draws["beta"].shape[1] == drawn - first
    assert before.diagnostics.problems() != []
    np.testing.assert_array_equal(found.draws["beta"][:, :-first], before.draws["beta"])


def test_there_is_an_end_to_it(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "MOST", 2 * first)
    found = fitted()
    assert found.draws["beta"].shape == (4, 2 * first)
    assert any(f"not above {ESS_ABOVE}" in problem for problem in found.diagnostics.problems())


def test_progress_is_told_of_what_was_added(first: int) -> None:
    told: list[tuple[int, int]] = []
    found = qb.fit(qb.load_table("pythia"), LAW, tune=300, random_seed=3, progress=lambda *seen: told.append(seen))
    whole = 4 * (300 + found.attributes["draws"])
    assert told[-1] == (whole, whole)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert sorted({total for _, total in told}) == list(range(4 * (300 + first), whole + 1, 4 * first))
