"""Ways to forecast: the posterior, and the baselines to hold it against.

A forecaster is made from the rows to fit, a law and a seed, and says what it expects of other rows.
"""

import dataclasses
from collections.abc import Callable
from typing import Protocol

import polars as pl

from qidbayes.law import Law
from qidbayes.posterior.predictive import Predictive

POSTERIOR = "posterior"


class Forecaster(Protocol):
    """What can be scored."""

    def predictive(self, frame: pl.DataFrame) -> Predictive:
        """Return what is expected of each row's log response."""
        ...


@dataclasses.dataclass(frozen=True)
class Forecast:
    """A forecaster, and what must be said of it: the sampler's checks that failed, and what rests on priors."""

    forecaster: Forecaster
    problems: list[str]
    remarks: list[str]


def posterior(table: pl.DataFrame, law: Law, random_seed: int) -> Forecast:
    """Fit a law by NUTS, as it is declared."""
    from qidbayes.infer.fit import fit

    found = fit(table, law, random_seed=random_seed, progress=False)
    return Forecast(found, found.diagnostics.problems(), found.diagnostics.remarks())


def independent(table: pl.DataFrame, law: Law, random_seed: int) -> Forecast:
    """Fit a law by NUTS as if no two rows shared any error."""
    return posterior(table, law.with_noise(groups=(), discrepancy="none"), random_seed)


def least_squares(table: pl.DataFrame, law: Law, random_seed: int) -> Forecast:
    """Fit a law by the paper's method, with a bootstrap over rows; see `qidbayes.score.bootstrap`."""
    from qidbayes.score.bootstrap import bootstrap

    return Forecast(bootstrap(table, law, random_seed), [], [])


FORECASTERS: dict[str, Callable[[pl.DataFrame, Law, int], Forecast]] = {
    POSTERIOR: posterior,
    "independent": independent,
    "least-squares": least_squares,
}
BASELINES = tuple(name for name in FORECASTERS if name != POSTERIOR)
