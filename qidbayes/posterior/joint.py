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
from qidbayes.posterior import query
from qidbayes.posterior.conditional import conditional_blocks
from qidbayes.posterior.constants import Curve
from qidbayes.posterior.discrepancy import KIND, NEW, Cells, Fitted
from qidbayes.posterior.scatter import Scatter
from qidbayes.table.groups import CHECKPOINT, labels

if TYPE_CHECKING:
    from qidbayes.posterior.fit import Fit


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
    shape = (len(fit.draws["sigma"].reshape(-1)), blocks, frame.height // blocks)
    law = np.broadcast_to(law, (shape[0], frame.height)).reshape(shape)
    if Scatter(fit).smooth:
        return _smooth(fit, curve, frame, law)
    return _nested(fit, frame, law)


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
    mean = law
    if "model_sd" in fit.draws:
        known = {label: i for i, label in enumerate(fit.coords["model"])}
        index = np.array([known.get(label, NEW) for label in models])
        effect = fit.draws["model_effect"].reshape(draws, -1)
        mean = law + np.where(index >= 0, effect[:, index], 0.0)[:, None, :]
        covariance += _variance(fit, "model_sd")[:, None, None] * _equal(models) * (index < 0)
    return Joint(mean, covariance[:, None])


def _smooth(fit: "Fit", curve: Curve, frame: pl.DataFrame, law: np.ndarray) -> Joint:
    """Condition the discrepancy on the fitted rows, for each draw."""
    _, blocks, rows = law.shape
    mean, left = conditional_blocks(Scatter(fit).known(curve), _cells(Fitted(fit.data), frame), blocks)
    left[..., np.arange(rows), np.arange(rows)] += _variance(fit, "sigma")[:, None, None]
    return Joint(law + mean, left)


def _cells(place: Fitted, frame: pl.DataFrame) -> Cells:
    """Return where rows stand, new groups told apart by their labels."""
    known = place.data["model"].unique().to_list()
    fitted = frame["model"].is_in(known).to_numpy() if "model" in frame.columns else np.zeros(frame.height, dtype=bool)
    # Of a model that was not fitted, the name says only which rows share it.
    new = place.cells(frame.drop("model", "revision", strict=False))
    found = {name: np.asarray(values).copy() for name, values in new.items()}
    if fitted.any():
        for name, values in place.cells(frame.filter(fitted)).items():
            found[name][fitted] = values
    apart = {"model": _models(frame), CHECKPOINT: _checkpoints(frame)}
    for group, columns in (("suite", ("suite",)), ("kind", KIND)):
        named = [column for column in columns if column in frame.columns]
        apart[group] = labels(frame, named).to_list() if named else [""] * frame.height
    for group, names in apart.items():
        codes = {label: NEW - 1 - i for i, label in enumerate(dict.fromkeys(names))}
        found[group] = np.where(found[group] == NEW, [codes[label] for label in names], found[group])
    return found


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
