"""Leave-one-out by Pareto-smoothed importance sampling (PSIS), of rows or of whole checkpoints.

The rows of a fit share errors, so that their likelihood is no product over rows. Given a posterior draw it is a normal
with covariance C, and what the other rows say of a group g of them is in the blocks of Q = C⁻¹ (Bürkner, Gabry and
Vehtari 2021): with residuals r,

    log p(y_g | y_−g, θ) = −½ (Qr)_g' Q_gg⁻¹ (Qr)_g + ½ log|Q_gg| − ½ n_g log 2π

PSIS then takes the data of g out of the posterior of θ as well.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.sparse.csgraph import connected_components

from qidbayes.errors import InputError
from qidbayes.posterior.fit import Fit
from qidbayes.table.groups import labels
from qidbayes.table.own_error import standard_error

type Unit = Literal["row", "checkpoint"]

DRAWS = 500


@dataclass(frozen=True)
class Loo:
    """What leaving one out says.

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

    if fit.data[fit.law.response].min() <= 0:  # type: ignore[operator]
        raise InputError(f"rows with a {fit.law.response} of 0 or below have no logarithm to be left out")
    if not fit.noise.is_normal:
        raise InputError(f"law {fit.law.name!r} has Student's t errors, and leaving one out asks for normal ones")
    found: dict[Unit, Loo] = {}
    rows = fit.data.height
    for unit, log_likelihood in _log_likelihood(fit).items():
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


def _log_likelihood(fit: Fit) -> dict[Unit, np.ndarray]:
    """Return log p(y_g | y_−g, θ) for each draw and each unit left out; shape ``(draws, units)``."""
    frame = fit.data
    names = labels(frame, ["checkpoint"]).to_list()
    members = {name: [i for i, n in enumerate(names) if n == name] for name in dict.fromkeys(names)}
    # Groups of one size are solved for together.
    by_size = [np.array([m for m in members.values() if len(m) == size]) for size in {*map(len, members.values())}]
    units: dict[Unit, list[np.ndarray]] = {"row": [np.arange(frame.height)[:, None]], "checkpoint": by_size}
    residual = np.log(frame[fit.law.response].to_numpy()) - fit.log_draws(frame, "response_params")
    thin = np.linspace(0, len(residual) - 1, min(DRAWS, len(residual))).astype(int)
    found: dict[Unit, list[np.ndarray]] = {unit: [] for unit in units}
    parts = None
    for draw, shared in zip(thin, _covariances(fit, thin), strict=True):
        if parts is None:  # every draw has the same rows share errors
            parts = _parts(shared)
        precision = np.zeros_like(shared)
        for part in parts:
            precision[part] = np.linalg.inv(shared[part])
        pulled = precision @ residual[draw]
        for unit, groups in units.items():
            found[unit].append(np.concatenate([_conditional(precision, pulled, group) for group in groups]))
    return {unit: np.array(values) for unit, values in found.items()}


def _parts(shared: np.ndarray) -> list[tuple[np.ndarray, ...]]:
    """Return the blocks of a matrix that have nothing to do with each other, as indices of their square."""
    count, part = connected_components(shared)
    return [np.ix_(rows, rows) for rows in (np.flatnonzero(part == i) for i in range(count))]


def _conditional(precision: np.ndarray, pulled: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Return log p(y_g | y_−g, θ) of groups of one size, given as indices of shape ``(groups, size)``."""
    own = precision[group[:, :, None], group[:, None, :]]
    square = (pulled[group] * np.linalg.solve(own, pulled[group][:, :, None])[:, :, 0]).sum(axis=1)
    return np.asarray(0.5 * (np.linalg.slogdet(own)[1] - square - group.shape[1] * np.log(2.0 * np.pi)))


def _covariances(fit: Fit, draws: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the covariance of the log responses of the rows fitted, given each of some draws."""
    frame = fit.data
    error = standard_error(frame, fit.law.response)
    own = (error / frame[fit.law.response].to_numpy()) ** 2
    where = fit.noise.rows(frame)
    scale = {name: fit.flat(name) for name in fit.noise.names}
    for draw in draws:
        here = {name: values[draw] for name, values in scale.items()}
        yield np.diag(here["sigma"] ** 2 + own) + fit.noise.covariance(here, where)
