"""Fits made by hand, with known draws, so that an answer can be held against a closed form."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from qidbayes.law import load_law
from qidbayes.posterior import Fit
from qidbayes.posterior.constants import raw_constants
from qidbayes.posterior.diagnostics import Diagnostics

NESTED = {"sigma": 0.1, "checkpoint_sd": 0.2, "model_sd": 0.3}
SMOOTH = {
    "sigma": 0.1,
    "smooth_sd": 0.4,
    "suite_sd": 0.3,
    "model_sd": 0.15,
    "checkpoint_sd": 0.05,
    "length_params": 1.1,
    "length_tokens": 1.2,
    "length_bits": 0.9,
    "similarity": 0.6,
}


def unified_fit(
    constants: Mapping[str, Any],
    noise: Mapping[str, Any],
    data: pl.DataFrame,
    effects: Mapping[str, float] | None = None,
) -> Fit:
    """Return a fit of the unified law with these draws, each one number or an array of shape ``(draws,)``.

    `effects` are those of the runs, without a discrepancy.
    """
    law = load_law("unified")
    law = replace(law, noise=replace(law.noise, discrepancy="smooth" if "smooth_sd" in noise else "none"))
    count = max(np.size(v) for v in (*constants.values(), *noise.values()))
    flat = {name: np.broadcast_to(np.asarray(v, float), (count,)) for name, v in {**constants, **noise}.items()}
    flat |= raw_constants(law, flat)
    coords, dims = {}, {}
    if "smooth_sd" not in noise:
        effects = effects or {"a run": 0.0}
        coords["model"], dims["model_effect"] = tuple(effects), "model"
        flat["model_effect"] = np.broadcast_to(list(effects.values()), (count, len(effects)))
    stats = dict.fromkeys(("energy", "n_steps", "acceptance_rate", "lp"), np.zeros((1, count)))
    return Fit(
        law=law,
        draws={name: values[None] for name, values in flat.items()},
        dims=dims,
        coords=coords,
        stats={**stats, "diverging": np.zeros((1, count), dtype=bool)},
        data=data,
        diagnostics=Diagnostics({}, 0, (1.0,), dict.fromkeys(constants, 1.0)),
        attributes={"random_seed": 3},
    )


def log_unified(constants: Mapping[str, float], frame: pl.DataFrame) -> np.ndarray:
    """Return the logarithm of the unified law, at constants of its reference point."""
    n, d, p = (frame[c].cast(pl.Float64).to_numpy() for c in ("n_params", "tokens", "bits"))
    found = np.log(constants["k_ref"]) + constants["beta"] * np.log(d / 1e11) - constants["alpha"] * np.log(n / 1e9)
    return np.asarray(found - constants["gamma"] * np.log(p / 4))
