"""The blocks of a table that share nothing, and in each the grid of runs and quantizations that costs least.

Measurements of different suites share nothing, unless a model or a checkpoint is in both. So the covariance of a table
has a block for each set of suites connected in this way (`partition`). Within a block the runs and quantizations of a
grid are taken in factors (`qidbayes.noise.kronecker`); a grid may have holes, and measurements may stand beside it.
Both cost the cube of their number: `best_grid` weighs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from qidbayes.memory import check

RUN = ("log_params", "log_tokens", "suite", "model", "checkpoint")
QUANTIZATION = ("log_bits", "kind")
_STEP = 4e4  # what any step costs, in the units of `_cost`
_FLOAT = 8.0  # bytes
_REMEDY = 'take fewer rows, measured at the same training tokens and widths, or a law with discrepancy = "none"'
_NOWHERE = -2_000_000  # the code of a checkpoint that a hole would be of


@dataclass(frozen=True)
class Shape:
    """How large the parts of a grid are: all that its algebra knows of it but its `arrays`."""

    runs: int
    quantizations: int
    models: int
    rank: int
    holes: int
    others: int

    @property
    def size(self) -> int:
        """The measurements of the block."""
        return self.runs * self.quantizations - self.holes + self.others


@dataclass(frozen=True)
class Grid:
    """A grid of runs and quantizations among the measurements of a block, and those beside it.

    Attributes
    ----------
    rows
        Numbers of the measurements, shape ``(runs, quantizations)``; -1 in a hole; no runs if there is no grid.
    models
        How many models the runs are a grid of, model by model with equal training tokens; 0 if they are none.
    rest
        The measurements beside the grid; shape ``(others,)``.
    run, quantization, beside
        Where the runs, the quantizations and the others stand, by the names `RUN` and `QUANTIZATION`; shapes
        ``(5, runs)``, ``(2, quantizations)`` and ``(7, others)``.
    slopes
        Whether runs differ by more than their locations and the levels of their models and checkpoints.
    """

    rows: np.ndarray
    models: int
    rest: np.ndarray
    run: np.ndarray
    quantization: np.ndarray
    beside: np.ndarray
    slopes: bool = False

    @cached_property
    def holes(self) -> np.ndarray:
        """The runs and the quantizations of the holes; shape ``(2, holes)``."""
        return np.stack(np.nonzero(self.rows < 0))

    @cached_property
    def spread(self) -> "Spread | None":
        """Of runs that are none of models and not all apart: what they share."""
        if self.models or not self.rows.shape[0]:
            return None
        locations, location = np.unique(self.run[:3], axis=1, return_inverse=True)
        _, model = np.unique(self.run[RUN.index("model")], return_inverse=True)
        if self.slopes:
            every, alike = np.eye(len(model)), model.reshape(-1)
            return Spread(every, len(every), self.run[:3], every, (alike[:, None] == alike[None, :]) * 1.0)
        at_location, of_model = (np.eye(codes.max() + 1)[codes.reshape(-1)] for codes in (location, model))
        basis, sizes, _ = np.linalg.svd(np.concatenate([at_location, of_model], axis=1), full_matrices=True)
        rank = int((sizes > 1e-9 * sizes[0]).sum())
        shared = basis[:, :rank].T
        return Spread(basis, rank, locations, shared @ at_location, shared @ of_model @ of_model.T @ shared.T)

    @property
    def rank(self) -> int:
        """How many directions of the runs have more than their checkpoints' effects."""
        return self.spread.rank if self.spread else self.rows.shape[0]

    @property
    def shape(self) -> Shape:
        """The sizes of the grid's parts."""
        runs, quantizations = self.rows.shape
        return Shape(runs, quantizations, self.models, self.rank, self.holes.shape[1], len(self.rest))

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The grid's arrays by name: what its algebra needs beside `shape`.

        Raises
        ------
        InputError
            If what is worked out of them would not fit in memory.
        """
        if not self.models:  # its runs have a basis, from a full singular value decomposition
            check(4 * _FLOAT * float(len(self.rows)) ** 2, f"a grid of {len(self.rows):,} runs", _REMEDY)
        rows, beside = int((self.rows >= 0).sum()) + len(self.rest), len(self.rest)
        check(4 * _FLOAT * float(beside) ** 2, f"{beside:,} of {rows:,} rows beside every grid", _REMEDY)
        found = {
            "rows": np.maximum(self.rows, 0),
            "rest": self.rest,
            "run": self.run,
            "quantization": self.quantization,
            "beside": self.beside,
            "holes": self.holes,
        }
        if self.holes.size:
            found["known"] = (self.rows >= 0).astype(float)
        if self.spread:
            found |= {"basis": self.spread.basis, "locations": self.spread.locations}
            found |= {"to_location": self.spread.to_location, "same": self.spread.same_model}
        return found


@dataclass(frozen=True)
class Spread:
    """Runs by their locations (suite, N, D) and models: what they have beside is the effect of their checkpoint alone.

    Attributes
    ----------
    basis
        Directions of the runs, the first `rank` of them those in which locations and models differ; shape
        ``(runs, runs)``.
    rank
        How many.
    locations
        The locations: log N, log D and the suite; shape ``(3, locations)``.
    to_location, same_model
        The first directions at the locations, shape ``(rank, locations)``, and the matrix of equal models in them.
    """

    basis: np.ndarray
    rank: int
    locations: np.ndarray
    to_location: np.ndarray
    same_model: np.ndarray


@dataclass(frozen=True)
class Block:
    """Measurements that share something with each other, and with no other.

    Attributes
    ----------
    members
        Their numbers; shape ``(measurements,)``.
    grid
        Of the members, as numbers within them.
    """

    members: np.ndarray
    grid: Grid


@dataclass(frozen=True)
class Partition:
    """The rows of a table, block by block."""

    blocks: tuple[Block, ...]

    @cached_property
    def order(self) -> np.ndarray:
        """The rows, those of a block after each other; shape ``(rows,)``."""
        return np.concatenate([block.members for block in self.blocks])

    @cached_property
    def position(self) -> np.ndarray:
        """Where each row is in that order; shape ``(rows,)``."""
        return np.argsort(self.order)

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """How large the parts of each block's grid are."""
        return tuple(block.grid.shape for block in self.blocks)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The grids' `arrays`, by names that begin with the number of the block."""
        return {f"block{i}_{k}": v for i, block in enumerate(self.blocks) for k, v in block.grid.arrays.items()}


