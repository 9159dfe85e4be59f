"""The log density of rows of many families: Woodbury's identity within each suite, and for what all suites share.

Given the effects u that are the same in every suite, suites are independent. Within a suite rows share effects of their
*place* (a checkpoint: its N, its D and its model), of their model in log bits, of their method and of their group size.
So a suite's covariance is that of the rows' own errors, V, and a low rank: B = V + UU', with a column of U for each
effect, in units of its standard deviation; of places the columns of the Cholesky factor of their covariance. With the
shared columns Z in the same units, the rows' covariance is B + ZZ', and for X = (Z, r)

    log|B| = log|V| + log|M|,   X'B⁻¹X = X'V⁻¹X − S'M⁻¹S,   M = 1 + U'V⁻¹U,   S = U'V⁻¹X
    log|B + ZZ'| = log|B| + log|A|,   r'(B + ZZ')⁻¹r = r'B⁻¹r − |A^(-1/2) Z'B⁻¹r|²,   A = 1 + Z'B⁻¹Z

so that a suite of 190 files of six models costs the cube of some 20 effects and not of its rows. Given the rows, u is
normal with precision A and mean A⁻¹Z'B⁻¹r.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qidbayes.noise.family_kernel import NUMBERS, SHARED, SUITE_SCALE, between_places

COORDINATES = ("log_params", "log_tokens", "log_bits", "log_groups")
CODES = ("model", "checkpoint", "method")


@dataclass(frozen=True)
class Bucket:
    """Suites that are padded to one shape, so that one call of a matrix routine serves them.

    Attributes
    ----------
    suites, rows, places, models, methods
        How many suites there are, and the most that one has of the others.
    """

    suites: int
    rows: int
    places: int
    models: int
    methods: int


@dataclass(frozen=True)
class Suites:
    """The rows of a table, suite by suite.

    Attributes
    ----------
    buckets
        The shapes of `members`, which is all that a program knows of it.
    arrays
        ``members_0``, …: the numbers of the rows of each suite of a bucket, −1 where there is none, shape ``(suites,
        rows)``; ``members_place_0``, ``members_model_0``, ``members_method_0``: their places, models and methods,
        counted in each suite; ``suite_places_0``: a row of each place, −1 where there is none, shape ``(suites,
        places)``; the rows' coordinates and codes; ``shared``: Z without its standard deviations, shape ``(rows,
        effects)``, and ``shared_kind``: which of `SHARED` each column has.
    """

    buckets: tuple[Bucket, ...]
    arrays: Mapping[str, np.ndarray]

    @property
    def shapes(self) -> tuple[Bucket, ...]:
        """The buckets, as other noise models call their blocks."""
        return self.buckets

    @property
    def order(self) -> np.ndarray:
        """The rows in the order that the density takes them in: as they are."""
        return np.arange(len(self.arrays["shared"]))

    position = order


def suites(coordinates: Mapping[str, np.ndarray], shared: np.ndarray, kind: np.ndarray) -> Suites:
    """Return the rows suite by suite; suites with similar numbers of rows and of effects are padded to one shape."""
    arrays = {f"at_{name}": np.nan_to_num(coordinates[name]) for name in (*COORDINATES, *CODES, "suite")}
    arrays |= {"shared": shared, "shared_kind": kind}
    at = np.stack([arrays[f"at_{name}"] for name in ("model", "checkpoint", "log_params", "log_tokens")], axis=1)
    waiting = [_Suite(arrays, at, np.flatnonzero(coordinates["suite"] == c)) for c in np.unique(coordinates["suite"])]
    waiting.sort(key=lambda one: len(one.rows) * one.effects)
    buckets: list[Bucket] = []
    while waiting:  # those of at most twice as many rows, and effects, as the least are padded together
        least = waiting[0]
        fits = [len(s.rows) <= 2 * len(least.rows) and s.effects <= 2 * least.effects for s in waiting]
        found = [one for one, fit in zip(waiting, fits, strict=True) if fit]
        waiting = [one for one, fit in zip(waiting, fits, strict=True) if not fit]
        i = len(buckets)
        arrays |= {
            f"members_{i}": _padded([s.rows for s in found]),
            f"suite_places_{i}": _padded([s.at for s in found]),
        }
        for name in ("place", "model", "method"):
            arrays[f"members_{name}_{i}"] = _padded([getattr(s, name) for s in found])
        most = [max(int(getattr(s, name).max()) for s in found) + 1 for name in ("place", "model", "method")]
        buckets.append(Bucket(len(found), arrays[f"members_{i}"].shape[1], *most))
    return Suites(tuple(buckets), arrays)


class _Suite:
    """The rows of a suite, and the places, models and methods of each, counted in the suite."""

    def __init__(self, arrays: Mapping[str, np.ndarray], at: np.ndarray, rows: np.ndarray) -> None:
        self.rows = rows
        _, first, place = np.unique(at[rows], axis=0, return_index=True, return_inverse=True)
        self.at, self.place = rows[first], place.reshape(-1)
        self.model = np.unique(arrays["at_model"][rows], return_inverse=True)[1]
        self.method = np.unique(arrays["at_method"][rows], return_inverse=True)[1]
        self.effects = int(self.place.max() + self.model.max() + 2 * self.method.max())


def _padded(parts: Sequence[np.ndarray]) -> np.ndarray:
    table = np.full((len(parts), max(map(len, parts))), -1)
    for row, part in zip(table, parts, strict=True):
        row[: len(part)] = part
    return table


def numbers(scale: Mapping[str, Any]) -> list[Any]:
    """Return the numbers in the order of `NUMBERS`, and the suites' scales last."""
    return [*(scale[name] for name in NUMBERS), scale[SUITE_SCALE]]


