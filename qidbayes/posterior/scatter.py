"""What a measurement adds to the law's logarithm: effects of its run, what the equation misses there, its error."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from qidbayes.errors import InputError
from qidbayes.law.law import STUDENT_T_FREEDOM, suggestion
from qidbayes.noise import kernels
from qidbayes.noise.conditioned import Known, conditional
from qidbayes.noise.coordinates import KIND, Fitted
from qidbayes.noise.grid import connected, partition
from qidbayes.noise.kernels import Cells
from qidbayes.posterior import query
from qidbayes.posterior.constants import Curve
from qidbayes.posterior.record import Record
from qidbayes.posterior.threshold import log_tokens
from qidbayes.table.groups import CHECKPOINT

TRUE_LOG_QID = "true_log_qid"
"""The draws of log(true QiD) of fitted rows too noisy for a logarithm."""
_EACH = 10  # normal deviates for each draw, where the draws are few
_STEP = 0.25  # of log tokens, where the discrepancy moves
_FAR = 8.0  # of log tokens: so far from the fitted ones the discrepancy knows nothing of them, and no longer moves


@dataclass(frozen=True)
class Scatter:
    """How measurements scatter around a fit's law, given each of its draws."""

    fit: Record

    @property
    def smooth(self) -> bool:
        """Whether the fit models a discrepancy."""
        return "smooth_sd" in self.fit.draws

    @property
    def asked(self) -> tuple[str, ...]:
        """What a question may name beside what the law needs."""
        if self.smooth:
            return ("suite", "model", "revision", "n_params", "bits", *KIND)
        return ("model",) if "model_effect" in self.fit.draws else ()

    def refuse_unknown_models(self, frame: pl.DataFrame) -> None:
        """Refuse a question about a model by a name that no fitted row has: it may be a slip of the pen.

        Raises
        ------
        InputError
            Naming the models that are known.
        """
        # A law that differs by model has had its say.
        if "model" in frame.columns and "model" in self.asked and "model" not in self.fit.law.by:
            known = self.fit.data["model"].unique(maintain_order=True)
            unknown = frame["model"].filter(~frame["model"].is_in(known.to_list()))
            if len(unknown):
                some = ", ".join(known[:12]) + (", …" if len(known) > 12 else "")
                raise InputError(
                    f"model {unknown[0]!r} was not fitted{suggestion(unknown[0], known.to_list())}; known are {some}; "
                    "leave it out to ask of a new one"
                )

    def of(self, frame: pl.DataFrame, curve: Curve) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance of what measurements add; shapes ``(draws, rows or 1)``.

        Parameters
        ----------
        frame
            A row a measurement. What it names of `asked` and was fitted, is as it was fitted.
        curve
            The law with the draws' constants.
        """
        own = self._variance("sigma")
        if self.fit.law.noise.family == "student_t":  # a normal whose variance is drawn with each draw
            rng = np.random.default_rng([int(self.fit.attributes["random_seed"]), 4])
            own = own * (STUDENT_T_FREEDOM / rng.chisquare(STUDENT_T_FREEDOM, own.shape))
        if self.smooth:
            asked = Fitted(self.fit.data).cells(frame)
            mean, left = conditional(self.known(curve, asked), asked)
            return mean, left + own
        variance = own + sum(self._variance(name) for name in self._names(("checkpoint_sd",)))
        mean = np.zeros((len(own), 1))
        if "model_sd" in self.fit.draws:
            known = {label: i for i, label in enumerate(self.fit.coords["model"])}
            models = frame["model"] if "model" in frame.columns else [None] * frame.height
            index = np.array([-1 if m is None else known.get(m, -1) for m in models])
            mean = np.where(index >= 0, self._flat("model_effect")[:, index], 0.0)
            variance = variance + np.where(index >= 0, 0.0, self._variance("model_sd"))
        return mean, variance

    def known(self, curve: Curve, asked: Cells) -> Known:
        """Return what is known of a discrepancy: its scales, and what the law leaves over of the fitted rows.

        Only of those that share anything with what is asked.
        """
        cells = Fitted(self.fit.data).cells(self.fit.data)
        near = [np.isin(cells[g], asked[g][asked[g] >= 0]) for g in ("suite", "model", CHECKPOINT)]
        parts = connected(cells)
        rows = np.flatnonzero(np.isin(parts, parts[np.any(near, axis=0)]))
        cells = {name: values[rows] for name, values in cells.items()}
        residual, variance = self._residual(curve, rows)
        return Known(self.scale(), residual, self._variance("sigma") + variance, partition(cells).blocks)

    def scale(self) -> dict[str, np.ndarray]:
        """Return what sets the discrepancy's covariance, each of shape ``(draws,)``; empty without a discrepancy."""
        names = (*kernels.SCALES, *kernels.LENGTHS, kernels.SIMILARITY)
        return {name: self._flat(name) for name in self._names(names)} if self.smooth else {}

    def spread(self, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
        """Return draws of normals; shape ``(draws, rows)``, some for each of the means' draws where these are few.

        The rows share their deviates, so that bands are smooth in N, D and P: each row's band holds for itself.
        """
        each = _EACH if self.smooth else 1
        sd = np.sqrt(np.repeat(variance, each, axis=0))
        return np.asarray(np.repeat(mean, each, axis=0) + sd * self._deviates(each))

    def log_tokens(self, curve: Curve, asked: query.Query, log_qid: np.ndarray) -> np.ndarray:
        """Return the log tokens at which draws of what would be measured rise to thresholds; ``(draws, questions)``."""
        if not self.smooth:
            mean, variance = self.of(asked.frame, curve)
            return log_tokens(curve, asked, log_qid - self.spread(mean, variance))
        grid = self._grid()
        # Thresholds of one model and width share what is expected at each token.
        names = [name for name in asked.frame.columns if name != "qid"]
        rows = asked.frame.select(names).rows()
        places = {row: i for i, row in enumerate(dict.fromkeys(rows))}
        place = np.array([places[row] for row in rows])
        once = pl.DataFrame(list(places), schema=asked.frame.select(names).schema, orient="row")
        frame = pl.DataFrame({"tokens": np.exp(grid)})
        frame = once.join(frame, how="cross", maintain_order="left_right") if names else frame
        questions = query.build(curve, frame, {})
        mean, variance = self.of(frame, curve)
        law = curve.log_response(questions.log_covariates, questions.index)
        height = self.spread(law + mean, variance).reshape(-1, len(places), len(grid))
        law = np.repeat(law, _EACH, axis=0)
        added = (height - law.reshape(height.shape))[:, place]
        height = height[:, place] - log_qid.reshape(1, -1, 1)
        # Below and beyond the grid the discrepancy stays as it is at its ends, and the law is solved as it stands.
        repeated = curve.repeated(_EACH)
        before = log_tokens(repeated, asked, log_qid - added[:, :, 0])
        after = log_tokens(repeated, asked, log_qid - added[:, :, -1])
        rises = (height[:, :, :-1] < 0) & (height[:, :, 1:] >= 0)
        first = rises.argmax(axis=2)
        low, high = (np.take_along_axis(height, (first + i)[:, :, None], axis=2)[:, :, 0] for i in (0, 1))
        inside = grid[first] + (grid[1] - grid[0]) * low / (low - high)
        found = np.where(rises.any(axis=2), inside, np.maximum(after, grid[-1]))
        return np.asarray(np.where(height[:, :, 0] >= 0, np.minimum(before, grid[0]), found))

    def _grid(self) -> np.ndarray:
        tokens = np.log(self.fit.data["tokens"].cast(pl.Float64).to_numpy())
        low, high = tokens.min() - _FAR, tokens.max() + _FAR  # whatever the draws: each has the same question
        return np.linspace(low, high, 2 + int((high - low) / _STEP))

    def _residual(self, curve: Curve, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what the law leaves over of the log response of fitted rows, and the variances of their measurement.

        Shapes ``(draws, rows)`` and ``(rows,)``.
        """
        data, response = self.fit.data[rows], self.fit.law.response
        asked = query.build(curve, data, {})
        law = curve.log_response(asked.log_covariates, asked.index)
        law = np.broadcast_to(law, (len(law), data.height))
        value = data[response].to_numpy()
        error = np.zeros(data.height)
        if response == "qid" and "qid_se" in data.columns:
            error = data["qid_se"].cast(pl.Float64).fill_null(0.0).fill_nan(0.0).to_numpy()
        sampled = self._sampled()
        noisy = np.isin(rows, sampled)
        value = np.where(noisy, 1.0, value)
        log_value = np.broadcast_to(np.log(value), law.shape).copy()
        if noisy.any():
            log_value[:, noisy] = self._flat(TRUE_LOG_QID)[:, np.isin(sampled, rows)]
        return log_value - law, np.square(np.where(noisy, 0.0, error / value))

    def _sampled(self) -> np.ndarray:
        """Return the rows too noisy for a logarithm, in order."""
        return np.array(self.fit.coords["row"] if TRUE_LOG_QID in self.fit.draws else [], dtype=int)

    def _deviates(self, each: int) -> np.ndarray:
        count = each * self._flat("sigma").size
        rng = np.random.default_rng([int(self.fit.attributes["random_seed"]), 1])
        return rng.standard_normal(count)[:, None]

    def _names(self, names: tuple[str, ...]) -> list[str]:
        return [name for name in names if name in self.fit.draws]

    def _variance(self, name: str) -> np.ndarray:
        return np.square(self._flat(name))[:, None]

    def _flat(self, name: str) -> np.ndarray:
        values = self.fit.draws[name]
        return values.reshape(-1, *values.shape[2:])