def partition(coordinates: Mapping[str, np.ndarray], *, slopes: bool = False) -> Partition:
    """Take a table apart, given where its rows stand, and whether its models have slopes."""
    if not len(coordinates["suite"]):  # nothing that was fitted has to do with what is asked
        return Partition(())
    codes = connected(coordinates)
    order = np.argsort(codes, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
    return Partition(
        tuple(
            Block(rows, best_grid({name: v[rows] for name, v in coordinates.items()}, slopes=slopes)) for rows in parts
        )
    )


def connected(coordinates: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return which measurements share a suite, a model or a checkpoint, directly or through others; ``(rows,)``."""
    codes = [
        np.unique(coordinates[name], return_inverse=True)[1].reshape(-1) for name in ("suite", "model", "checkpoint")
    ]
    found = codes[0]
    while True:
        before = found
        for groups in codes:
            least = np.full(groups.max() + 1, found.max())
            np.minimum.at(least, groups, found)
            found = least[groups]
        if np.array_equal(before, found):
            return found


def best_grid(coordinates: Mapping[str, np.ndarray], *, slopes: bool = False) -> Grid:
    """Return the cheapest grid among those of runs and quantizations, and of models, tokens and quantizations.

    Where models have slopes, their kernel is no product over models and tokens: then it is one of runs.
    """
    total = len(coordinates["suite"])
    _, quantization = np.unique(np.stack([coordinates[n] for n in QUANTIZATION]), axis=1, return_inverse=True)
    quantization = quantization.reshape(-1)
    rows = np.arange(total)[::-1]  # of two at one location the first stays
    _, run = np.unique(coordinates["checkpoint"], return_inverse=True)
    _check_search(coordinates, int(run.max()) + 1, int(quantization.max()) + 1)
    row_at = np.full((run.max() + 1, quantization.max() + 1), -1)
    row_at[run[rows], quantization[rows]] = rows
    row_at = row_at[(row_at >= 0).any(axis=1)]
    row_at = row_at[:, np.argsort(-(row_at >= 0).sum(axis=0), kind="stable")]
    found = [
        (float(total) ** 3, _grid(coordinates, row_at[:0, :0], 0)),
        _of_runs(coordinates, row_at, total, slopes=slopes),
    ]
    found += [] if slopes else _of_models(coordinates, row_at, total)
    return replace(min(found, key=lambda one: one[0])[1], slopes=slopes)


def _check_search(coordinates: Mapping[str, np.ndarray], runs: int, quantizations: int) -> None:
    """Refuse a table whose grids cannot be searched for: of runs, and of models and tokens."""
    models, tokens = (np.unique(coordinates[name]).size for name in ("model", "log_tokens"))
    # What stands where, what is known of it in two orders, and the cost of each choice.
    numbers = 2.0 * runs * quantizations + (2.0 * quantizations + 8.0) * models * tokens
    rows = len(coordinates["model"])
    what = f"the search for a grid among {rows:,} rows of {models:,} models, {tokens:,} training tokens and "
    check(_FLOAT * numbers, f"{what}{quantizations:,} quantizations", _REMEDY)


def _cost(sides: Any, holes: Any, rest: Any, size: Any) -> Any:
    """Return roughly what a gradient costs: eigenvectors four times as much as a Cholesky factor."""
    steps = 1.0 + np.sign(holes) + np.sign(rest)
    return _STEP * steps + 4.0 * sides + (holes**2 + rest**2) * size + holes**3 + rest**3


def _of_runs(
    coordinates: Mapping[str, np.ndarray], row_at: np.ndarray, total: int, *, slopes: bool
) -> tuple[float, Grid]:
    """Take the widths with the most measurements, and of the runs those with the fewest holes there."""
    at = row_at.max(axis=1)
    _, location = np.unique(np.stack([coordinates[n][at] for n in RUN[:3]]), axis=1, return_inverse=True)
    best: tuple[float, np.ndarray] = (np.inf, row_at[:0, :0])
    for width in range(1, row_at.shape[1] + 1):
        have = (row_at[:, :width] >= 0).sum(axis=1)
        order = np.argsort(-have, kind="stable")
        order = order[have[order] > 0]
        runs = np.arange(1.0, len(order) + 1)
        seen = np.cumsum(have[order])
        apart = sum(np.cumsum(_is_first(codes[order])) for codes in (location.reshape(-1), coordinates["model"][at]))
        sides = (runs if slopes else np.minimum(runs, apart)) ** 3 + width**3
        cost = _cost(sides, runs * width - seen, total - seen, runs * width)
        # Where every run is a direction of its own, those beside the grid cost more than those in it.
        least = len(cost) - 1 if slopes else int(np.argmin(cost))
        if cost[least] < best[0]:
            best = float(cost[least]), row_at[np.sort(order[: least + 1]), :width]
    return best[0], _grid(coordinates, best[1], 0)


def _is_first(codes: np.ndarray) -> np.ndarray:
    found = np.zeros(len(codes))
    found[np.unique(codes, return_index=True)[1]] = 1.0
    return found


def _of_models(coordinates: Mapping[str, np.ndarray], row_at: np.ndarray, total: int) -> list[tuple[float, Grid]]:
    """Do the same with models instead of runs, for the tokens of the most measurements."""
    at = row_at.max(axis=1)
    suites, counts = np.unique(coordinates["suite"][at], return_counts=True)
    runs = np.flatnonzero(coordinates["suite"][at] == suites[np.argmax(counts)])
    models, model = np.unique(coordinates["model"][at[runs]], return_inverse=True)
    tokens, token = np.unique(coordinates["log_tokens"][at[runs]], return_inverse=True)
    sizes = coordinates["log_params"][at[runs]]
    size = np.full(len(models), np.nan)
    size[model] = sizes
    if len(models) < 2 or (size[model] != sizes).any():
        return []
    where = np.full((len(models), len(tokens)), -1)
    where[model[::-1], token[::-1]] = runs[::-1]
    cube = np.where(where[:, :, None] >= 0, row_at[where], -1)
    best: tuple[float, Any] = (np.inf, None)
    for width in range(1, row_at.shape[1] + 1):
        have = (cube[:, :, :width] >= 0).sum(axis=2)
        along = np.argsort(-have.sum(axis=0), kind="stable")
        have = np.cumsum(have[:, along], axis=1)  # by how many of the tokens are taken
        order = np.argsort(-have, axis=0, kind="stable")
        seen = np.cumsum(np.take_along_axis(have, order, axis=0), axis=0)
        blocks = np.arange(1.0, len(models) + 1)[:, None]
        length = np.arange(1.0, len(tokens) + 1)[None, :]
        numbers = blocks * length * width
        cost = _cost(blocks**3 + length**3 + width**3, numbers - seen, total - seen, numbers)
        least = np.unravel_index(np.argmin(cost), cost.shape)
        if cost[least] < best[0]:
            chosen = np.sort(order[: least[0] + 1, least[1]]), np.sort(along[: least[1] + 1])
            best = float(cost[least]), (*chosen, width)
    taken_models, taken_tokens, width = best[1]
    rows = cube[np.ix_(taken_models, taken_tokens, np.arange(width))].reshape(-1, width)
    found = _grid(coordinates, rows, len(taken_models))
    run = found.run.copy()
    run[0], run[1] = np.repeat(size[taken_models], len(taken_tokens)), np.tile(tokens[taken_tokens], len(taken_models))
    run[2], run[3] = suites[np.argmax(counts)], np.repeat(models[taken_models], len(taken_tokens))
    return [(best[0], replace(found, run=run))]


def _grid(coordinates: Mapping[str, np.ndarray], rows: np.ndarray, models: int) -> Grid:
    rest = np.setdiff1d(np.arange(len(coordinates["checkpoint"])), rows)
    of_run, of_width = (rows.max(axis=axis) if rows.size else np.zeros(0, dtype=int) for axis in (1, 0))
    run = np.stack([coordinates[name][of_run].astype(float) for name in RUN])
    missing = of_run < 0
    run[RUN.index("checkpoint"), missing] = _NOWHERE - np.arange(missing.sum())
    width = np.stack([coordinates[name][of_width].astype(float) for name in QUANTIZATION])
    beside = np.stack([coordinates[name][rest].astype(float) for name in (*RUN, *QUANTIZATION)])
    return Grid(rows, models, rest, run, width, beside)
