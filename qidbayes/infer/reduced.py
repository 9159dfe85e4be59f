"""What the rows of a table reduce to where the discrepancy is modelled: as few places as the density needs.

Rows of one place (one run, one quantization, the same law) enter by their mean, their number and how they scatter.
Places then fall into blocks that share nothing (`qidbayes.noise.grid`). Copies of a block, suites that stand
alike, have one covariance C; where the law is the same in all of them, the k residuals r_s of n places enter by

    Σ r_s' C⁻¹ r_s = k·r̄' C⁻¹ r̄ + Σ d_i' C⁻¹ d_i

with r̄ their mean and at most n columns d_i, from the triangular factor of the residuals less their mean, which are of
the data alone; of a grid without gaps the sum is the trace of C⁻¹ Σ d_i d_i', which costs less than many columns. So a
table of any number of suites and repetitions costs what its distinct places cost.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qidbayes.noise.gp_density import Part
from qidbayes.noise.grid import Block, blocks
from qidbayes.noise.kronecker import products
from qidbayes.noise.replicates import replicates
from qidbayes.table.groups import dimension

if TYPE_CHECKING:
    from qidbayes.infer.design import Design

_FEW = 30
"""So many columns cost less than their products."""


@dataclass(frozen=True)
class Reduced:
    """Places, and what is left to say of the rows when their means are known.

    Attributes
    ----------
    first
        A row of each place, which stands for it; shape ``(places,)``.
    of_row
        The place of each row, -1 if it is in `deviations` only; shape ``(rows,)``.
    log_response, variance, count
        Means over the rows of a place, and how many they are; shape ``(places,)``.
    blocks
        Of the places; those of a block follow each other.
    copies
        How many copies of a block its places are the mean of.
    deviations
        For each block the columns d_i; shape ``(columns, places of a copy)``.
    within
        Of rows around their means: variance, degrees of freedom, sum of squares and log number of rows; shape
        ``(4, variances)``.
    """

    first: np.ndarray
    of_row: np.ndarray
    log_response: np.ndarray
    variance: np.ndarray
    count: np.ndarray
    blocks: tuple[Block, ...]
    copies: tuple[int, ...]
    deviations: tuple[np.ndarray, ...]
    within: np.ndarray

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What the density of the places takes, by name."""
        found = {"count": self.count.astype(float)} | ({"within": self.within} if self.within.size else {})
        for i, block in enumerate(self.blocks):
            columns, parts = self.deviations[i], block.grid.arrays
            if self.by_products(i):
                parts["scatter"] = products(columns[:, block.grid.rows], block.grid)
            else:
                parts["deviations"] = columns
            found |= {f"block{i}_{name}": values for name, values in parts.items()}
        return found

    def by_products(self, block: int) -> bool:
        """Whether a block's deviations are many and of nothing but a grid without holes."""
        grid = self.blocks[block].grid
        return bool(len(self.deviations[block]) > _FEW and grid.rows.size and not grid.holes.size + grid.rest.size)

    @property
    def parts(self) -> tuple[Part, ...]:
        """What the density knows of the blocks but their `arrays`."""
        return tuple(
            Part(block.grid.shape, copies, len(block.members), None if self.by_products(i) else len(columns))
            for i, (block, copies, columns) in enumerate(zip(self.blocks, self.copies, self.deviations, strict=True))
        )


def reduce(design: "Design", noisy: np.ndarray) -> Reduced:
    """Reduce the rows of a design; `noisy` ones, whose true response is sampled, are not averaged."""
    by = {dimension(prior.by) for prior in design.law.priors.values() if prior.by}
    law_keys = [*design.log_covariates.values(), *(design.index[dim] for dim in sorted(by))]
    cells = design.cells
    same = replicates([*cells.values(), *law_keys], noisy)
    count, mean = same.count, same.mean(design.log_response)
    within = _within(design.log_response - mean[same.of_row], same.mean(design.variance), count, same.of_row)
    variance = same.mean(design.variance)
    found = blocks({name: values[same.first] for name, values in cells.items()}, count)
    places, kept, copies, deviations = [], [], [], []
    start = 0
    for block in found:
        members, alone = block.members, np.zeros((0, block.members.shape[1]))
        alike = len(members) > 1 and not noisy[same.first[members]].any()
        if alike and all((key[same.first[members]] == key[same.first[members[0]]]).all() for key in law_keys):
            around = mean[members] - mean[members].mean(axis=0)
            mean[members[0]], variance[members[0]] = mean[members].mean(axis=0), variance[members].mean(axis=0)
            deviations.append(np.linalg.qr(around, mode="r"))
            members = members[:1]
        else:
            deviations.append(alone)
        copies.append(len(block.members))
        places.append(members.reshape(-1))
        kept.append(Block(start + np.arange(members.size).reshape(members.shape), block.grid))
        start += members.size
    order = np.concatenate(places)
    number = np.full(len(count), -1)
    number[order] = np.arange(len(order))
    return Reduced(
        same.first[order],
        number[same.of_row],
        mean[order],
        variance[order],
        count[order],
        tuple(kept),
        tuple(copies),
        tuple(deviations),
        within,
    )


def _within(around: np.ndarray, variance: np.ndarray, count: np.ndarray, of_row: np.ndarray) -> np.ndarray:
    square = np.bincount(of_row, around**2, minlength=len(count))
    repeated = count > 1
    unique, code = np.unique(variance[repeated], return_inverse=True)
    sums = [np.bincount(code, of[repeated], minlength=len(unique)) for of in (count - 1.0, square, np.log(count))]
    return np.stack([unique, *sums])
