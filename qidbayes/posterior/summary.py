"""What a fit found of its constants, as a table."""

from collections.abc import Mapping

import numpy as np
import polars as pl

from qidbayes.law.law import Law
from qidbayes.noise.kernels import LENGTHS, SIMILARITY
from qidbayes.posterior.band import tails
from qidbayes.posterior.diagnostics import number
from qidbayes.posterior.posterior import Posterior
from qidbayes.posterior.predictive_noise import KEPT, TRUE_LOG_QID

NOISE = ("sigma", *LENGTHS, SIMILARITY)
HIDDEN = (*KEPT, TRUE_LOG_QID)


def constants_of(fit: Posterior, ci_prob: float, published: str | None = None) -> pl.DataFrame:
    """Return a fit's own parameters and constants, without those of a 16-bit law beside it; see `Fit.summary`."""
    lower, upper = tails(ci_prob)
    paper = _published(fit.law, published)
    rows = []
    # Draws that further rows have resampled are no chain, and have no R-hat.
    of_chains = {} if "conditioned_on" in fit.attributes else fit.diagnostics.convergence
    for name in reported(fit):
        values = fit.draws[name].reshape(-1, *fit.draws[name].shape[2:])
        for i, group in enumerate(fit.coords[fit.dims[name]] if name in fit.dims else (None,)):
            column = values if group is None else values[:, i]
            known = fit.is_identified(name, group)
            found = of_chains.get(number(name, group))
            quantiles = np.quantile(column, [0.5, lower, upper])
            numbers = [*quantiles, column.mean(), column.std(ddof=1)] if known else [None] * 5
            rows.append(
                {
                    "name": name,
                    **dict(zip(("median", "lower", "upper", "mean", "sd"), numbers, strict=True)),
                    "ess_bulk": found.ess_bulk if found else None,
                    "ess_tail": found.ess_tail if found else None,
                    "r_hat": found.r_hat if found else None,
                    "identified": known,
                    "published": _of_group(paper.get(name), group),
                    "group": group,
                }
            )
    numeric = dict.fromkeys(("ess_bulk", "ess_tail", "r_hat", "published"), pl.Float64)
    frame = pl.DataFrame(rows, schema_overrides={"group": pl.String, **numeric}, infer_schema_length=None)
    return frame if published else frame.drop("published")


def reported(fit: Posterior) -> list[str]:
    """Return the names a summary tells of, in its order: parameters, constants, then the noise's numbers."""
    law, sampled = fit.law, []
    for name, prior in law.priors.items():
        sampled.append(law.sampled_name(name))
        sampled += [law.population_name(name), law.spread_name(name)] if prior.pooled else []
    made = [name for name in fit.draws if name not in sampled and name not in HIDDEN]
    constants = [name for name in made if not name.endswith(("_sd", "_ref")) and name not in NOISE]
    noise = [name for name in made if name.endswith("_sd") or name in NOISE]
    return [*sampled, *constants, *noise]


def _published(law: Law, point: str | None) -> Mapping[str, float | Mapping[str, float]]:
    if point is None:
        return {}
    from qidbayes.posterior.point import published

    return published(law, point).constants


def _of_group(constant: float | Mapping[str, float] | None, group: str | None) -> float | None:
    if isinstance(constant, Mapping):
        return constant.get(group or "")
    return constant
