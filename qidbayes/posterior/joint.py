"""The joint predictive of several measurements: given each draw, their log responses are jointly normal.

`Fit.predict` answers for each row by itself. Whoever holds several measurements of one checkpoint, compares models or
plans measurements needs what they share too: the effects of a run and a checkpoint, what the equation misses there.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from qidbayes.noise.coordinates import NEW
from qidbayes.posterior import query
from qidbayes.posterior.constants import Curve
from qidbayes.posterior.posterior import Posterior
from qidbayes.posterior.predictive_noise import PredictiveNoise
from qidbayes.seeds import Stream, generator

_ELSEWHERE = -1_000_000  # the code of a new group that no other measurement is of


@dataclass(frozen=True)
class Joint:
    """The joint predictive of blocks of measurements: a mean and a covariance for each draw and block.

    Attributes
    ----------
    mean
        Of the log responses (log nats per token) given each draw; shape ``(draws, blocks, rows)``.
    covariance
        Shape ``(draws, blocks, rows, rows)``, or ``(draws, 1, rows, rows)`` where it is the same for all blocks. The
        measurements' own errors are on its diagonal.
    """

    mean: np.ndarray
    covariance: np.ndarray

    def log_density(self, log_response: np.ndarray, own: np.ndarray) -> np.ndarray:
        """Return the log density of measured log responses given each draw; shape ``(draws, blocks)``.

        Parameters
        ----------
        log_response, own
            The measurements, and further variance that each has of its own; shape ``(rows,)``.
        """
        total = self.covariance + np.diag(own)
        inverse, (_, log_det) = np.linalg.inv(total), np.linalg.slogdet(total)
        apart = log_response - self.mean
        distance = np.einsum("dbi,dbi->db", np.matmul(apart[..., None, :], inverse)[..., 0, :], apart)
        return np.asarray(-0.5 * (distance + log_det + len(log_response) * np.log(2.0 * np.pi)))

    def draws(self, random_seed: int, each: int = 1) -> np.ndarray:
        """Return log responses of the first block, `each` of them for every draw; shape ``(draws * each, rows)``."""
        root = np.repeat(np.linalg.cholesky(self.covariance[:, 0]), each, axis=0)
        deviates = generator(random_seed, Stream.JOINT_MEASUREMENTS).standard_normal(root.shape[:2])
        return np.asarray(np.repeat(self.mean[:, 0], each, axis=0) + np.einsum("dij,dj->di", root, deviates))


def joint(fit: Posterior, curve: Curve, frame: pl.DataFrame, blocks: int = 1) -> Joint:
    """Return what the rows of a frame are expected to measure.

    Parameters
    ----------
    fit
        The draws to answer with.
    curve
        Its law with their constants.
    frame
        A row a measurement, with the columns the law needs; a block's rows follow each other. `model` and `revision`
        say which rows share a run and a checkpoint: fitted ones are as they were fitted, others are new. Without a
        `model` all rows of a block are of one new checkpoint.
    blocks
        How many blocks of equally many rows there are.
    """
    asked = query.build(curve, frame, {})
    law = curve.log_response(asked.log_covariates, asked.index)
    shape = (_draws(fit), blocks, frame.height // blocks)
    law = np.broadcast_to(law, (shape[0], frame.height)).reshape(shape)
    scatter, rows = PredictiveNoise(fit), shape[2]
    where = scatter.coordinates(asked.frame, together=True)
    mean, shared = scatter.conditioned(curve, where).blocks(where, blocks)
    return Joint(law + mean, shared + (scatter.own_variance(rows)[..., None] * np.eye(rows))[:, None])


class JointMoments:
    """Moments of what many measurements would be, over the posterior's draws and given each of them.

    Of `joint`, which holds a matrix for each draw, this is what remains affordable for thousands of measurements.

    Parameters
    ----------
    fit, curve, frame
        As in `joint`.

    Attributes
    ----------
    apart
        The expected log response given each draw, less its mean over them; shape ``(draws, rows)``.
    variance
        Of the log response, its own error in it; shape ``(rows,)``.
    """

    def __init__(self, fit: Posterior, curve: Curve, frame: pl.DataFrame) -> None:
        asked = query.build(curve, frame, {})
        frame = asked.frame
        mean = np.broadcast_to(curve.log_response(asked.log_covariates, asked.index), (_draws(fit), frame.height))
        own = fit.noise.mean_own_variance(np.square(fit.flat("sigma")))
        scatter = PredictiveNoise(fit)
        self._where = scatter.coordinates(frame, together=True)
        self._conditioned = scatter.conditioned(curve, self._where)
        missed, left = self._conditioned.at(self._where)
        mean, within = mean + missed, left + own[:, None]
        self.apart = mean - mean.mean(axis=0)
        self.variance = np.square(self.apart).mean(axis=0) + within.mean(axis=0)

    def with_row(self, row: int) -> np.ndarray:
        """Return the covariance of all with one of them; shape ``(rows,)``."""
        found = (self.apart * self.apart[:, row : row + 1]).mean(axis=0)
        one = {name: values[row : row + 1] for name, values in self._where.items()}
        found = found + self._conditioned.between(self._where, one)
        found[row] = self.variance[row]
        return np.asarray(found)

    def with_one(self, other: "JointMoments") -> np.ndarray:
        """Return the covariance with the first measurement of another frame, of a run that is none of these."""
        found = (self.apart * other.apart[:, :1]).mean(axis=0)
        elsewhere = {
            name: values[:1] if name.startswith("log_") else np.where(values[:1] <= NEW, _ELSEWHERE, values[:1])
            for name, values in other._where.items()
        }
        return np.asarray(found + self._conditioned.between(self._where, elsewhere))


def _draws(fit: Posterior) -> int:
    return int(fit.draws["sigma"].size)
