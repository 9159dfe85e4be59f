"""What a fit expects of several measurements together: given each draw, their log responses are jointly normal.

`Fit.predict` answers for each row by itself. Whoever holds several measurements of one checkpoint, compares models or
plans measurements needs what they share too: the effects of a run and a checkpoint, what the equation misses there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from qidbayes.law.law import STUDENT_T_FREEDOM
from qidbayes.noise.conditioned import Known, conditional, conditional_blocks
from qidbayes.noise.coordinates import KIND, NEW, Fitted
from qidbayes.noise.kernels import Cells
from qidbayes.posterior import query
from qidbayes.posterior.constants import Curve
from qidbayes.posterior.scatter import Scatter
from qidbayes.table.groups import CHECKPOINT, labels

if TYPE_CHECKING:
    from qidbayes.posterior.fit import Fit

_ELSEWHERE = -1_000_000  # the code of a new group that no other measurement is of


@dataclass(frozen=True)
class Joint:
    """Several blocks of measurements; those of one block are known together, and blocks each for themselves.

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
        deviates = np.random.default_rng([random_seed, 5]).standard_normal(root.shape[:2])
        return np.asarray(np.repeat(self.mean[:, 0], each, axis=0) + np.einsum("dij,dj->di", root, deviates))


def joint(fit: "Fit", curve: Curve, frame: pl.DataFrame, blocks: int = 1) -> Joint:
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
    if Scatter(fit).smooth:
        return _smooth(fit, curve, asked.frame, law)
    return _nested(fit, asked.frame, law)


def _nested(fit: "Fit", frame: pl.DataFrame, law: np.ndarray) -> Joint:
    draws, _, rows = law.shape
    own = np.broadcast_to(_variance(fit, "sigma")[:, None], (draws, rows))
    if fit.law.noise.family == "student_t":  # a normal whose variance is drawn, each measurement's by itself
        rng = np.random.default_rng([int(fit.attributes["random_seed"]), 4])
        own = own * (STUDENT_T_FREEDOM / rng.chisquare(STUDENT_T_FREEDOM, (draws, rows)))
    block = frame.head(rows)  # which effects are shared is the same in every block
    models, checkpoints = _models(block), _checkpoints(block)
    covariance = np.zeros((draws, rows, rows))
    covariance[:, np.arange(rows), np.arange(rows)] = own
    if "checkpoint_sd" in fit.draws:
        covariance += _variance(fit, "checkpoint_sd")[:, None, None] * _equal(checkpoints)
    effect, new = _effects(fit, models)
    if "model_sd" in fit.draws:
        covariance += _variance(fit, "model_sd")[:, None, None] * _equal(models) * new
    return Joint(law + effect[:, None, :], covariance[:, None])


def _smooth(fit: "Fit", curve: Curve, frame: pl.DataFrame, law: np.ndarray) -> Joint:
    """Condition the discrepancy on the fitted rows, for each draw."""
    _, blocks, rows = law.shape
    asked = _cells(Fitted(fit.data), frame)
    mean, left = conditional_blocks(Scatter(fit).known(curve, asked), asked, blocks)
    left[..., np.arange(rows), np.arange(rows)] += _variance(fit, "sigma")[:, None, None]
    return Joint(law + mean, left)


def _cells(place: Fitted, frame: pl.DataFrame) -> Cells:
    """Return where rows stand, new groups told apart by their labels."""
    known = place.data["model"].unique().to_list()
    models = frame["model"] if "model" in frame.columns else pl.repeat(None, frame.height, dtype=pl.String, eager=True)
    fitted = models.is_in(known).fill_null(False)
    # Of a model that was not fitted, the name says only which rows share it.
    parts = ((fitted, frame.filter(fitted)), (~fitted, frame.filter(~fitted).drop("model", "revision", strict=False)))
    found: dict[str, np.ndarray] = {}
    for rows, part in parts:
        for name, values in place.cells(part).items() if part.height else ():
            found.setdefault(name, np.empty(frame.height, dtype=values.dtype))[rows.to_numpy()] = values
    apart = {"model": _models(frame), CHECKPOINT: _checkpoints(frame)}
    for group, columns in (("suite", ("suite",)), ("kind", KIND)):
        named = [column for column in columns if column in frame.columns]
        apart[group] = labels(frame, named).to_list() if named else [""] * frame.height
    for group, names in apart.items():
        codes = {label: NEW - 1 - i for i, label in enumerate(dict.fromkeys(names))}
        found[group] = np.where(found[group] == NEW, [codes[label] for label in names], found[group])
    return found


