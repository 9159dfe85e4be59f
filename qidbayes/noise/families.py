"""The noise model of tables of many families: see `qidbayes.noise.family_kernel`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from qidbayes.noise import family_density, makers
from qidbayes.noise.coordinates import NEW, Fitted, distinct, models
from qidbayes.noise.family_conditioned import FamilyResiduals
from qidbayes.noise.family_kernel import NUMBERS, SHARED, SUITE_SCALE, Coordinates, within_suite
from qidbayes.noise.own_error import NormalErrors
from qidbayes.noise.unknown_tokens import UNKNOWN

SHARED_EFFECT = "shared_effect"
"""The draws of the effects that are the same in every suite: of methods, of data sets, of group sizes, of bits."""
GROUPS = ("method", "dataset", "maker")
"""What has effects that are the same in every suite."""
_ROW_LENGTH = (4096.0, 6.5e9, 0.37)
"""Weights in a row of a matrix: of a 6.5B decoder, and how it grows with N (LLaMA, OPT and BLOOM within a fifth)."""


@dataclass(frozen=True)
class Families(NormalErrors):
    """See `qidbayes.noise.model.NoiseModel`.

    Attributes
    ----------
    log_reference
        The logarithms of the law's reference N, D and P, by ``"N"``, ``"D"`` and ``"P"``.
    """

    log_reference: tuple[tuple[str, float], ...] = ()
    groups = ("suite", "method", "dataset", "group_size", "model", "checkpoint")
    by_draw = True
    names = NUMBERS
    asked = ("suite", "model", "revision", "n_params", "bits", "method", "group_size", "dataset", "settings")

    def log_density(
        self, residual: Any, variance: Any, scale: Mapping[str, Any], where: Any, data: Mapping[str, Any], ops: Any
    ) -> Any:
        """Return the log density of rows; PyTensor gets it as one operation that is written for JAX."""
        variance = variance - scale["sigma"] ** 2  # which here is a suite's own multiple of sigma²
        if ops is np:
            return family_density.log_density(residual, variance, scale, where.buckets, data, np)
        from jax import numpy as jnp
        from pytensor import wrap_jax

        buckets, names = where.buckets, [name for name in data if name.startswith(_OF_DENSITY)]

        def families(residual: Any, variance: Any, numbers: Any, suite_scale: Any, *arrays: Any) -> Any:
            scale = dict(zip(NUMBERS, numbers, strict=True)) | {SUITE_SCALE: suite_scale}
            given = dict(zip(names, arrays, strict=True))
            return family_density.log_density(residual, variance, scale, buckets, given, jnp)

        numbers = ops.stack([scale[name] for name in NUMBERS])
        return wrap_jax(families)(residual, variance, numbers, scale[SUITE_SCALE], *(data[name] for name in names))

    def rows(self, frame: pl.DataFrame) -> Coordinates:
        """Return where fitted rows stand."""
        return self.coordinates(Fitted(frame), frame)

    def coordinates(self, fitted: Fitted, frame: pl.DataFrame, *, together: bool = False) -> Coordinates:
        """Return where new measurements stand beside the fitted rows.

        A suite, a model, a method or a data set that was not fitted, or that a row does not name, is new. Rows of a
        model that was not fitted share it where they are known together.
        """
        frame = fitted.with_models_tokens(fitted.with_models_columns(frame))
        coordinates = fitted.sizes(frame)
        reference = dict(self.log_reference)
        for symbol, name in (("N", "log_params"), ("D", "log_tokens"), ("P", "log_bits")):
            coordinates[name] = coordinates[name] - reference.get(symbol, 0.0)
        coordinates["log_groups"] = _log_groups(frame, coordinates["log_params"] + reference.get("N", 0.0))
        for group in ("suite", "method", "dataset"):
            coordinates[group] = fitted.codes(frame, group)
        coordinates["maker"] = makers.codes(fitted, frame)
        coordinates["model"] = fitted.codes(frame, "model")
        new = NEW - 1 - distinct(models(frame)) if together else np.full(frame.height, NEW)
        coordinates["model"] = np.where(coordinates["model"] == NEW, new, coordinates["model"])
        # All quantizations of a model at one count of tokens are of one checkpoint, whatever a file is called.
        known = _checkpoints(fitted.codes(fitted.data, "model"), fitted.data["tokens"].fill_null(-1).to_list())
        at = frame["tokens"].to_list() if "tokens" in frame.columns else [None] * frame.height
        coordinates["checkpoint"] = np.array(
            [known.get((int(m), _count(t)), NEW) for m, t in zip(coordinates["model"], at, strict=True)], dtype=np.int64
        )
        if together:
            of = [f"{m} {_count(t)}" for m, t in zip(coordinates["model"], at, strict=True)]
            coordinates["checkpoint"] = np.where(
                coordinates["checkpoint"] == NEW, NEW - 1 - distinct(of), coordinates["checkpoint"]
            )
        return coordinates

    def partition(self, coordinates: Coordinates) -> family_density.Suites:
        """Return the rows suite by suite, as the density goes by them."""
        return family_density.suites(coordinates, *self.shared(coordinates, _sizes(coordinates)))

    def shared(self, coordinates: Coordinates, sizes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return the columns of the effects that all suites share, and which of `SHARED` each has.

        `sizes` counts the fitted groups of `GROUPS`; one that was not fitted has zeros there. Shapes ``(rows,
        effects)`` and ``(effects,)``.
        """
        p = coordinates["log_bits"][:, None]
        method, dataset, maker = (
            (coordinates[group][:, None] == np.arange(size)) * 1.0 for group, size in zip(GROUPS, sizes, strict=True)
        )
        parts = method, method * p, method * p**2, dataset, maker, maker * p, coordinates["log_groups"][:, None], p**2
        kind = np.repeat(np.arange(len(SHARED)), [part.shape[1] for part in parts])
        return np.concatenate(parts, axis=1), kind

    def labels(self, fitted: Fitted) -> tuple[str, ...]:
        """Return what the effects that all suites share are called."""
        methods, datasets, every = (_labels(fitted, group) for group in GROUPS)
        of_methods = [f"{m}{of}" for of in ("", " × log bits", " × log bits²") for m in methods]
        of_makers = [f"by {maker}{of}" for of in ("", " × log bits") for maker in every]
        return (*of_methods, *datasets, *of_makers, "log group size", "log bits²")

    def places(self, before: Fitted, after: Fitted) -> tuple[np.ndarray, np.ndarray]:
        """Return where the shared effects stand among those with methods, data sets and makers of further rows.

        Parameters
        ----------
        before, after
            The rows without and with the further ones, which come last.

        Returns
        -------
        kind, known
            Which of `SHARED` each of the effects has, and whether it was there before; shape ``(effects,)``.
        """
        kind, known = [], []
        for i, group in enumerate(("method", "method", "method", "dataset", "maker", "maker", None, None)):
            old, count = (len(_labels(f, group)) for f in (before, after)) if group else (1, 1)
            kind += [i] * count
            known += [place < old for place in range(count)]
        return np.array(kind), np.array(known)

    def covariance(self, scale: Mapping[str, Any], where: Coordinates) -> np.ndarray:
        """Return the covariance of rows less sigma²: of what they share, and what their own errors have beside it."""
        shared, kind = self.shared(where, _sizes(where))
        shared = shared * np.array([scale[name] for name in SHARED])[kind]
        own = (self._own(scale, where) ** 2 - 1.0) * scale["sigma"] ** 2
        return np.asarray(self._within(scale, where) + shared @ shared.T + np.diag(own))

    def simulate(
        self, scale: Mapping[str, Any], where: Coordinates, rng: np.random.Generator
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return a draw of what rows share, the suites' scales, and the effects that all suites share."""
        drawn = np.exp(scale["suite_scale_sd"] * rng.standard_normal(int(where["suite"].max()) + 1))
        shared, kind = self.shared(where, _sizes(where))
        effect = np.array([scale[name] for name in SHARED])[kind] * rng.standard_normal(len(kind))
        within = self._within({**scale, SUITE_SCALE: drawn}, where)
        root = np.linalg.cholesky(within + 1e-9 * np.eye(len(within)))
        found = shared @ effect + root @ rng.standard_normal(len(within))
        return found, {SUITE_SCALE: drawn, SHARED_EFFECT: effect}

    def _within(self, scale: Mapping[str, Any], where: Coordinates) -> np.ndarray:
        own = self._own(scale, where)
        same = where["suite"][:, None] == where["suite"][None, :]
        bare, full = (within_suite(scale, where, where, z, np) for z in (0.0, 1.0))
        return np.asarray(same * (bare + own[:, None] * own[None, :] * (full - bare)))

    def own_errors(
        self, scale: Mapping[str, Any], where: Coordinates, count: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Return a draw of rows' own errors, which are larger in some suites than in others."""
        return np.asarray(self._own(scale, where) * super().own_errors(scale, where, count, rng))

    def _own(self, scale: Mapping[str, Any], where: Coordinates) -> np.ndarray:
        """Return λ of each row's suite."""
        return np.asarray(scale[SUITE_SCALE])[where["suite"]]

    def condition(
        self,
        scale: Mapping[str, np.ndarray],
        fitted: Fitted,
        asked: Coordinates,
        residuals: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    ) -> FamilyResiduals:
        """Take up the fitted rows of the suites that are asked about, given each draw of what all suites share."""
        sizes = [len(_labels(fitted, group)) for group in GROUPS]
        shared, kind = self.shared(asked, sizes)
        effect, known = scale[SHARED_EFFECT], {}
        suites = np.unique(asked["suite"][asked["suite"] >= 0])
        coordinates = self._of_fitted(scale, fitted) if suites.size else {}
        for suite in suites:
            rows = np.flatnonzero(coordinates["suite"] == suite)
            residual, variance = residuals(rows)
            here = {name: values[..., rows] for name, values in coordinates.items()}
            residual = residual - effect @ self.shared(here, sizes)[0].T
            known[int(suite)] = here, residual, variance
        return FamilyResiduals(scale, effect, shared, kind, known)

    def _of_fitted(self, scale: Mapping[str, np.ndarray], fitted: Fitted) -> Coordinates:
        """Return where the fitted rows stand, by each draw in tokens that nobody tells."""
        coordinates = dict(self.coordinates(fitted, fitted.data))
        untold = np.flatnonzero(np.isnan(coordinates["log_tokens"]))
        if untold.size:
            log_tokens = np.tile(coordinates["log_tokens"], (len(scale["sigma"]), 1))
            of = distinct(fitted.data["model"][untold].to_list())
            log_tokens[:, untold] = np.log(scale[UNKNOWN])[:, of] - dict(self.log_reference).get("D", 0.0)
            coordinates["log_tokens"] = log_tokens
        return coordinates


_OF_DENSITY = ("at_", "shared", "members_", "suite_")


def _log_groups(frame: pl.DataFrame, log_params: np.ndarray) -> np.ndarray:
    """Return log(row length / group size), 0 for a scale per channel."""
    if "group_size" not in frame.columns:
        return np.zeros(frame.height)
    length, size, power = _ROW_LENGTH
    log_row = np.log(length) + power * (log_params - np.log(size))
    group = frame["group_size"].cast(pl.Float64).fill_null(np.inf).to_numpy()
    return np.where(np.isfinite(group), np.maximum(log_row - np.log(group), 0.0), 0.0)


def _labels(fitted: Fitted, group: str) -> tuple[str, ...]:
    return makers.labels(fitted) if group == "maker" else fitted.labels(group)


def _sizes(coordinates: Coordinates) -> list[int]:
    return [max(int(coordinates[group].max()) + 1, 0) for group in GROUPS]


def _count(tokens: Any) -> int:
    return -1 if tokens is None else round(tokens)


def _checkpoints(model: np.ndarray, tokens: list[Any]) -> dict[tuple[int, int], int]:
    pairs = [(int(m), _count(t)) for m, t in zip(model, tokens, strict=True)]
    return {pair: i for i, pair in enumerate(dict.fromkeys(pairs))}
