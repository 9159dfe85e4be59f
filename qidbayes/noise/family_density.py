"""The log density of rows of many families: a matrix for each suite, and what all share by Woodbury's identity.

Given the effects u that are the same in every suite, suites are independent. With a row's shared columns Z, in units of
their standard deviations, and B the block-diagonal covariance of the rest, the rows' covariance is B + ZZ', and

    log|B + ZZ'| = log|B| + log|A|,   r'(B + ZZ')⁻¹r = r'B⁻¹r − |A^(-1/2) Z'B⁻¹r|²,   A = 1 + Z'B⁻¹Z

so that a table of 1,200 rows costs the cubes of its suites and not its own. Given the rows, u is normal with precision
A and mean A⁻¹Z'B⁻¹r.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qidbayes.noise.family_kernel import NUMBERS, SHARED, SUITE_SCALE, within_suite

COORDINATES = ("log_params", "log_tokens", "log_bits", "log_groups")
CODES = ("model", "checkpoint", "method")


@dataclass(frozen=True)
class Bucket:
    """Suites whose rows are padded to one number, so that one call of a matrix routine serves them."""

    suites: int
    rows: int


@dataclass(frozen=True)
class Suites:
    """The rows of a table, suite by suite.

    Attributes
    ----------
    buckets
        The shapes of `members`, which is all that a program knows of it.
    arrays
        ``members_0``, …: the numbers of the rows of each suite of a bucket, −1 where there is none, shape ``(suites,
        rows)``; ``suite_0``, …: the suites' codes; the rows' coordinates and codes; ``shared``: Z without its standard
        deviations, shape ``(rows, effects)``, and ``shared_kind``: which of `SHARED` each column has.
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
    """Return the rows suite by suite; suites of similar numbers of rows are padded to one."""
    members = sorted(
        ((int(code), np.flatnonzero(coordinates["suite"] == code)) for code in np.unique(coordinates["suite"])),
        key=lambda one: len(one[1]),
    )
    arrays = {f"at_{name}": np.nan_to_num(coordinates[name]) for name in (*COORDINATES, *CODES)}
    arrays |= {"shared": shared, "shared_kind": kind}
    buckets: list[Bucket] = []
    while members:  # those of at most twice as many rows as the fewest are padded together
        found = [one for one in members if len(one[1]) <= 2 * len(members[0][1])]
        members = members[len(found) :]
        table = np.full((len(found), len(found[-1][1])), -1)
        for row, (_, rows) in zip(table, found, strict=True):
            row[: len(rows)] = rows
        arrays |= {f"members_{len(buckets)}": table, f"suite_{len(buckets)}": np.array([code for code, _ in found])}
        buckets.append(Bucket(*table.shape))
    return Suites(tuple(buckets), arrays)


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
    columns = xp.concatenate([data["shared"] * sd, residual[:, None]], axis=1)
    gram, log_det = xp.zeros((columns.shape[1], columns.shape[1])), 0.0
    for i, bucket in enumerate(buckets):
        rows = data[f"members_{i}"]
        real = rows >= 0
        suite_scale = scale[SUITE_SCALE][data[f"suite_{i}"]]
        coordinates = {name: data[f"at_{name}"][rows] for name in (*COORDINATES, *CODES)}
        both = real[:, :, None] & real[:, None, :]
        covariance = within_suite(scale, coordinates, coordinates, suite_scale[:, None, None], xp)
        own = variance[rows] + (suite_scale[:, None] * scale["sigma"]) ** 2 + 1e-9
        diagonal = xp.where(real, own, 1.0)[:, :, None] * xp.eye(bucket.rows)
        blocks = xp.where(both, covariance, 0.0) + diagonal
        found = _log_det_and_gram(blocks, xp.where(real[:, :, None], columns[rows], 0.0), xp)
        log_det, gram = log_det + found[0], gram + found[1]
    precision = gram[:-1, :-1] + xp.eye(len(sd))
    return log_det + gram[-1, -1], precision, gram[:-1, -1], sd


def _log_det_and_gram(blocks: Any, columns: Any, xp: Any) -> tuple[Any, Any]:
    """Return log|B| and X'B⁻¹X, each summed over blocks; see `qidbayes.noise.family_solve`."""
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
