"""R-hat and effective sample sizes, worked out from draws: those of arXiv:1903.08008, as ArviZ has them.

NumPy alone, so that a saved fit is judged by its own draws whenever it is loaded, in some hundredths of a second.
"""

from collections.abc import Mapping
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from qidbayes.law.law import Law
from qidbayes.posterior.contraction import on_real_line
from qidbayes.posterior.diagnostics import Convergence, number

_TAILS = (0.05, 0.95)
_FEWEST = 4  # draws of a chain
_NUMBERS_AT_ONCE = 32


def convergence_of(values: np.ndarray) -> list[Convergence]:
    """Return how well each of several numbers is known.

    Parameters
    ----------
    values
        Draws, shape ``(chains, draws, numbers)``.

    Returns
    -------
    list of Convergence
        R-hat is not a number of one chain, or where nothing moves; all three are none where a draw is none, or there
        are too few.
    """
    found = []
    for first in range(0, values.shape[-1], _NUMBERS_AT_ONCE):
        found += _of_some(np.moveaxis(values[..., first : first + _NUMBERS_AT_ONCE], -1, 0))
    return found


def convergence_of_draws(
    law: Law, draws: Mapping[str, np.ndarray], dims: Mapping[str, str], coords: Mapping[str, tuple[str, ...]]
) -> dict[str, Convergence]:
    """Return how well the sampler knows each number it drew that a fit keeps, by its label.

    Parameters
    ----------
    law, draws, dims, coords
        As `Posterior` has them.
    """
    columns, labels = [], []
    for name, line in on_real_line(law, draws).items():
        columns.append(line.reshape(*line.shape[:2], -1))
        labels += [number(name, group) for group in (coords[dims[name]] if name in dims else (None,))]
    return dict(zip(labels, convergence_of(np.concatenate(columns, axis=-1)), strict=True)) if columns else {}


def bfmi(energy: np.ndarray) -> tuple[float, ...]:
    """Return each chain's E-BFMI, from its energies; shape ``(chains, draws)``."""
    with np.errstate(all="ignore"):  # of one draw, or where nothing moves, it is no number
        return tuple(float(np.square(np.diff(e)).mean() / np.var(e)) if len(e) > 1 else np.nan for e in energy)


def _of_some(values: np.ndarray) -> list[Convergence]:
    """Return the statistics of draws of shape ``(numbers, chains, draws)``."""
    numbers, chains, length = values.shape
    if length < _FEWEST:
        return [Convergence(np.nan, np.nan, np.nan)] * numbers
    with np.errstate(all="ignore"):  # what is no number stays none
        split = _split(values)
        scores = _scores(split)
        folded = _scores(np.abs(split - np.median(split, axis=(1, 2), keepdims=True)))
        r_hat = np.maximum(_r_hat(scores), _r_hat(folded)) if chains > 1 else np.full(numbers, np.nan)
        ends = np.quantile(values, _TAILS, axis=(1, 2))
        tails = [_ess(_split((values <= end[:, None, None]).astype(float))) for end in ends]
        known = np.stack([r_hat, _ess(scores), np.minimum(*tails)], axis=1)
    known[~np.isfinite(values).all(axis=(1, 2))] = np.nan
    return [Convergence(*map(float, row)) for row in known]


def _split(values: np.ndarray) -> np.ndarray:
    half = values.shape[-1] // 2
    return np.concatenate([values[..., :half], values[..., -half:]], axis=1)


def _scores(values: np.ndarray) -> np.ndarray:
    """Replace each number's draws by the normal quantiles of their ranks."""
    flat = values.reshape(len(values), -1)
    quantiles = _normal_quantiles(flat.shape[1])
    found = np.empty_like(flat)
    for row, into in zip(flat, found, strict=True):
        _, which, count = np.unique(row, return_inverse=True, return_counts=True)
        last = np.cumsum(count)
        into[:] = quantiles[2 * last - count - 1][which]  # equal draws have the mean of their ranks
    return found.reshape(values.shape)


@lru_cache(maxsize=4)
def _normal_quantiles(count: int) -> np.ndarray:
    """The normal quantiles of the ranks 1, 1½, 2, … of so many draws."""
    normal, ranks = NormalDist(), np.arange(2, 2 * count + 1) / 2
    return np.array([normal.inv_cdf(p) for p in ((ranks - 0.375) / (count + 0.25)).tolist()])


def _r_hat(values: np.ndarray) -> np.ndarray:
    length = values.shape[-1]
    between = length * values.mean(axis=-1).var(axis=-1, ddof=1)
    within = values.var(axis=-1, ddof=1).mean(axis=-1)
    return np.asarray(np.sqrt((between / within + length - 1) / length))


def _ess(values: np.ndarray) -> np.ndarray:
    """Return the effective sample size of means of split chains, shape ``(numbers, chains, draws)``."""
    _, chains, length = values.shape
    centred = values - values.mean(axis=-1, keepdims=True)
    spectrum = np.fft.rfft(centred, n=1 << (2 * length - 1).bit_length(), axis=-1)
    covariance = np.fft.irfft(np.square(np.abs(spectrum)).mean(axis=1), axis=-1)[:, :length] / length
    within = covariance[:, 0] * length / (length - 1.0)
    total = covariance[:, 0] + values.mean(axis=-1).var(axis=-1, ddof=1)
    correlation = 1.0 - (within[:, None] - covariance) / total[:, None]
    correlation[:, 0] = 1.0
    still = np.ptp(values, axis=(1, 2)) < np.finfo(float).resolution
    size = chains * length
    return np.array(
        [size if flat else _geyer(rho.tolist(), size) for rho, flat in zip(correlation, still, strict=True)],
        dtype=float,
    )


def _geyer(correlation: list[float], size: int) -> float:
    """Return the effective sample size by Geyer's initial monotone sequence: sums of pairs, positive and falling."""
    length = len(correlation)
    kept = [0.0] * length
    kept[:2] = even, odd = correlation[:2]
    t = 1
    while t < length - 3 and even + odd > 0.0:
        even, odd = correlation[t + 1], correlation[t + 2]
        if even + odd >= 0.0:
            kept[t + 1 : t + 3] = even, odd
        t += 2
    last = t - 2
    if even > 0.0:
        kept[last + 1] = even
    for t in range(1, last - 1, 2):
        before = kept[t - 1] + kept[t]
        if kept[t + 1] + kept[t + 2] > before:
            kept[t + 1] = kept[t + 2] = before / 2.0
    time = -1.0 + 2.0 * sum(kept[: last + 1]) + sum(kept[last + 1 : last + 2])
    return size / max(time, 1.0 / np.log10(size)) if not np.isnan(time) else np.nan
