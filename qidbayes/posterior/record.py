"""What a fit holds, apart from the questions it answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from qidbayes.law.law import Law
from qidbayes.posterior.diagnostics import Diagnostics


@dataclass(frozen=True)
class Record:
    """What a fit is made of and what is saved of it.

    Attributes
    ----------
    law
        The law.
    draws
        Every number by its name: the parameters at the reference point, the noise's standard deviations, definitions,
        constants in raw counts, and `model_effect`; shape ``(chains, draws)`` or ``(chains, draws, groups)``.
    dims, coords
        The dimension of each name that differs between groups, and the dimensions' labels.
    stats
        The sampler's statistics by ArviZ's names; shape ``(chains, draws)``.
    data
        The rows fitted: the response, the covariates and the groups.
    diagnostics
        The checks the fit went through.
    attributes
        Seed, versions, table hash, sampler settings, rows left out.
    loss_16bit
        The same of the law's `loss_16bit`, fitted to the same table.
    """

    law: Law
    draws: Mapping[str, np.ndarray]
    dims: Mapping[str, str]
    coords: Mapping[str, tuple[str, ...]]
    stats: Mapping[str, np.ndarray]
    data: pl.DataFrame
    diagnostics: Diagnostics
    attributes: Mapping[str, Any] = field(default_factory=dict)
    loss_16bit: "Record | None" = None
