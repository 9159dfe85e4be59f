"""Search for the form of a law in a small grammar, by runs that are held out, with a penalty for looking.

A product has a factor for some of N, D, P and named columns: a power x^b, a power of the logarithm (log x)^b or an
exponential e^(bx). A sum is the product of powers, Eq. 8, and one more product. Least squares fit the logarithm, with
one step for products and some for sums. Each run is held out in turn. What is left of it scores a form by the density
of a normal with an effect of the run, whose two variances come from the other runs.

The best of a hundred forms is ahead by luck alone. So half of the runs choose a form, and how far it is ahead of Eq. 8
on each of the others is a number that no look has flattered: a t test says whether they are above 0. This is done for
many halves. Twice the median of their p values is one again, whatever their dependence (Meinshausen et al. 2009).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import polars as pl
from scipy import optimize, stats

from qidbayes.errors import InputError
from qidbayes.infer.design import Design, design
from qidbayes.law import Law, Noise, Prior
from qidbayes.noise.coordinates import KIND
from qidbayes.progress import Progress, shows_progress
from qidbayes.table.frames import Table
from qidbayes.table.given import as_table

LEVEL = 0.05
_NOISY = 0.2
"""Of QiD: a row with a larger standard error has no logarithm to speak of."""
_FEWEST = 4
_HALVES = 100
_STEPS = 40
_EXPONENTS = {"N": "alpha", "D": "beta", "P": "gamma"}

type Factors = tuple[tuple[str, str], ...]
"""The covariates of a product, each with ``power``, ``log`` or ``exp``."""
type Form = tuple[Factors, ...]
"""A product, or two that are added."""


@dataclass(frozen=True)
class Search:
    """What a search found.

    Attributes
    ----------
    table
        A row a form, the best first: ``equation``, in the language of laws; ``log_density``, nats a held-out row;
        ``behind``, what is missing to the best.
    ahead
        How far the form that half of the runs choose is ahead of Eq. 8 on the other half, nats a row: the mean of many
        halves.
    p_value
        How often a search would be so far ahead if no form were better than Eq. 8.
    runs
        How many runs were held out.
    left_out
        Rows whose QiD is not above 0, or a fifth noise and more.
    eq8
        Eq. 8's equation, of what differs between rows.
    """

    table: pl.DataFrame
    ahead: float
    p_value: float
    runs: int
    left_out: int
    eq8: str

    @property
    def better(self) -> str | None:
        """The best equation; None if it is Eq. 8, or no better."""
        best = str(self.table["equation"][0])
        return best if self.p_value < LEVEL and best != self.eq8 else None


@shows_progress("searching", "reading the table")
def search(table: Table, columns: Sequence[str] = (), *, progress: Progress | bool | None = None) -> Search:
    """Search for a law of QiD that says more of held-out runs than Eq. 8 does.

    Parameters
    ----------
    table
        Measurements of one method, group size and evaluation set, of four runs or more.
    columns
        Further columns of numbers that a form may have, beside N, D and P.
    progress
        As `qidbayes.fit` takes it.

    Raises
    ------
    InputError
        If the rows are of several kinds or of fewer than four runs, or a covariate is not known in every row.

    Examples
    --------
    >>> from qidbayes.table import load_table
    >>> found = search(load_table("pythia"))
    >>> found.runs, found.better is None
    (6, True)
    """
    rows, noisy = _rows(as_table(table, "table"), columns)
    runs = rows.frame.select(pl.struct("suite", "model").rank("dense") - 1).to_series().to_numpy()
    count = int(runs.max()) + 1
    if count < _FEWEST:
        raise InputError(f"a search holds runs out, and wants {_FEWEST} models or more; the table has {count}")
    known = dict(_columns(rows))
    eq8: Factors = tuple((x, "power") for x in _EXPONENTS if (x, "power") in known)
    products = list(_products(known))
    forms: list[Form] = [(eq8,), *((one,) for one in products if one != eq8), *((eq8, one) for one in products)]
    scores: dict[Form, np.ndarray] = {}
    for done, form in enumerate(forms, start=1):
        matrices = [np.stack([np.ones(len(runs)), *(known[factor] for factor in one)], axis=1) for one in form]
        residual = _held_out(matrices, rows.log_response, runs)
        if np.isfinite(residual).all():
            scores[form] = _density(residual, runs)
        if callable(progress):
            progress(done, len(forms))
    if (eq8,) not in scores:
        raise InputError("Eq. 8 cannot be fitted where each run is held out: too few runs differ in N, D or P")
    density = np.stack(list(scores.values()))
    mean = density.mean(axis=1)
    order = np.argsort(-mean, kind="stable")
    equations = [
        " + ".join(_product(one, _exponents(columns), "2" * i) for i, one in enumerate(form)) for form in scores
    ]
    found = pl.DataFrame({
        "equation": [equations[i] for i in order], "log_density": mean[order], "behind": mean[order[0]] - mean[order],
    })  # fmt: skip
    return Search(found, *unseen(density), count, noisy, equations[0])


def _rows(table: pl.DataFrame, columns: Sequence[str]) -> tuple[Design, int]:
    """Return the rows that have a logarithm, with N, D, P and the columns, and how many have none."""
    factors = (*((x, "power") for x in _EXPONENTS), *((column, "exp") for column in columns))
    names = ("k", *_exponents(columns).values())
    priors = {name: Prior("Normal", mu=0.0, sigma=1.0) for name in names}  # of no account: nothing is sampled
    law = Law(
        _product(factors, _exponents(columns)), priors=priors, noise=Noise(groups=(), discrepancy="none"), name="search"
    )
    rows = design(table, law)
    several = [name for name in KIND if name in rows.frame.columns and rows.frame[name].n_unique() > 1]
    if several:
        has = ", ".join(map(str, rows.frame[several[0]].unique().sort()))
        raise InputError(f"a search is of one {several[0]}, and the rows have {has}: choose one")
    clear = (rows.response > 0) & (rows.error <= _NOISY * rows.response)
    return design(rows.frame.filter(pl.Series(clear)), law), int((~clear).sum())


def _columns(rows: Design) -> Iterator[tuple[tuple[str, str], np.ndarray]]:
    """Yield what each factor multiplies an exponent with, of covariates that differ between rows; shape ``(rows,)``."""
    for x, log in rows.log_covariates.items():
        if np.ptp(np.exp(log)) == 0:
            continue
        if np.isfinite(log).all():
            yield (x, "power"), log
        if (log > 0).all():
            yield (x, "log"), np.log(log)
        yield (x, "exp"), np.exp(log - log.max())


def _products(known: Mapping[tuple[str, str], np.ndarray]) -> Iterator[Factors]:
    names = dict.fromkeys(x for x, _ in known)
    choices = [[None, *(factor for factor in known if factor[0] == x)] for x in names]
    for chosen in product(*choices):
        yield tuple(factor for factor in chosen if factor)


def _exponents(columns: Sequence[str]) -> dict[str, str]:
    return _EXPONENTS | {column: f"c{i}" for i, column in enumerate(columns, start=1)}


def _product(factors: Factors, exponents: Mapping[str, str], suffix: str = "") -> str:
    written = {"power": "{x}**{b}", "log": "log({x})**{b}", "exp": "exp({b} * {x})"}
    return " * ".join([f"k{suffix}", *(written[how].format(x=x, b=exponents[x] + suffix) for x, how in factors)])


def _held_out(matrices: Sequence[np.ndarray], y: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """Return what is left of each run by the form that is fitted to the others, NaN where it cannot be fitted."""
    residual = np.full(len(y), np.nan)
    for run in range(runs.max() + 1):
        train = runs != run
        of_train = [one[train] for one in matrices]
        if any(np.linalg.matrix_rank(one) < one.shape[1] for one in of_train):
            break
        numbers = [np.linalg.lstsq(one, y[train])[0] for one in of_train]
        if len(matrices) == 2:
            numbers = _sum(of_train, y[train], numbers)
        fitted = [one[~train] @ of for one, of in zip(matrices, numbers, strict=True)]
        residual[~train] = y[~train] - np.logaddexp.reduce(fitted)
    return residual


def _sum(matrices: Sequence[np.ndarray], y: np.ndarray, alone: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the exponents of two products that are added, from where one or the other is the larger part."""
    size = len(alone[0])

    def parts(x: np.ndarray) -> np.ndarray:
        return np.stack([matrices[0] @ x[:size], matrices[1] @ x[size:]])

    def residual(x: np.ndarray) -> np.ndarray:
        return np.asarray(np.logaddexp.reduce(parts(x)) - y)

    def slopes(x: np.ndarray) -> np.ndarray:
        logs = parts(x)
        share = np.exp(logs - np.logaddexp.reduce(logs))[:, :, None]
        return np.concatenate([share[0] * matrices[0], share[1] * matrices[1]], axis=1)

    found = []
    for share in (0.8, 0.2):
        # Two equal products would stay so: the steeper and the shallower half of them.
        start = np.concatenate([alone[0] * 1.1, alone[1] * 0.9])
        start[0], start[size] = alone[0][0] + np.log(share), alone[1][0] + np.log(1.0 - share)
        with np.errstate(all="ignore"):  # a step far off may overflow
            one = optimize.least_squares(residual, start, slopes, method="lm", max_nfev=_STEPS)
        found.append((float(np.nan_to_num(one.cost, nan=np.inf)), one.x))
    best = min(found, key=lambda one: one[0])[1]
    return [best[:size], best[size:]]


