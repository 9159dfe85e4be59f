"""What is derived from a `Design`: groups, noise model, priors of the noise, blocks of rows, arrays of the model."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from qidbayes.infer import measurement_error, pooling
from qidbayes.infer.design import Design, design, parameter_groups
from qidbayes.infer.power_prior import PowerPrior
from qidbayes.infer.problem import Problem
from qidbayes.law import Law, Prior
from qidbayes.noise.coordinates import distinct
from qidbayes.noise.families import Families
from qidbayes.noise.family_density import Suites
from qidbayes.noise.family_kernel import SUITE_SCALE
from qidbayes.noise.gaussian_process import GaussianProcess
from qidbayes.noise.grid import Partition
from qidbayes.noise.kernels import Coordinates
from qidbayes.noise.model import NoiseModel, noise_model
from qidbayes.noise.random_effects import Level
from qidbayes.noise.unknown_tokens import UNKNOWN
from qidbayes.posterior.contraction import noise_priors
from qidbayes.table.groups import dimension


@dataclass(frozen=True)
class Inputs(Design):
    """A design, and what is derived from it.

    Attributes
    ----------
    power_prior
        The prior, where it is another fit's posterior.
    """

    power_prior: PowerPrior | None = None

    @cached_property
    def levels(self) -> tuple[Level, ...]:
        """The law's noise groups from the inside out: the members of the first are rows, then the groups before.

        A level whose groups have one member each has nothing to share and is left out.
        """
        if self.noise.by_draw:
            return ()  # there the groups are part of the process
        found = []
        rows = np.arange(len(self.log_response))
        for group in self.noise.groups:
            found.append(Level(group, self.index[group][rows], len(self.coords[group])))
            _, rows = np.unique(self.index[group], return_index=True)
        return tuple(found)

    @cached_property
    def centring(self) -> dict[str, np.ndarray]:
        """For each partially pooled parameter, how its groups are sampled; see `qidbayes.infer.pooling`."""
        return pooling.centring(Problem(self))

    @cached_property
    def noise(self) -> NoiseModel:
        """How the rows scatter around the law: with effects of those groups that any two rows share."""
        several = (g for g in self.law.noise.groups if len(self.coords[g]) < len(self.log_response))
        return noise_model(self.law, list(several))

    @cached_property
    def coordinates(self) -> Coordinates:
        """The coordinates of the rows that the noise model goes by."""
        return self.noise.rows(self.frame)

    @cached_property
    def partition(self) -> Partition | Suites:
        """The blocks of rows that the discrepancy's density goes by."""
        assert isinstance(self.noise, Families | GaussianProcess)
        return self.noise.partition(self.coordinates)

    @cached_property
    def errors(self) -> dict[str, Prior]:
        """The priors of what scatters around the law, by the names in the model."""
        priors = noise_priors(self.law)
        return {name: priors[name] for name in self.noise.names}

    @cached_property
    def unknown(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """The rows whose tokens nobody tells, which model each is of, shape ``(2, rows)``, and these models."""
        if "D" not in self.law.covariates:
            return np.zeros((2, 0), dtype=np.int64), ()
        rows = np.flatnonzero(self.frame["tokens"].is_null().to_numpy())
        models = self.frame["model"][rows].to_list()
        return np.stack([rows, distinct(models)]), tuple(dict.fromkeys(models))

    @cached_property
    def vectors(self) -> dict[str, int]:
        """The standard normals that the density takes beside the numbers, and how many."""
        suites = {SUITE_SCALE: int(self.coordinates["suite"].max()) + 1} if isinstance(self.noise, Families) else {}
        unknown = {UNKNOWN: len(self.unknown[1])} if self.unknown[1] else {}
        return suites | unknown

    @cached_property
    def latent(self) -> Mapping[str, np.ndarray]:
        """The arrays of `qidbayes.infer.measurement_error`; empty where no row is too noisy for a logarithm."""
        return measurement_error.data(self.response, self.error, self.levels, measurement_error.limit(self.law))

    @property
    def row_data(self) -> dict[str, np.ndarray]:
        """The arrays a model of the rows is given, by the names they have there; where the discrepancy is modelled, the
        rows are in the order of the blocks.
        """
        arrays = {"log_response": self.log_response, "variance": self.variance, **self.latent}
        of_row = {f"log_{c}": values for c, values in self.log_covariates.items()}
        of_row |= {f"{d}_of_row": self.index[d] for d in dict.fromkeys(map(dimension, parameter_groups(self.law)))}
        if not self.noise.by_draw:
            parents = {f"{level.name}_parent": level.parent for level in self.levels if not level.regular}
            return arrays | of_row | parents
        parts = self.partition
        of_row |= {"log_response": self.log_response, "variance": self.variance}
        if self.unknown[1]:
            arrays |= {"unknown_row": self.unknown[0][0], "unknown_of": self.unknown[0][1]}
            arrays["log_reference_tokens"] = np.array(self.law.log_reference.get("D", 0.0))
        if self.latent:
            arrays["latent_row"] = parts.position[self.latent["latent_row"]]
        return arrays | {name: values[parts.order] for name, values in of_row.items()} | dict(parts.arrays)


def inputs(table: pl.DataFrame, law: Law) -> Inputs:
    """Return the rows of a table that a law is about; see `qidbayes.infer.design.design`."""
    return Inputs(**vars(design(table, law)))
