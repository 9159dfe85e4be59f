"""The predictive noise of a measurement around the law: run and checkpoint effects, discrepancy, and its own error."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl

from qidbayes.errors import InputError
from qidbayes.law.law import suggestion
from qidbayes.noise.families import SHARED_EFFECT
from qidbayes.noise.family_kernel import SUITE_SCALE
from qidbayes.noise.kernels import Coordinates
from qidbayes.noise.model import Conditioned
from qidbayes.noise.unknown_tokens import UNKNOWN
from qidbayes.posterior import query
from qidbayes.posterior.constants import Curve
from qidbayes.posterior.posterior import Posterior
from qidbayes.posterior.threshold import log_tokens
from qidbayes.seeds import Stream, generator
from qidbayes.table.own_error import standard_error

MODEL_EFFECT = "model_effect"
"""The draws of the effects of the fitted models."""
KEPT = (MODEL_EFFECT, SHARED_EFFECT, SUITE_SCALE, UNKNOWN)
"""What a fit keeps of effects that its noise is conditioned on."""
TRUE_LOG_QID = "true_log_qid"
"""The draws of log(true QiD) of fitted rows too noisy for a logarithm."""
_EACH = 10  # normal deviates for each draw, where the draws are few
_STEP = 0.25  # of log tokens, where the discrepancy moves
_FAR = 8.0  # of log tokens: so far from the fitted ones the discrepancy knows nothing of them, and no longer moves


@dataclass(frozen=True)
class PredictiveNoise:
    """How measurements scatter around a fit's law, given each of its draws."""

    fit: Posterior

    @property
    def asked(self) -> tuple[str, ...]:
        """What a question may name beside what the law needs."""
        return self.fit.noise.asked

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
        where = self.coordinates(frame)
        mean, variance = self.conditioned(curve, where).at(where)
        return mean, variance + self.own_variance(1)

    def coordinates(self, frame: pl.DataFrame, *, together: bool = False) -> Coordinates:
        """Return where measurements stand beside the fitted rows; new groups are told apart if they are together."""
        found = dict(self.fit.noise.coordinates(self.fit.fitted, frame, together=together))
        if "log_tokens" in found and np.isnan(found["log_tokens"]).any():
            reference = self.fit.law.log_reference.get("D", 0.0)
            found["log_tokens"] = self.fit.log_tokens_of(frame) - reference
        return found

    def conditioned(self, curve: Curve, asked: Coordinates) -> Conditioned:
        """Return what the fitted rows say of measurements, given each draw."""
        kept = [name for name in (*self.fit.noise.names, *KEPT) if name in self.fit.draws]
        scale = {name: self.fit.flat(name) for name in kept}
        return self.fit.noise.condition(scale, self.fit.fitted, asked, partial(self.residual, curve))

    def own_variance(self, rows: int) -> np.ndarray:
        """Return the variance of rows' own errors given each draw; shape ``(draws, rows)``."""
        rng = generator(int(self.fit.attributes["random_seed"]), Stream.STUDENT_T_VARIANCES)
        variance = np.square(self.fit.flat("sigma"))[:, None]
        return self.fit.noise.own_variance(np.broadcast_to(variance, (len(variance), rows)), rng)

    def spread(self, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
        """Return draws of normals; shape ``(draws, rows)``, some for each of the means' draws where these are few.

        The rows share their deviates, so that bands are smooth in N, D and P: each row's band holds for itself.
        """
        each = _EACH if self.fit.noise.by_draw else 1
        sd = np.sqrt(np.repeat(variance, each, axis=0))
        return np.asarray(np.repeat(mean, each, axis=0) + sd * self._deviates(each))

    def log_tokens(self, curve: Curve, asked: query.Query, log_qid: np.ndarray) -> np.ndarray:
        """Return the log tokens at which draws of what would be measured rise to thresholds; ``(draws, questions)``."""
        if not self.fit.noise.by_draw:
            mean, variance = self.of(asked.frame, curve)
            return log_tokens(curve, asked, log_qid - self.spread(mean, variance))
        grid = self._grid()
        # Thresholds of one model and width share what is expected at each token.
        names = [name for name in asked.frame.columns if name != "qid"]
        rows = asked.frame.select(names).rows()
        numbers = {row: i for i, row in enumerate(dict.fromkeys(rows))}
        number = np.array([numbers[row] for row in rows])
        once = pl.DataFrame(list(numbers), schema=asked.frame.select(names).schema, orient="row")
        frame = pl.DataFrame({"tokens": np.exp(grid)})
        frame = once.join(frame, how="cross", maintain_order="left_right") if names else frame
        questions = query.build(curve, frame, {})
        mean, variance = self.of(frame, curve)
        law = curve.log_response(questions.log_covariates, questions.index)
        height = self.spread(law + mean, variance).reshape(-1, len(numbers), len(grid))
        law = np.repeat(law, _EACH, axis=0)
        added = (height - law.reshape(height.shape))[:, number]
        height = height[:, number] - log_qid.reshape(1, -1, 1)
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
        tokens = np.log(self.fit.data["tokens"].drop_nulls().cast(pl.Float64).to_numpy())
        # Whatever the draws: each has the same question. A walk moves on, and below the data its band widens again.
        walks = self.fit.law.noise.discrepancy == "walk"
        low, high = tokens.min() - (0 if walks else _FAR), tokens.max() + (2 * _FAR if walks else _FAR)
        return np.linspace(low, high, 2 + int((high - low) / _STEP))

    def residual(self, curve: Curve, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what the law leaves over of the log response of fitted rows, and the variance of their own errors.

        Shapes ``(draws, rows)``.
        """
        data, response = self.fit.data[rows], self.fit.law.response
        asked = query.build(curve, data, {})
        law = curve.log_response(asked.log_covariates, asked.index)
        law = np.broadcast_to(law, (len(law), data.height))
        value = data[response].to_numpy()
        error = standard_error(data, response)
        sampled = self._sampled()
        noisy = np.isin(rows, sampled)
        value = np.where(noisy, 1.0, value)
        log_value = np.broadcast_to(np.log(value), law.shape).copy()
        if noisy.any():
            log_value[:, noisy] = self.fit.flat(TRUE_LOG_QID)[:, np.isin(sampled, rows)]
        own = np.square(np.where(noisy, 0.0, error / value))
        return log_value - law, np.square(self.fit.flat("sigma"))[:, None] + own

    def _sampled(self) -> np.ndarray:
        """Return the rows too noisy for a logarithm, in order."""
        return np.array(self.fit.coords["row"] if TRUE_LOG_QID in self.fit.draws else [], dtype=int)

    def _deviates(self, each: int) -> np.ndarray:
        count = each * self.fit.flat("sigma").size
        rng = generator(int(self.fit.attributes["random_seed"]), Stream.NEW_MEASUREMENTS)
        return rng.standard_normal(count)[:, None]
