"""What the fitted rows of many families say of new measurements, given each draw of what all suites share."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from qidbayes.noise.family_kernel import SHARED, SUITE_SCALE, USUAL, Coordinates, at_itself, new_scales, within_suite
from qidbayes.noise.suite_rows import SuiteRows

_AT_ONCE = 2_000_000
"""Numbers in a matrix that is held at once: 16 MB, which memory is found for in half the time that 240 MB takes."""
_KINDS = ("suite", "model", "checkpoint", "method")


@dataclass(frozen=True)
class FamilyResiduals:
    """See `qidbayes.noise.model.Conditioned`.

    Attributes
    ----------
    scale
        The draws of each number, shape ``(draws,)``, and of the suites' scales, ``(draws, suites)``.
    effect
        The draws of the effects that all suites share, shape ``(draws, effects)``.
    shared, kind
        The columns of what is asked, and which of `SHARED` each column has.
    known
        For each fitted suite that is asked about: where its rows stand, what the law and the shared effects leave over
        of them, shape ``(draws, rows)``, and the variance of their own errors, sigma² in it.
    """

    scale: Mapping[str, np.ndarray]
    effect: np.ndarray
    shared: np.ndarray
    kind: np.ndarray
    known: Mapping[int, tuple[Coordinates, np.ndarray, np.ndarray]]

    def at(self, asked: Coordinates) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance at each measurement; shapes ``(draws, rows)``."""
        mean = self.effect @ self.shared.T
        own = self._of_suite(asked["suite"])
        variance = self._new_shared(asked, asked, diagonal=True)
        scale = {name: values[:, None] for name, values in self.scale.items() if values.ndim == 1}
        variance = variance + at_itself(scale, _lifted(asked), own)
        # sigma² is added by who asks; a suite's own scale makes it more or less.
        variance = variance + (own**2 - 1.0) * scale["sigma"] ** 2
        for suite in self.known:
            at = np.flatnonzero(asked["suite"] == suite)
            here = {name: values[..., at] for name, values in asked.items()}
            for part, (solved, weights) in self._solved(suite, here):
                mean[part[:, None], at] += np.einsum("drq,dr->dq", weights, solved)
                variance[part[:, None], at] -= np.square(weights).sum(axis=1)
        return mean, variance

    def blocks(self, asked: Coordinates, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and covariance of blocks: ``(draws, blocks, rows)`` and ``(draws, blocks, rows, rows)``."""
        draws, width = len(self.effect), len(asked["suite"]) // count
        mean = (self.effect @ self.shared.T).reshape(draws, count, width)
        found = np.empty((draws, count, width, width))
        scale = {name: values[:, None, None] for name, values in self.scale.items() if values.ndim == 1}
        for i in range(count):
            part = slice(i * width, (i + 1) * width)
            here = {name: values[..., part] for name, values in asked.items()}
            own = self._of_suite(here["suite"])
            same = here["suite"][:, None] == here["suite"][None, :]
            lone = _lifted(here)
            bare, full = (within_suite(scale, lone, lone, z, np) for z in (0.0, 1.0))
            within = same * (bare + own[:, :, None] * own[:, None, :] * (full - bare))
            within = within + (own**2 - 1.0)[:, :, None] * scale["sigma"] ** 2 * np.eye(width)
            found[:, i] = within + self._new_shared(here, here)
            for suite in self.known:
                at = np.flatnonzero(here["suite"] == suite)
                if at.size:
                    asked_of = {name: values[..., at] for name, values in here.items()}
                    for draw, (solved, weights) in self._solved(suite, asked_of):
                        mean[draw[:, None], i, at] += np.einsum("drq,dr->dq", weights, solved)
                        taken = np.einsum("drq,drs->dqs", weights, weights)
                        found[np.ix_(draw, [i], at, at)] -= taken[:, None]
        return mean, found

    def of_one_suite(self, asked: Coordinates, law: np.ndarray, own: np.ndarray, root: np.ndarray) -> SuiteRows:
        """Return measurements of one suite with what nobody knows of them left open: see `SuiteRows`.

        Parameters
        ----------
        asked
            Where they stand; their methods and data sets have codes.
        law
            The logarithm of the law; shape ``(draws, rows)``.
        own
            The variance of each measurement's own error beside sigma²; shape ``(rows,)`` or ``(draws, rows)``.
        root
            What the shared effects are beside `effect`: this times standard normals; shape ``(draws, effects,
            normals)``. Of a suite that was fitted, no fitted row may depend on it.
        """
        columns = self.shared @ root
        fixed = columns @ np.swapaxes(columns, 1, 2) + own[..., None] * np.eye(own.shape[-1])
        sigma = self.scale["sigma"][:, None, None] ** 2 * np.eye(own.shape[-1])
        if int(asked["suite"][0]) in self.known:
            mean, within = self.blocks(asked, 1)
            fixed = fixed + within[:, 0] + sigma
            return SuiteRows(law + mean[:, 0], np.zeros_like(fixed), fixed, columns, None)
        scale = {name: values[:, None, None] for name, values in self.scale.items() if values.ndim == 1}
        lone = _lifted(asked)
        bare, full = (within_suite(scale, lone, lone, z, np) for z in (0.0, 1.0))
        mean = law + self.effect @ self.shared.T
        return SuiteRows(mean, fixed + bare, full - bare + sigma, columns, self.scale["suite_scale_sd"])

    def between(self, asked: Coordinates, one: Coordinates) -> np.ndarray:
        """Return the covariance with one measurement, the mean over the draws; shape ``(rows,)``."""
        scale = {name: values[:, None, None] for name, values in self.scale.items() if values.ndim == 1}
        a, b = _lifted(asked), _lifted(one)
        bare, full = (within_suite(scale, a, b, z, np) for z in (0.0, 1.0))
        own = self._of_suite(asked["suite"])[:, :, None] * self._of_suite(one["suite"])[:, None, :]
        same = asked["suite"][:, None] == one["suite"][None, :]
        found = (same * (bare + own * (full - bare)) + self._new_shared(asked, one))[:, :, 0]
        suite = int(one["suite"][0])
        at = np.flatnonzero(asked["suite"] == suite)
        if suite in self.known and at.size:
            both = {name: np.concatenate([values[..., at], one[name]], axis=-1) for name, values in asked.items()}
            for draw, (_, weights) in self._solved(suite, both):
                found[draw[:, None], at] -= np.einsum("drq,dr->dq", weights[:, :, :-1], weights[:, :, -1])
        return np.asarray(found.mean(axis=0))

    def _of_suite(self, codes: np.ndarray) -> np.ndarray:
        """Return λ of each measurement's suite, the same for all new ones; shape ``(draws, rows)``."""
        every = np.concatenate([self.scale[SUITE_SCALE], self._new_scale[:, None]], axis=1)
        return every[:, np.where(codes >= 0, codes, every.shape[1] - 1)]

    @cached_property
    def _new_scale(self) -> np.ndarray:
        return new_scales(self.scale["suite_scale_sd"])

    def _new_shared(self, asked: Coordinates, one: Coordinates, *, diagonal: bool = False) -> np.ndarray:
        """Return the covariance that comes from methods, data sets and makers that were not fitted."""

        def each(name: str) -> tuple[np.ndarray, np.ndarray]:
            return (asked[name], one[name]) if diagonal else (asked[name][:, None], one[name][None, :])

        sds = {name: self.scale[name].reshape((-1,) + (1,) * (1 if diagonal else 2)) for name in SHARED}
        (m, m2), (w, w2), (p, p2) = each("method"), each("dataset"), each("log_bits")
        method, dataset = (m == m2) & (m < 0), (w == w2) & (w < 0)
        (a, a2) = each("maker")
        maker = (a == a2) & (a < 0) & (a > USUAL)
        of_method = sds["method_sd"] ** 2 + sds["method_bits_sd"] ** 2 * p * p2
        of_method = of_method + sds["method_curve_sd"] ** 2 * (p * p2) ** 2
        of_maker = sds["maker_sd"] ** 2 + sds["maker_bits_sd"] ** 2 * p * p2
        return np.asarray(method * of_method + dataset * sds["dataset_sd"] ** 2 + maker * of_maker)

    def _solved(self, suite: int, asked: Coordinates):  # type: ignore[no-untyped-def]
        """Yield, for some draws after others, L⁻¹r and L⁻¹K of a suite's rows with what is asked."""
        coordinates, residual, variance = self.known[suite]
        rows, draws = residual.shape[1], len(residual)
        at_once = max(1, _AT_ONCE // (rows * (rows + len(asked["suite"]))))
        for first in range(0, draws, at_once):
            part = np.arange(first, min(draws, first + at_once))
            scale = {name: v[part, None, None] for name, v in self.scale.items() if v.ndim == 1}
            own = self.scale[SUITE_SCALE][part, suite][:, None, None]
            mine, theirs = _lifted(coordinates, part), _lifted(asked, part)
            covariance = within_suite(scale, mine, mine, own, np)
            error = variance[part] + (own[:, :, 0] ** 2 - 1.0) * scale["sigma"][:, :, 0] ** 2 + 1e-9
            root = np.linalg.cholesky(covariance + error[:, :, None] * np.eye(rows))
            cross = within_suite(scale, mine, theirs, own, np)
            found = np.linalg.solve(root, np.concatenate([cross, residual[part][:, :, None]], axis=2))
            yield part, (found[:, :, -1], found[:, :, :-1])


def _lifted(coordinates: Coordinates, part: np.ndarray | slice = slice(None)) -> dict[str, np.ndarray]:
    """Return coordinates with a first dimension of draws, of those that differ by draw some of them."""
    return {name: values[part] if values.ndim == 2 else values[None] for name, values in coordinates.items()}
