"""Priors: the densities are PyMC's, the draws are theirs, and the transforms are PyMC's too."""

import numpy as np
import pymc as pm
import pytest
from scipy import stats

from qidbayes.errors import InputError
from qidbayes.law import Prior

PRIORS = {
    "Normal": (Prior("Normal", mu=0.5, sigma=0.3), stats.norm(0.5, 0.3)),
    "LogNormal": (Prior("LogNormal", mu=-1.0, sigma=0.7), stats.lognorm(0.7, scale=np.exp(-1.0))),
    "HalfNormal": (Prior("HalfNormal", sigma=2.0), stats.halfnorm(scale=2.0)),
    "Beta": (Prior("Beta", alpha=2.0, beta=5.0), stats.beta(2.0, 5.0)),
    "Uniform": (Prior("Uniform", lower=-1.0, upper=3.0), stats.uniform(-1.0, 4.0)),
}
POINTS = [-2.0, -0.1, 0.7, 3.0]


@pytest.mark.parametrize("family", PRIORS)
def test_draws_follow_the_distribution(family: str) -> None:
    prior, expected = PRIORS[family]
    draws = prior.sample(5000, np.random.default_rng(11))
    assert stats.kstest(draws, expected.cdf).pvalue > 1e-4


@pytest.mark.parametrize("family", PRIORS)
def test_the_real_line_is_pymcs(family: str) -> None:
    prior, _ = PRIORS[family]
    with pm.Model() as model:
        variable = getattr(pm, family)("x", **dict(prior.arguments))
    transform = model.rvs_to_transforms[variable]
    expected = [
        float(transform.backward(np.float64(p), *variable.owner.inputs).eval()) if transform else p for p in POINTS
    ]
    found = prior.constrain(np.array(POINTS))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(prior.unconstrain(found), POINTS, rtol=1e-9)


def test_text_and_plain_types() -> None:
    prior = Prior("LogNormal", sigma=2, mu=-3, by=["model", "bits"], pooling="none")
    assert repr(prior) == "Prior('LogNormal', mu=-3, sigma=2, by=['model', 'bits'], pooling='none')"
    assert eval(repr(prior)) == prior
    assert prior.to_dict() == {
        "prior": "LogNormal", "mu": -3, "sigma": 2, "by": ["model", "bits"], "pooling": "none"
    }  # fmt: skip


def test_groups_and_pooling_go_together() -> None:
    for wrong, message in (
        ({"pooling": "none"}, "say which by 'by'"),
        ({"spread": 0.1}, "say which by 'by'"),
        ({"by": "bits", "pooling": "full"}, "choose 'partial' or 'none'"),
        ({"by": "bits", "pooling": "none", "spread": 0.1}, "spread goes with pooling = 'partial'"),
        ({"by": "bits", "spread": 0}, "spread must be a positive number"),
        ({"by": "bits", "spread": np.inf}, "spread must be a positive number"),
    ):
        with pytest.raises(InputError, match=message):
            Prior("Normal", mu=0, sigma=1, **wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="prior Beta cannot be partially pooled, only Normal and LogNormal"):
        Prior("Beta", alpha=2, beta=2, by="bits")
    pooled = Prior("LogNormal", mu=-3, sigma=2, by="bits")
    assert pooled.pooled and pooled.spread == 0.5
    assert repr(pooled) == "Prior('LogNormal', mu=-3, sigma=2, by=['bits'], pooling='partial', spread=0.5)"
    assert eval(repr(pooled)) == pooled
    assert pooled.to_dict()["spread"] == 0.5
    with pytest.raises(InputError, match="lower must be below upper"):
        Prior("Uniform", lower=1, upper=1)
