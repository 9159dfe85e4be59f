"""Rows of one block in the order of their tokens or of their sizes, along which the process has a state.

Matérn's kernel of smoothness 5/2 is Markov: given f, f' and f'' at one location of an axis, what comes after it knows
nothing more of what came before (Hartikainen and Särkkä 2010). With a kernel of the other coordinates beside it, the
state is f, f' and f'' at each of the p locations (suite, size, bits, kind) that occur, and rows are taken in windows:
with x the state where the last window ended, whose covariance is that of the prior plus Δ, rows y of the next one have

    cov(y) = K ∘ k(t, t') + G Δ G' + errors = L L'        cov(x₁, y) = c ⊗ K + A Δ G'        V = L⁻¹ cov(y, x₁)
    Δ₁ = A Δ A' − V'V

with A = exp(F·(t₁ − t₀)), the rows of G those of exp(F·(t − t₀)) for f, and c = exp(F·(t₁ − t))·P e₁, P being the
state's covariance a priori. That is exact wherever the rows stand, with any holes, and costs rows · (3p)² operations
where one matrix costs a third of rows³. What models and suites share does not change along the axis: it is added
afterwards, with a column for each group and quantization (Woodbury). Checkpoints are never cut in two by a window.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qidbayes.noise.dense import solved_by_factor
from qidbayes.noise.kernels import SIMILARITY, Coordinates, matern, quantization_kernel

_STATES = 3
_PRIOR = np.array([1.0, 0.0, -1.0 / 3.0])
"""The covariance of f with f, f' and f'', in units of the length over the root of 5."""
_POWERS = np.stack(
    [np.eye(3), [[1, 1, 0], [0, 1, 1], [-1, -3, -2]], 0.5 * np.array([[1, 2, 1], [-1, -2, -1], [1, 2, 1]])]
)
"""exp(Fτ) = exp(−τ)·Σ τⁱ·these: F has one eigenvalue, −1, three times."""
_AXES = {"tokens": "params", "params": "tokens"}
_LEAST = 48
"""Rows of a window, at least: below it, the steps cost more than their operations."""
_OF_WINDOW = 5e6
"""What a window costs beside its operations, in those of `cost`."""


