"""The log likelihood of each row or checkpoint given all other rows, draw by draw.

The rows of a fit share errors, so that their likelihood is no product over rows. Given a posterior draw it is a normal
with covariance C, and what the other rows say of a group g of them is in the blocks of Q = C⁻¹ (Bürkner, Gabry and
Vehtari 2021): with residuals r,

    log p(y_g | y_−g, θ) = −½ (Qr)_g' Q_gg⁻¹ (Qr)_g + ½ log|Q_gg| − ½ n_g log 2π
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import polars as pl
from scipy.sparse.csgraph import connected_components

from qidbayes.errors import InputError
from qidbayes.noise.family_kernel import SUITE_SCALE
from qidbayes.noise.unknown_tokens import UNKNOWN
from qidbayes.posterior import query
from qidbayes.posterior.posterior import Posterior
from qidbayes.seeds import Stream, generator
from qidbayes.table.groups import labels
from qidbayes.table.own_error import standard_error

type Unit = Literal["row", "checkpoint"]

DRAWS = 500
"""How many draws the likelihood is worked out for: each takes a matrix of the fitted rows."""


def evenly(fit: Posterior) -> np.ndarray:
    """Return up to 500 of a fit's draws, as many of each chain, evenly spaced; shape ``(chains, draws)``."""
    chains, length = fit.stats["lp"].shape
    chosen = np.unique(np.linspace(0, length - 1, min(length, -(-DRAWS // chains))).round().astype(int))
    return np.asarray(np.arange(chains)[:, None] * length + chosen)


def grouped_log_likelihood(fit: Posterior, draws: np.ndarray) -> dict[Unit, np.ndarray]:
    """Return log p(y_g | y_−g, θ) for some draws and each unit left out; shape ``(draws, units)``.

    Checkpoints are in the order of their first rows. The density is of the log response, in nats.

    Raises
    ------
    InputError
        If a row fitted is not above 0, and so has no density of the logarithm; if the errors are Student's t, which no
        covariance describes.
    """
    frame, response = fit.data, fit.law.response
    if frame[response].min() <= 0:  # type: ignore[operator]
        raise InputError(f"rows with a {response} of 0 or below have no logarithm to be left out")
    if not fit.noise.is_normal:
        raise InputError(f"law {fit.law.name!r} has Student's t errors, and leaving one out asks for normal ones")
    names = checkpoints(frame)
    members = {name: [i for i, n in enumerate(names) if n == name] for name in dict.fromkeys(names)}
    # Groups of one size are solved for together.
    sizes = {*map(len, members.values())}
    by_size = [np.array([m for m in members.values() if len(m) == size]) for size in sizes]
    order = np.argsort([group[0] for groups in by_size for group in groups])
    units: dict[Unit, list[np.ndarray]] = {"row": [np.arange(frame.height)[:, None]], "checkpoint": by_size}
    residual = np.log(frame[response].to_numpy()) - _log_law(fit)
    found: dict[Unit, list[np.ndarray]] = {unit: [] for unit in units}
    parts = None
    for draw, shared in zip(draws, covariances(fit, draws), strict=True):
        if parts is None:  # every draw has the same rows share errors
            parts = _parts(shared)
        precision = np.zeros_like(shared)
        for part in parts:
            precision[part] = np.linalg.inv(shared[part])
        pulled = precision @ residual[draw]
        for unit, groups in units.items():
            found[unit].append(np.concatenate([_conditional(precision, pulled, group) for group in groups]))
    return {"row": np.array(found["row"]), "checkpoint": np.array(found["checkpoint"])[:, order]}


def checkpoints(frame: pl.DataFrame) -> list[str]:
    """Return the checkpoint of each row, as it is called in coordinates."""
    return labels(frame, ["checkpoint"]).to_list()


def replicates(fit: Posterior, draws: np.ndarray) -> np.ndarray:
    """Return what the rows fitted would have measured in new runs, given each of some draws; shape ``(draws, rows)``.

    The effects of suites, runs and checkpoints and the discrepancy are new ones, shared as the fitted rows share
    theirs, and so are the measurements' own errors; in nats per token.
    """
    rng = generator(int(fit.attributes["random_seed"]), Stream.REPLICATES)
    law, sigma = _log_law(fit)[draws], fit.flat("sigma")[draws]
    normal = rng.standard_normal(law.shape)
    if fit.noise.is_normal:
        own = np.eye(fit.data.height)
        roots = (np.linalg.cholesky(c + s**2 * own) for c, s in zip(_shared(fit, draws), sigma, strict=True))
        log_true = law + np.array([root @ step for root, step in zip(roots, normal, strict=True)])
    else:
        variance = np.broadcast_to(np.square(sigma)[:, None], law.shape)
        log_true = law + np.sqrt(fit.noise.own_variance(variance, rng)) * normal
    return np.asarray(np.exp(log_true) + _error(fit) * rng.standard_normal(law.shape))


def _log_law(fit: Posterior) -> np.ndarray:
    """Return the law's log response at the rows fitted; shape ``(draws, rows)``."""
    curve = fit.curve()
    asked = query.build(curve, fit.data, {})
    found = curve.log_response(asked.log_covariates, asked.index)
    return np.broadcast_to(found, (len(found), fit.data.height))


def _error(fit: Posterior) -> np.ndarray:
    return standard_error(fit.data, fit.law.response)


def _parts(shared: np.ndarray) -> list[tuple[np.ndarray, ...]]:
    """Return the blocks of a matrix that have nothing to do with each other, as indices of their square."""
    count, part = connected_components(shared)
    return [np.ix_(rows, rows) for rows in (np.flatnonzero(part == i) for i in range(count))]


def _conditional(precision: np.ndarray, pulled: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Return log p(y_g | y_−g, θ) of groups of one size, given as indices of shape ``(groups, size)``."""
    own = precision[group[:, :, None], group[:, None, :]]
    square = (pulled[group] * np.linalg.solve(own, pulled[group][:, :, None])[:, :, 0]).sum(axis=1)
    return np.asarray(0.5 * (np.linalg.slogdet(own)[1] - square - group.shape[1] * np.log(2.0 * np.pi)))


def covariances(fit: Posterior, draws: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the covariance of the log responses of the rows fitted, given each of some draws."""
    own = (_error(fit) / fit.data[fit.law.response].to_numpy()) ** 2
    for sigma, shared in zip(fit.flat("sigma")[draws], _shared(fit, draws), strict=True):
        yield np.diag(sigma**2 + own) + shared


def _shared(fit: Posterior, draws: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the covariance of the rows fitted less sigma² of their own errors, given each of some draws."""
    where = dict(fit.noise.rows(fit.data))
    untold = fit.log_tokens_of(fit.data) - fit.law.log_reference.get("D", 0.0) if UNKNOWN in fit.draws else None
    scale = {name: fit.flat(name) for name in (*fit.noise.names, SUITE_SCALE) if name in fit.draws}
    for draw in draws:
        if untold is not None:
            where["log_tokens"] = untold[draw]
        yield fit.noise.covariance({name: values[draw] for name, values in scale.items()}, where)
