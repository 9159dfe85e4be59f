"""The checks of a fit fail where they should."""

import math
import re

import arviz_stats
import numpy as np
import pytest

import qidbayes as qb
from qidbayes.posterior.diagnostics import Convergence, Diagnostics

GOOD = Convergence(1.001, 2000.0, 1500.0)


def checked(**changes: object) -> list[str]:
    fields = {"convergence": {"k": GOOD}, "divergences": 0, "bfmi": (0.9, 0.8), "contraction": {"k": 0.99}} | changes
    return Diagnostics(**fields).problems()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"divergences": 3}, "3 divergent transitions"),
        ({"convergence": {"k": GOOD, "b": Convergence(1.01, 2000, 2000)}}, "r_hat is not below 1.01 for 1 of 2"),
        ({"convergence": {"k": GOOD, "b": Convergence(math.nan, 2000, 2000)}}, "r_hat is not below"),
        ({"convergence": {"k": Convergence(1.0, 400, 2000)}}, r"ess_bulk is not above 400 .*worst: k, 400"),
        ({"convergence": {"k": Convergence(1.0, 2000, 399)}}, "ess_tail is not above 400"),
        ({"bfmi": (0.9, 0.2)}, r"E-BFMI is not > 0.3 in 1 chains .least: 0.20"),
    ],
)
def test_each_check_fails_by_name(changes: dict[str, object], message: str) -> None:
    assert checked() == []
    (problem,) = checked(**changes)
    assert re.search(message, problem)


def test_the_statistics_are_arvizs(unified: qb.Fit) -> None:
    tree = unified.to_datatree()
    for method in ("bulk", "tail"):
        options = {"prob": (0.05, 0.95)} if method == "tail" else {}
        theirs = arviz_stats.ess(tree, method=method, **options)
        for name, found in unified.diagnostics.convergence.items():
            assert getattr(found, f"ess_{method}") == pytest.approx(float(theirs[name]), rel=1e-6)
    rhat, bfmi = arviz_stats.rhat(tree), arviz_stats.bfmi(tree)
    for name, found in unified.diagnostics.convergence.items():
        # Positive numbers are judged by their logarithms, which R-hat, unlike the ESS, does not quite take for the same.
        same = name in ("beta", "alpha", "gamma")
        assert found.r_hat == pytest.approx(float(rhat[name]), rel=1e-9 if same else 1e-3)
    np.testing.assert_allclose(unified.diagnostics.bfmi, np.ravel(bfmi["energy"]), rtol=1e-6)


def test_contraction_is_of_variances(unified: qb.Fit) -> None:
    for name, prior_sd in {"beta": 0.5, "alpha": 0.5, "gamma": 3.0}.items():
        by_hand = 1 - unified.draws[name].var() / prior_sd**2
        assert unified.diagnostics.contraction[name] == pytest.approx(by_hand, abs=0.002)
