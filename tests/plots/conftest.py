"""Small fits made by hand, so that a test takes no sampling."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from qidbayes.law import Law, Noise, Prior, load_law
from qidbayes.posterior import Fit
from qidbayes.posterior.constants import dimensions, raw_constants
from qidbayes.posterior.diagnostics import Diagnostics, number
from qidbayes.table.groups import dimension

CHAINS, DRAWS = 2, 50
SIZES = {"lab/small": 1e9, "lab/large": 8e9}
TOKENS = (1e9, 1e10, 1e11)


def make_fit(
    law: Law,
    middle: Mapping[str, float | list[float]],
    data: pl.DataFrame,
    coords: Mapping[str, tuple[str, ...]] | None = None,
    *,
    run_effects: bool = True,
) -> Fit:
    """Return a fit whose parameters (at the reference point) lie within about 5% of `middle`."""
    rng = np.random.default_rng(1)
    sampled = {}
    for name, value in middle.items():
        shape = (CHAINS * DRAWS, *np.shape(value))
        sampled[name] = np.asarray(value) * np.exp(0.05 * rng.standard_normal(shape))
    flat = {**sampled, **raw_constants(law, sampled), "sigma": np.full(CHAINS * DRAWS, 0.1)}
    coords = dict(coords or {})
    grouped = dimensions(law)
    dims = {name: grouped[name.removesuffix("_ref")] for name in flat if name.removesuffix("_ref") in grouped}
    if run_effects:
        coords["model"] = tuple(SIZES)
        flat["model_sd"] = np.full(CHAINS * DRAWS, 0.5)
        flat["model_effect"] = np.array([-0.4, 0.4]) + 0.02 * rng.standard_normal((CHAINS * DRAWS, 2))
        dims["model_effect"] = "model"
    return Fit(
        law=replace(law, noise=replace(law.noise, discrepancy="none")),
        draws={name: values.reshape(CHAINS, DRAWS, *values.shape[1:]) for name, values in flat.items()},
        dims=dims,
        coords=coords,
        stats={
            "diverging": np.zeros((CHAINS, DRAWS), dtype=bool),
            **{name: np.zeros((CHAINS, DRAWS)) for name in ("energy", "n_steps", "acceptance_rate", "lp")},
        },
        data=data,
        diagnostics=Diagnostics({}, 0, (1.0,) * CHAINS, _contraction(law, middle, coords or {})),
        attributes={"random_seed": 3},
    )


def _contraction(
    law: Law, middle: Mapping[str, float | list[float]], coords: Mapping[str, tuple[str, ...]]
) -> dict[str, float]:
    """Say of every number that it is identified."""
    by = {law.sampled_name(name): dimension(prior.by) for name, prior in law.priors.items() if prior.by}
    return {number(name, group): 1.0 for name in middle for group in (coords[by[name]] if name in by else (None,))}


def make_data(response: str, bits: tuple[float, ...], value: Callable[[float, float, float], float]) -> pl.DataFrame:
    """Return rows of two runs, in the columns a fit keeps; counts as floats, as in a saved fit."""
    return pl.DataFrame(
        [
            {
                "suite": "made",
                "model": model,
                "revision": f"at{tokens:g}",
                "n_params": size,
                "tokens": tokens,
                "method": "gptq",
                "bits": p,
                "group_size": None,
                "dataset": "text",
                "qid_se": None,
                response: value(size, tokens, p),
            }
            for model, size in SIZES.items()
            for tokens in TOKENS
            for p in bits
        ]
    )


def qid_value(n: float, d: float, p: float) -> float:
    """A QiD in nats per token."""
    return 0.04 * (d / 1e11) ** 0.5 / ((n / 1e9) ** 0.3 * (p / 4) ** 5)


@pytest.fixture
def unified() -> Fit:
    """A unified law with effects of two runs."""
    middle = {"k_ref": 0.04, "beta": 0.5, "alpha": 0.3, "gamma": 5.0}
    return make_fit(load_law("unified"), middle, make_data("qid", (3.0, 4.0), qid_value))


@pytest.fixture
def per_bit() -> Fit:
    """A law with constants for each bit width."""
    middle = {"c_ref": [0.15, 0.04], "beta": [0.6, 0.5], "alpha": [0.35, 0.3]}
    return make_fit(
        load_law("per-bit"), middle, make_data("qid", (3.0, 4.0), qid_value), {"bits": ("3", "4")}, run_effects=False
    )


@pytest.fixture
def by_model() -> Fit:
    """A law without N, with a level for each model and bit width."""
    labels = tuple(f"{model} | {p}" for model in SIZES for p in (3, 4))
    middle = {"b_ref": [0.1, 0.02, 0.06, 0.01], "beta": 0.5}
    return make_fit(
        load_law("tokens"), middle, make_data("qid", (3.0, 4.0), qid_value), {"model:bits": labels}, run_effects=False
    )


@pytest.fixture
def by_size() -> Fit:
    """A law without D."""
    labels = tuple(f"{tokens:.15g} | {p}" for tokens in TOKENS for p in (3, 4))
    middle = {"a_ref": [0.1] * len(labels), "alpha": 0.3}
    return make_fit(
        load_law("size"), middle, make_data("qid", (3.0, 4.0), qid_value), {"tokens:bits": labels}, run_effects=False
    )


@pytest.fixture
def by_checkpoint() -> Fit:
    """A law without N and D, with a level for each checkpoint."""
    labels = tuple(f"{model} @ at{tokens:g}" for model in SIZES for tokens in TOKENS)
    middle = {"c_ref": [0.1] * len(labels), "gamma": 5.0}
    return make_fit(
        load_law("bits"), middle, make_data("qid", (3.0, 4.0), qid_value), {"checkpoint": labels}, run_effects=False
    )


@pytest.fixture
def smooth() -> Fit:
    """A unified law with a smooth discrepancy."""
    law = replace(load_law("unified"), noise=Noise(groups=("model",), discrepancy="smooth"))
    middle = {"k_ref": 0.04, "beta": 0.5, "alpha": 0.3, "gamma": 5.0}
    data = make_data("qid", (3.0, 4.0), lambda n, d, p: qid_value(n, d, p) * (1.5 if n < 2e9 else 0.7))
    return with_discrepancy(make_fit(law, middle, data, run_effects=False))


def with_discrepancy(fit: Fit) -> Fit:
    """Return a fit without effects of runs with the draws of a smooth discrepancy."""
    scales = {"smooth_sd": 0.3, "suite_sd": 0.2, "model_sd": 0.2, "length_params": 1.5, "length_tokens": 1.5}
    if fit.law.response == "qid":
        scales |= {"length_bits": 1.5, "similarity": 0.5}
    law = replace(fit.law, noise=replace(fit.law.noise, discrepancy="smooth"))
    draws = {**fit.draws, **{name: np.full((CHAINS, DRAWS), v) for name, v in scales.items()}}
    return replace(fit, law=law, draws=draws)


@pytest.fixture
def kaplan() -> Fit:
    """A law of the 16-bit loss."""
    middle = {"loss0": 3.0, "share": 0.5, "slopeN": 0.05, "slopeD": 0.06}
    data = make_data("loss_16bit", (16.0,), lambda n, d, _: 3.0 * (n / 1e9) ** -0.05 * (d / 3e10) ** -0.06)
    return make_fit(load_law("kaplan-16bit").with_reference({"N": 1e9, "D": 3e10}), middle, data)


@pytest.fixture
def smooth_kaplan(kaplan: Fit) -> Fit:
    """A law of the 16-bit loss with a smooth discrepancy."""
    draws = {name: values for name, values in kaplan.draws.items() if name not in ("model_sd", "model_effect")}
    law = replace(kaplan.law, noise=Noise(groups=("model",), discrepancy="smooth"))
    return with_discrepancy(replace(kaplan, law=law, draws=draws, dims={}, coords={}))


@pytest.fixture
def saturating() -> Fit:
    """A law of N and D alone whose QiD stays below c: some draws never reach 0.3."""
    priors = {"c": Prior("LogNormal", mu=0, sigma=1), "s": Prior("LogNormal", mu=0, sigma=1)}
    law = Law("c / (1 + s * N / D)", priors=priors, name="saturating")
    data = make_data("qid", (4.0,), lambda n, d, _: 0.3 / (1 + 10 * n / d))
    return make_fit(law, {"c": 0.3, "s": 10.0}, data, run_effects=False)


@pytest.fixture
def by_method() -> Fit:
    """A unified law with its level and exponent of P for each method."""
    unified = load_law("unified")
    by: Any = {"by": ["method"], "pooling": "none"}
    own = {"k": Prior("LogNormal", mu=-3, sigma=2, **by), "gamma": Prior("Normal", mu=5, sigma=3, **by)}
    law = replace(unified, priors={**unified.priors, **own})
    middle = {"k_ref": [0.04, 0.05], "beta": 0.5, "alpha": 0.3, "gamma": [5.0, 3.0]}
    return make_fit(law, middle, make_data("qid", (4.0,), qid_value), {"method": ("gptq", "awq")})