def moments(
    residual: Any, variance: Any, scale: Mapping[str, Any], buckets: Sequence[Bucket], data: Mapping[str, Any], xp: Any
) -> tuple[Any, Any, Any, Any]:
    """Return log|B| + r'B⁻¹r, A and Z'B⁻¹r of the module's text, and the columns' standard deviations.

    Parameters
    ----------
    residual, variance
        Shape ``(rows,)``: what the law leaves over, and the variance of each row's own measurement error.
    scale
        The numbers by name, and the suites' scales.
    buckets, data
        As `suites` has them.
    xp
        The array library: NumPy or `jax.numpy`.
    """
    sd = xp.stack([scale[name] for name in SHARED])[data["shared_kind"]]
    own = variance + (scale[SUITE_SCALE][data["at_suite"]] * scale["sigma"]) ** 2 + 1e-9
    columns = xp.concatenate([data["shared"] * sd, residual[:, None]], axis=1) / xp.sqrt(own)[:, None]
    gram, log_det = columns.T @ columns, xp.log(own).sum()
    for i, bucket in enumerate(buckets):
        rows = data[f"members_{i}"]
        real = (rows >= 0)[:, :, None]
        effects = _effects(i, bucket, scale, data, xp) / xp.sqrt(own[rows])[:, :, None]
        across = xp.swapaxes(xp.where(real, effects, 0.0), -1, -2)
        inner = across @ xp.swapaxes(across, -1, -2) + xp.eye(across.shape[1])
        found = _log_det_and_gram(inner, across @ xp.where(real, columns[rows], 0.0), xp)
        log_det, gram = log_det + found[0], gram - found[1]
    precision = gram[:-1, :-1] + xp.eye(len(sd))
    return log_det + gram[-1, -1], precision, gram[:-1, -1], sd


def _effects(i: int, bucket: Bucket, scale: Mapping[str, Any], data: Mapping[str, Any], xp: Any) -> Any:
    """Return U of the suites of a bucket; shape ``(suites, rows, effects)``."""

    def of(name: str, count: int) -> Any:
        return (data[f"members_{name}_{i}"][:, :, None] == np.arange(count)) * 1.0

    rows, places = data[f"members_{i}"], data[f"suite_places_{i}"]
    own = scale[SUITE_SCALE][data["at_suite"][rows[:, :1]]][:, :, None]
    p, g = (data[f"at_{name}"][rows][:, :, None] for name in ("log_bits", "log_groups"))
    at = {name: data[f"at_{name}"][places] for name in ("log_params", "log_tokens", "model", "checkpoint")}
    both = (places >= 0)[:, :, None] & (places >= 0)[:, None, :]
    covariance = xp.where(both, between_places(scale, at, at, own, xp), xp.eye(bucket.places))
    covariance = covariance + 1e-12 * xp.eye(bucket.places)  # places of one checkpoint may be all but the same
    method = own * of("method", bucket.methods)
    columns = (
        of("place", bucket.places) @ xp.linalg.cholesky(covariance),
        scale["suite_bits_sd"] * p,
        own * scale["model_bits_sd"] * p * of("model", bucket.models),
        scale["method_suite_sd"] * method,
        scale["method_suite_bits_sd"] * p * method,
        scale["suite_group_size_sd"] * g,
    )
    return xp.concatenate(columns, axis=2)


def _log_det_and_gram(blocks: Any, columns: Any, xp: Any) -> tuple[Any, Any]:
    """Return log|M| and S'M⁻¹S, each summed over blocks; see `qidbayes.noise.family_solve`."""
    if xp is np:
        solved = np.linalg.solve(blocks, columns)
        gram = np.einsum("brm,brn->mn", columns, solved)
        return np.linalg.slogdet(blocks)[1].sum(), gram
    from qidbayes.noise.family_solve import log_det_and_gram

    return log_det_and_gram(blocks, columns)


def log_density(
    residual: Any, variance: Any, scale: Mapping[str, Any], buckets: Sequence[Bucket], data: Mapping[str, Any], xp: Any
) -> Any:
    """Return the log density of all rows, every effect and the process integrated out; see `moments`."""
    found, precision, score, _ = moments(residual, variance, scale, buckets, data, xp)
    log_det, known = _log_det_and_gram(precision[None], score[None, :, None], xp)
    found = found + log_det - known[0, 0]
    return -0.5 * (found + residual.shape[0] * np.log(2.0 * np.pi))


def draw_shared(
    residual: Any,
    variance: Any,
    scale: Mapping[str, Any],
    buckets: Sequence[Bucket],
    data: Mapping[str, Any],
    normal: Any,
    xp: Any,
) -> Any:
    """Return a draw of the effects that all suites share given the rows, from standard normals; ``(effects,)``."""
    _, precision, score, sd = moments(residual, variance, scale, buckets, data, xp)
    root = xp.linalg.cholesky(precision)
    middle = xp.linalg.solve(precision, score[:, None])[:, 0]
    return sd * (middle + xp.linalg.solve(root.T, normal[:, None])[:, 0])