class Together:
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

    def __init__(self, fit: "Fit", curve: Curve, frame: pl.DataFrame) -> None:
        self._fit = fit
        asked = query.build(curve, frame, {})
        frame = asked.frame
        mean = np.broadcast_to(curve.log_response(asked.log_covariates, asked.index), (_draws(fit), frame.height))
        own = _variance(fit, "sigma")
        if fit.law.noise.family == "student_t":
            own = own * STUDENT_T_FREEDOM / (STUDENT_T_FREEDOM - 2.0)
        self._known: Known | None = None
        if Scatter(fit).smooth:
            self._cells = _cells(Fitted(fit.data), frame)
            self._known = Scatter(fit).known(curve, self._cells)
            missed, left = conditional(self._known, self._cells)
            mean, within = mean + missed, left + own[:, None]
        else:
            self._labels = {"checkpoint": np.array(_checkpoints(frame)), "model": np.array(_models(frame))}
            effect, self._new = _effects(fit, _models(frame))
            mean = mean + effect
            within = own[:, None] + sum(_variance(fit, n)[:, None] for n in ("checkpoint_sd",) if n in fit.draws)
            if "model_sd" in fit.draws:
                within = within + _variance(fit, "model_sd")[:, None] * self._new
        self.apart = mean - mean.mean(axis=0)
        self.variance = np.square(self.apart).mean(axis=0) + within.mean(axis=0)

    def with_row(self, row: int) -> np.ndarray:
        """Return the covariance of all with one of them; shape ``(rows,)``."""
        found = (self.apart * self.apart[:, row : row + 1]).mean(axis=0)
        if self._known:
            found = found + self._between({name: values[row : row + 1] for name, values in self._cells.items()})
        for group, names in {} if self._known else self._labels.items():
            if f"{group}_sd" in self._fit.draws:
                shared = (names == names[row]) * (self._new if group == "model" else 1.0)
                found = found + _variance(self._fit, f"{group}_sd").mean() * shared
        found[row] = self.variance[row]
        return np.asarray(found)

    def with_one(self, other: "Together") -> np.ndarray:
        """Return the covariance with the first measurement of another frame, of a run that is none of these."""
        found = (self.apart * other.apart[:, :1]).mean(axis=0)
        if self._known:
            elsewhere = {name: np.where(v[:1] <= NEW, _ELSEWHERE, v[:1]) for name, v in other._groups().items()}
            places = {name: v[:1] for name, v in other._cells.items() if name.startswith("log_")}
            found = found + self._between({**places, **elsewhere})
        return np.asarray(found)

    def _groups(self) -> dict[str, np.ndarray]:
        return {name: values for name, values in self._cells.items() if not name.startswith("log_")}

    def _between(self, one: Cells) -> np.ndarray:
        assert self._known
        parts = [given.between(self._cells, one) for given in self._known.draws()]
        return np.asarray(np.mean(parts, axis=0))


def _draws(fit: "Fit") -> int:
    return int(fit.draws["sigma"].size)


def _effects(fit: "Fit", models: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the effects of fitted runs, 0 for others, as ``(draws, rows)``, and which rows are of others."""
    if "model_sd" not in fit.draws:
        return np.zeros((1, len(models))), np.ones(len(models), dtype=bool)
    known = {label: i for i, label in enumerate(fit.coords["model"])}
    index = np.array([known.get(label, NEW) for label in models], dtype=int)
    effect = fit.draws["model_effect"].reshape(_draws(fit), -1)
    return np.where(index >= 0, effect[:, index], 0.0), index < 0


def _models(frame: pl.DataFrame) -> list[str]:
    return [str(model) for model in frame["model"]] if "model" in frame.columns else [""] * frame.height


def _checkpoints(frame: pl.DataFrame) -> list[str]:
    if "model" not in frame.columns:
        return [""] * frame.height
    when = "revision" if "revision" in frame.columns else "tokens"
    if when not in frame.columns:
        return _models(frame)
    return [f"{model} @ {at}" for model, at in zip(frame["model"], frame[when], strict=True)]


def _equal(names: Sequence[str]) -> np.ndarray:
    return np.array([[a == b for b in names] for a in names], dtype=float)


def _variance(fit: "Fit", name: str) -> np.ndarray:
    return np.square(fit.draws[name].reshape(-1))
