"""The posterior predictive of measured rows, as a mixture of normals: what a forecast is scored by."""

from dataclasses import dataclass

import numpy as np

from qidbayes.seeds import Stream, generator


@dataclass(frozen=True)
class Predictive:
    """What a posterior expects of the logarithm of each row's response.

    Given one posterior draw of the parameters, a row's log response is normal; the predictive is the mixture of these
    normals over the draws. Density and distribution function follow exactly, where a kernel estimate from samples
    would depend on its bandwidth and fail in the tails, where it matters.

    Attributes
    ----------
    mean, sd
        Of the log response (log nats per token) given each draw; shape ``(draws, rows)``.
    """

    # SciPy is imported where it is used, since a fit that only answers does without.

    mean: np.ndarray
    sd: np.ndarray

    def log_density(self, log_response: np.ndarray) -> np.ndarray:
        """Return the log density of each row at a log response, in nats; shape ``(rows,)``.

        Examples
        --------
        >>> standard = Predictive(np.zeros((2, 1)), np.ones((2, 1)))
        >>> standard.log_density(np.array([0.0])).round(4).tolist()
        [-0.9189]
        """
        from scipy.special import logsumexp

        z = (log_response - self.mean) / self.sd
        each = -0.5 * z**2 - np.log(self.sd) - 0.5 * np.log(2.0 * np.pi)
        return np.asarray(logsumexp(each, axis=0) - np.log(len(each)))

    def pit(self, log_response: np.ndarray) -> np.ndarray:
        """Return the probability integral transform: the predictive probability of less than this; ``(rows,)``."""
        from scipy.special import ndtr

        return np.asarray(ndtr((log_response - self.mean) / self.sd).mean(axis=0))

    def draws(self, random_seed: int) -> np.ndarray:
        """Return a log response for each draw and row, each row's by itself; shape ``(draws, rows)``.

        The normal deviates are the mid-quantiles in random order: the quantiles of a row have less Monte Carlo error.
        """
        from scipy.special import ndtri

        count = len(self.mean)
        rng = generator(random_seed, Stream.FORECASTS)
        z = ndtri((np.arange(count) + 0.5) / count)
        return np.asarray(self.mean + self.sd * rng.permutation(z)[:, None])


def crps(draws: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Return the continuous ranked probability score E|X − y| − ½ E|X − X′| of each column of draws; less is better.

    Source: Gneiting and Raftery (2007), Eq. 21; the second term from the sorted draws, without a pair of loops.

    Parameters
    ----------
    draws
        Shape ``(draws, rows)``.
    observed
        Shape ``(rows,)``.

    Examples
    --------
    >>> crps(np.array([[0.0], [1.0]]), np.array([0.5])).tolist()
    [0.25]
    """
    ordered = np.sort(draws, axis=0)
    count = len(ordered)
    weight = (2.0 * np.arange(1, count + 1) - count - 1.0)[:, None]
    spread = (weight * ordered).sum(axis=0) / count**2
    return np.asarray(np.abs(ordered - observed).mean(axis=0) - spread)
