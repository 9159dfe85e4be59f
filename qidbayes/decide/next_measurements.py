"""What to measure next: which cells of a plan reduce the variance of an answer most for the time they take.

Let t be the answer and y_c the log QiD that cell c would measure. If they are jointly normal, the expected variance of
t after measuring c is Var t − Cov(t, y_c)²/Var y_c (preposterior analysis of a linear model: Chaloner and Verdinelli
1995, Bayesian Experimental Design: A Review, Statistical Science 10). The moments are those of the posterior: over its
draws, and within a draw over random effects, discrepancy and measurement errors. Cells are picked greedily, each given
those before it, by the variance removed per second on the GPU.
"""

from typing import Any

import numpy as np
import polars as pl

from qidbayes.errors import InputError
from qidbayes.posterior import query
from qidbayes.posterior.constants import Curve
from qidbayes.posterior.fit import Fit, Kind
from qidbayes.posterior.joint import JointMoments
from qidbayes.posterior.predictive_noise import PredictiveNoise
from qidbayes.table.question import as_in_tables

_CELL = ("model", "tokens", "method", "bits", "dataset")
_CHECKPOINT = ("suite", "model", "revision", "tokens")
_SECONDS = ("cell_seconds", "checkpoint_seconds")
_NEVER = 0.05
_DRAWS = 60  # of a fit with a discrepancy: enough for second moments


def next_measurements(
    fit: Fit,
    cells: pl.DataFrame,
    *,
    n_params: float | str,
    bits: float | None = None,
    tokens: float | str | None = None,
    qid: float | None = None,
    picks: int = 5,
    kind: Kind = "response",
    **further: Any,
) -> pl.DataFrame:
    """Return which unmeasured cells reduce an answer's variance most per GPU-second, in the order to measure them.

    Parameters
    ----------
    fit
        A fit of a QiD law.
    cells
        What could be measured and what it takes, as `qidbayes.measure.plan.cells.planned_cells` returns it. Cells that
        the fit has seen (same model, tokens, method, bits and data set) are left out. So are methods and data sets
        that were not fitted, unless the law's constants or a discrepancy differ between them.
    n_params, bits, tokens, **further
        The answer that is to be narrowed: log QiD of such a checkpoint.
    qid
        In place of `tokens`: the answer is the log of the tokens at which the law reaches this QiD (nats per token).
    picks
        How many cells to pick.
    kind
        ``"response"``: log QiD of a newly measured checkpoint, with random effects of its own that no other measurement
        reduces; ``"response_params"``: log QiD of the law alone. An answer in tokens is always of the law alone.

    Returns
    -------
    polars.DataFrame
        A row a pick: what it is, ``gpu_seconds`` (with loading its checkpoint and evaluating that in 16 bits, if no
        pick before is of it), ``sd``: the standard deviation of the answer's logarithm expected with this pick and
        those before, and ``variance_left``: the share of the variance without any.

    Raises
    ------
    InputError
        If the answer cannot be asked of the law, the fit has seen all cells, or tokens reach the threshold too seldom.

    Examples
    --------
    >>> from qidbayes.measure import load_plan
    >>> from qidbayes.measure.plan.cells import planned_cells
    >>> cells = planned_cells(load_plan("plan.toml"))  # doctest: +SKIP
    >>> next_measurements(fit, cells, n_params=70e9, tokens=15e12, bits=4)  # doctest: +SKIP
    """
    if fit.law.response != "qid":
        raise InputError(f"law {fit.law.name!r} is not of QiD")
    if (tokens is None) == (qid is None):
        raise InputError("give either tokens, for QiD there, or qid, for the tokens that reach it")
    if picks < 1:
        raise InputError(f"picks must be 1 or more, not {picks}")
    query.refuse_unused(fit.law, further, (*query.needs(fit.law), *PredictiveNoise(fit).asked))
    missing = [name for name in (*_CHECKPOINT, *_CELL, *_SECONDS) if name not in cells.columns]
    if missing:
        raise InputError(f"cells: column {missing[0]!r} is missing; give what planned_cells returns of a plan")
    question = {"n_params": n_params, "bits": bits, "tokens": tokens, "qid": qid, **further}
    asked = as_in_tables(pl.DataFrame([{name: value for name, value in question.items() if value is not None}]))
    fit.warn_if_unfitted(asked, kind)
    left = _unmeasured(fit, cells)
    source = fit.thinned(_DRAWS) if fit.noise.by_draw else fit
    answer = _Answer(source, source.curve(), left, asked, kind)
    names = [*_CHECKPOINT, *(n for n in ("method", "bits", "group_size") if n in left.columns)]
    codes = left.select(pl.struct(names).rank("dense").alias("cell"))["cell"].to_numpy()
    opened: set[tuple[Any, ...]] = set()
    picked, before, rows = np.zeros(left.height, dtype=bool), answer.variance, []
    for _ in range(min(picks, len(np.unique(codes)))):
        checkpoints = left.select(_CHECKPOINT).rows()
        new = np.array([checkpoint not in opened for checkpoint in checkpoints])
        seconds = left["cell_seconds"].to_numpy() + np.where(new, left["checkpoint_seconds"].to_numpy(), 0.0)
        # Of a cell with several sets the one that tells most speaks for it.
        best = int(np.argmax(np.where(picked, -1.0, answer.taken_off() / seconds)))
        for row in np.flatnonzero(codes == codes[best]):
            answer.measure(int(row))
        picked |= codes == codes[best]
        opened.add(checkpoints[best])
        rows.append(
            {
                **left.select(names).row(best, named=True),
                "gpu_seconds": float(seconds[best]),
                "sd": float(np.sqrt(answer.variance)),
                "variance_left": float(answer.variance / before),
            }
        )
    return pl.DataFrame(rows).drop("suite")


