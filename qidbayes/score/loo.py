"""Leave-one-out by Pareto-smoothed importance sampling (PSIS), of rows or of whole checkpoints.

What the other rows say of what is left out, given a posterior draw, is `qidbayes.posterior.likelihood`'s.
PSIS then takes the data of g out of the posterior of θ as well.
"""

import warnings
from dataclasses import dataclass

import numpy as np

from qidbayes.posterior.fit import Fit
from qidbayes.posterior.likelihood import DRAWS, Unit, grouped_log_likelihood


@dataclass(frozen=True)
class Loo:
    """The score by leaving one out.

    Attributes
    ----------
    log_density
        The expected log predictive density, nats a row, of the log response.
    se
        Its standard error, over units.
    bad
        The share of units whose Pareto k is too high for the estimate to be trusted.
    """

    log_density: float
    se: float
    bad: float


def leave_one_out(fit: Fit) -> dict[Unit, Loo]:
    """Estimate what a fit would say of each of its rows, and of each of its checkpoints, without it.

    With ``"row"`` the other quantizations of a checkpoint stay in the fit and give the row away. Either way the other
    checkpoints of the run stay: both flatter a law that is to extrapolate.

    Parameters
    ----------
    fit
        A fit; up to 500 of its draws are used.

    Raises
    ------
    InputError
        If a row fitted is not above 0, and so has no density of the logarithm; if the errors are Student's t, which no
        covariance describes.
    """
    import arviz_stats
    import xarray

    found: dict[Unit, Loo] = {}
    rows = fit.data.height
    count = fit.stats["lp"].size
    thin = np.linspace(0, count - 1, min(DRAWS, count)).astype(int)
    for unit, log_likelihood in grouped_log_likelihood(fit, thin).items():
        tree = xarray.DataTree.from_dict(
            {"/log_likelihood": xarray.Dataset({"unit": (("chain", "draw", "units"), log_likelihood[None])})}
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Estimated shape parameter of Pareto")  # `bad` says it
            psis = arviz_stats.loo(tree, pointwise=True, reff=1.0)  # thinned draws are nearly independent
        pointwise = psis.elpd_i.values
        se = float(pointwise.std(ddof=1) * np.sqrt(len(pointwise)) / rows)
        bad = float((psis.pareto_k.values > psis.good_k).mean())
        found[unit] = Loo(float(pointwise.sum() / rows), se, bad)
    return found