def _density(residual: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """Return the log density a row of each run's residuals, by variances of and within runs that the others have."""
    n = np.bincount(runs)
    mean = np.bincount(runs, residual) / n
    within = np.bincount(runs, np.square(residual - mean[runs]))

    def of_others(values: np.ndarray) -> np.ndarray:
        return np.asarray(values.sum() - values)

    own = of_others(within) / np.maximum(of_others(n - 1), 1)
    shared = np.maximum((of_others(mean**2) - own * of_others(1.0 / n)) / (len(n) - 1), 0.0)
    whole = own + n * shared
    square = within / own + n * mean**2 / whole
    return np.asarray(-0.5 * (square + (n - 1) * np.log(own) + np.log(whole) + n * np.log(2.0 * np.pi)) / n)


def unseen(density: np.ndarray) -> tuple[float, float]:
    """Return how far the form that half of the runs choose is ahead of the first form on the others, and a p value.

    Parameters
    ----------
    density
        Of each form on each run; shape ``(forms, runs)``.

    Examples
    --------
    >>> eq8, lucky, better = [0.0] * 6, [5.0, *[-1.0] * 5], [0.5, 0.6, 0.5, 0.6, 0.4, 0.4]
    >>> [unseen(np.array([eq8, one]))[1] < 0.05 for one in (lucky, better)]
    [False, True]
    """
    runs, rng = density.shape[1], np.random.default_rng(0)
    ahead = np.empty((_HALVES, runs - runs // 2))
    for half in ahead:
        choose, judge = np.split(rng.permutation(runs), [runs // 2])
        chosen = np.argmax(density[:, choose].mean(axis=1))
        half[:] = density[chosen, judge] - density[0, judge]
    mean, error = ahead.mean(axis=1), ahead.std(axis=1, ddof=1) / np.sqrt(ahead.shape[1])
    with np.errstate(invalid="ignore"):  # Eq. 8 is nowhere ahead of itself
        t = np.nan_to_num(mean / error, nan=-np.inf)
    return float(mean.mean()), min(1.0, 2.0 * float(np.median(stats.t.sf(t, ahead.shape[1] - 1))))