class _Answer:
    """The covariances of an answer with what cells would measure, as cells are measured one by one.

    Taking off each measured cell's part from all that is left is Cholesky's factorization, a column a cell.
    """

    def __init__(self, fit: Fit, curve: Curve, cells: pl.DataFrame, asked: pl.DataFrame, kind: Kind) -> None:
        law = fit.law
        missing = [name for name in query.needs(law) if name not in cells.columns]
        if missing:
            raise InputError(f"law {law.name!r} also needs {', '.join(missing)} of every cell")
        self.together = JointMoments(fit, curve, _known_columns(fit, cells))
        self.own = self.together.variance
        if "tokens" in asked.columns and kind == "response":
            of_answer = JointMoments(fit, curve, asked)
            self.shared = self.together.with_one(of_answer)
            self.variance = float(of_answer.variance[0])
        else:
            draws = _of_law(fit, asked)
            self.shared = (self.together.apart * (draws - draws.mean())[:, None]).mean(axis=0)
            self.variance = float(draws.var())
        self.columns: list[np.ndarray] = []

    def taken_off(self) -> np.ndarray:
        """Return the variance that each cell is expected to take off the answer's."""
        with np.errstate(all="ignore"):
            return np.where(self.own > 1e-12, self.shared**2 / self.own, 0.0)

    def measure(self, row: int) -> None:
        """Take a cell as measured."""
        column = self.together.with_row(row) - sum(c * c[row] for c in self.columns)
        column = column / np.sqrt(self.own[row])
        part = self.shared[row] / np.sqrt(self.own[row])
        self.columns.append(column)
        self.own = self.own - column**2
        self.shared = self.shared - column * part
        self.variance -= part**2


def _of_law(fit: Fit, asked: pl.DataFrame) -> np.ndarray:
    if "tokens" in asked.columns:
        return fit.log_draws(asked, "response_params")[:, 0]
    found = fit.log_tokens_draws(asked, "response_params")[:, 0]
    reached = np.isfinite(found)
    if (~reached).mean() > _NEVER:
        raise InputError(
            f"the law does not reach QiD {asked['qid'][0]:g} in {(~reached).mean():.0%} of the draws, so that the "
            "tokens have no variance; ask of QiD at some tokens"
        )
    return np.where(reached, found, found[reached].max())


def _unmeasured(fit: Fit, cells: pl.DataFrame) -> pl.DataFrame:
    cells = as_in_tables(cells)
    by = [pl.col(n).cast(pl.Float64) if n in ("tokens", "bits") else pl.col(n) for n in _CELL]
    seen = fit.data.select(by).unique()
    left = cells.with_columns(by).join(seen, on=list(_CELL), how="anti", maintain_order="left")
    # To a fit that knows no difference between methods and sets, a new one would look like more of the same.
    for name in ("method", "dataset"):
        if not fit.noise.by_draw and name not in fit.law.by:
            left = left.filter(pl.col(name).is_in(fit.data[name].unique().to_list()))
    if not left.height:
        raise InputError(
            "the fit has seen all these cells, or cannot tell their methods apart: there is none to choose"
        )
    return left


def _known_columns(fit: Fit, cells: pl.DataFrame) -> pl.DataFrame:
    # Where no fitted row says its group size, a cell's would count as another kind of quantization.
    silent = fit.data["group_size"].fill_nan(None).null_count() == fit.data.height
    return cells.drop("group_size") if silent and "group_size" in cells.columns else cells