class StateSpace:
    """The rows of a block along one of the axes.

    Parameters
    ----------
    coordinates
        Where they stand; see `qidbayes.noise.kernels.Coordinates`.
    variance
        The variance of each row's own error beside sigma²; shape ``(rows,)``.
    axis
        ``"tokens"`` or ``"params"``.

    Attributes
    ----------
    possible
        Whether each checkpoint is at one location of the axis.
    cost, memory
        Roughly, the operations of one density, as for `qidbayes.noise.gram.Gram`, and the bytes.
    """

    def __init__(self, coordinates: Coordinates, variance: np.ndarray, axis: str) -> None:
        self._length, other = f"length_{axis}", f"log_{_AXES[axis]}"
        self._other = f"length_{_AXES[axis]}"
        at = coordinates[f"log_{axis}"]
        self._order = np.lexsort((coordinates["checkpoint"], at))
        ordered = {name: np.asarray(values)[self._order] for name, values in coordinates.items()}
        self._at, self._variance = at[self._order], variance
        locations = np.stack([ordered[name] for name in ("suite", other, "log_bits", "kind")])
        distinct, location = np.unique(locations, axis=1, return_inverse=True)
        self._location = location.reshape(-1)
        self._locations = dict(zip(("suite", "other", "log_bits", "kind"), distinct, strict=True))
        starts = np.flatnonzero(np.diff(ordered["checkpoint"], prepend=np.nan) != 0)
        self.possible = len(starts) == np.unique(ordered["checkpoint"]).size
        size = max(_LEAST, distinct.shape[1])
        self._windows = _windows(starts, len(at), size)
        self._alone = len(starts) == len(at)  # no checkpoint has two rows
        self._checkpoint, self._quantization = ordered["checkpoint"], {n: ordered[n] for n in ("log_bits", "kind")}
        self._shared = {group: _Shared(ordered, group) for group in ("suite", "model")}
        states, shared = _STATES * distinct.shape[1], sum(one.count for one in self._shared.values())
        rows, largest = float(len(at)), float(max((w.stop - w.start for w in self._windows), default=0))
        self.cost = rows * (2.0 * states**2 + 4.0 * states * (largest + shared) + largest**2 + 60.0 * largest)
        self.cost += len(self._windows) * (_OF_WINDOW + 40.0 * states**2) + 5.0 * float(shared) ** 3
        self.memory = 8.0 * (4.0 * states**2 + 6.0 * largest * (states + shared) + states * shared + 3.0 * shared**2)

    def __call__(self, columns: np.ndarray, scale: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return what `qidbayes.noise.gram.Gram` does, of this block."""
        draws, width = len(scale["sigma"]), columns.shape[-1]
        found, log_determinant = np.empty((draws, width, width)), np.empty(draws)
        for draw in range(draws):
            one = {name: float(values[draw]) for name, values in scale.items()}
            of_draw = columns[draw if len(columns) > 1 else 0]
            found[draw], log_determinant[draw] = self.products(of_draw, self._variance + one["sigma"] ** 2, one)
        return found, log_determinant

    def products(self, columns: np.ndarray, own: np.ndarray, scale: Mapping[str, float]) -> tuple[np.ndarray, float]:
        """Return the inner products and log |C| of one draw, both NaN if C has no factor.

        Parameters
        ----------
        columns, own
            The columns and the variance of each row's error; shapes ``(rows, columns)`` and ``(rows,)``.
        scale
            One number of each name.
        """
        width, columns, own = columns.shape[1], columns[self._order], own[self._order]
        shared = [one for group, one in self._shared.items() if f"{group}_sd" in scale]
        products, log_determinant = self._filtered(columns, own, shared, scale)
        found = products[:width, :width]
        first = width
        between = np.zeros((len(products) - width, len(products) - width))
        for one in shared:
            part = slice(first - width, first - width + one.count)
            between[part, part] = one.covariance(scale)
            first += one.count
        if not np.isfinite(products).all():
            return np.full((width, width), np.nan), np.nan
        inner = np.eye(len(between)) + between @ products[width:, width:]
        sign, log_of_shared = np.linalg.slogdet(inner)
        if sign <= 0:
            return np.full((width, width), np.nan), np.nan
        cross = products[width:, :width]
        found = found - cross.T @ np.linalg.solve(inner, between @ cross)
        return 0.5 * (found + found.T), log_determinant + float(log_of_shared)

    def _filtered(
        self, columns: np.ndarray, own: np.ndarray, shared: Sequence["_Shared"], scale: Mapping[str, float]
    ) -> tuple[np.ndarray, float]:
        """Return the products of columns and groups, and log |C|, without what suites and models share."""
        width = columns.shape[1] + sum(one.count for one in shared)
        near = scale["smooth_sd"] ** 2 * self._between_locations(scale)
        if self._alone:
            own = own + scale.get("checkpoint_sd", 0.0) ** 2
        at = self._at * (np.sqrt(5.0) / scale[self._length])
        count = len(near)
        change, mean = np.zeros((_STATES * count, _STATES * count)), np.zeros((_STATES, count, width))
        products, log_determinant = np.zeros((width, width)), 0.0
        before = at[0] if len(at) else 0.0
        for window in self._windows:
            location, when = self._location[window], at[window]
            end = when[-1]
            ahead, behind = _step(when - before)[:, 0], _step(end - when) @ _PRIOR  # (rows, 3) each
            known = ahead[:, 0, None] * change[location]
            for i in (1, 2):
                known += ahead[:, i, None] * change[i * count + location]
            known = known.reshape(-1, _STATES, count)
            of_rows = near[location]
            among = of_rows[:, location]
            among *= matern((when[:, None] - when[None, :]) / np.sqrt(5.0), np)
            for i in range(_STATES):
                among += ahead[:, i, None] * known[:, i, :].take(location, axis=1).T
            if not self._alone and "checkpoint_sd" in scale:
                among += self._within_checkpoints(window, scale)
            among.flat[:: len(when) + 1] += own[window]
            of_window = np.concatenate([columns[window], *(one.columns(window) for one in shared)], axis=1)
            residual = of_window - np.einsum("ri,irc->rc", ahead, mean[:, location])
            step = _step(end - before)
            onward = np.matmul(step, known) + behind[:, :, None] * of_rows[:, None, :]
            solved, log_of_window = solved_by_factor(
                among, np.concatenate([onward.reshape(len(when), -1), residual], axis=1)
            )
            log_determinant += log_of_window
            gain, reduced = solved[:, : _STATES * count], solved[:, _STATES * count :]
            products += reduced.T @ reduced
            change = _moved(step, _moved(step, change, count).T, count)
            change -= gain.T @ gain
            mean = (step @ mean.reshape(_STATES, -1)).reshape(mean.shape) + (gain.T @ reduced).reshape(mean.shape)
            before = end
        return products, log_determinant

    def _between_locations(self, scale: Mapping[str, float]) -> np.ndarray:
        suite, other = self._locations["suite"], self._locations["other"]
        found = matern((other[:, None] - other[None, :]) / scale[self._other], np)
        return np.asarray(found * (suite[:, None] == suite[None, :]) * _alike(scale, self._locations))

    def _within_checkpoints(self, window: slice, scale: Mapping[str, float]) -> np.ndarray:
        codes = self._checkpoint[window]
        quantization = {name: values[window] for name, values in self._quantization.items()}
        return np.asarray(
            scale["checkpoint_sd"] ** 2 * (codes[:, None] == codes[None, :]) * _alike(scale, quantization)
        )


class _Shared:
    """The effects of suites or of models, one for each of its quantizations."""

    def __init__(self, coordinates: Coordinates, group: str) -> None:
        distinct, code = np.unique(
            np.stack([coordinates[n] for n in (group, "log_bits", "kind")]), axis=1, return_inverse=True
        )
        self.count = distinct.shape[1]
        self._code = code.reshape(-1)
        self._name = f"{group}_sd"
        self._same = distinct[0][:, None] == distinct[0][None, :]
        self._quantization = dict(zip(("log_bits", "kind"), distinct[1:], strict=True))

    def columns(self, window: slice) -> np.ndarray:
        return np.asarray(self._code[window, None] == np.arange(self.count), dtype=float)

    def covariance(self, scale: Mapping[str, float]) -> np.ndarray:
        return np.asarray(scale[self._name] ** 2 * self._same * _alike(scale, self._quantization))


def cheapest(coordinates: Coordinates, variance: np.ndarray) -> StateSpace | None:
    """Return the rows along the axis that costs less; None if a checkpoint is at several locations of both."""
    both = [one for one in (StateSpace(coordinates, variance, axis) for axis in _AXES) if one.possible]
    return min(both, key=lambda one: one.cost, default=None)


def _windows(starts: np.ndarray, rows: int, size: int) -> list[slice]:
    """Cut rows into windows of about a size, at starts of checkpoints only."""
    found, first = [], 0
    while first < rows:
        later = starts[starts >= first + size]
        last = int(later[0]) if len(later) else rows
        found.append(slice(first, last))
        first = last
    return found


def _step(apart: Any) -> np.ndarray:
    """Return exp(F·τ) for each τ; shape ``(…, 3, 3)``."""
    apart = np.asarray(apart)[..., None, None]
    return np.asarray(np.exp(-apart) * (_POWERS[0] + apart * _POWERS[1] + apart**2 * _POWERS[2]))


def _moved(step: np.ndarray, matrix: np.ndarray, count: int) -> np.ndarray:
    return np.asarray((step @ matrix.reshape(_STATES, -1)).reshape(_STATES * count, _STATES * count))


def _alike(scale: Mapping[str, float], coordinates: Coordinates) -> Any:
    return quantization_kernel(scale, coordinates, coordinates, np) if SIMILARITY in scale else 1.0
