"""all that the model of a law's rows may know but the values of its arrays: one hashable description.

What is not in it reaches a compiled program as an argument. So the description is a key that leaves nothing out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from qidbayes.infer import measurement_error, pooling
from qidbayes.infer.inputs import Inputs
from qidbayes.infer.problem import Problem
from qidbayes.law.law import Law, Noise
from qidbayes.law.prior import Prior
from qidbayes.noise.model import NoiseModel, noise_model


@dataclass(frozen=True)
class Array:
    """An array that the program takes, by its shape and type."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    def blank(self) -> np.ndarray:
        """Return one without data."""
        return np.zeros(self.shape, self.dtype)


@dataclass(frozen=True)
class Grouping:
    """A level of shared effects: its name, how many groups it has of how many members, and whether it is regular."""

    name: str
    size: int
    members: int
    regular: bool


@dataclass(frozen=True)
class ModelSpec:
    """What a model is made from, and nothing else.

    Two sets of rows with equal descriptions differ in the values of their arrays alone, and can share a program.

    Attributes
    ----------
    equation, define, priors, reference, family, discrepancy
        As in the law; of the reference only which covariates have one, since where it is, is in the data.
    groups
        How many values each parameter has; None for one that is not by group.
    errors
        The priors of what scatters around the law, by the names in the model.
    vectors
        Standard normals beside them that the density takes, by name, and how many.
    levels
        The noise groups from the inside out, where there is no discrepancy.
    blocks
        The shapes of the blocks that rows under a discrepancy fall into; None without one.
    power_prior
        Which of `errors` have their prior from another fit, as all parameters have then; None without one.
    arrays
        What the program takes.
    """

    equation: str
    define: tuple[tuple[str, str], ...]
    priors: tuple[tuple[str, Prior], ...]
    reference: tuple[str, ...]
    family: str
    discrepancy: str
    groups: tuple[int | None, ...]
    errors: tuple[tuple[str, Prior], ...]
    vectors: tuple[tuple[str, int], ...]
    levels: tuple[Grouping, ...]
    blocks: tuple[Any, ...] | None
    power_prior: tuple[str, ...] | None
    arrays: tuple[Array, ...]

    @cached_property
    def law(self) -> Law:
        """The law, as far as it is described."""
        groups = () if self.family == "student_t" else ("model", "checkpoint")
        return Law(
            self.equation,
            priors=dict(self.priors),
            define=dict(self.define),
            reference=dict.fromkeys(self.reference, 1.0),
            noise=Noise(groups=groups, family=self.family, discrepancy=self.discrepancy),
        )

    @cached_property
    def noise(self) -> NoiseModel:
        """How rows scatter around the law."""
        return noise_model(self.law, [name.removesuffix("_sd") for name, _ in self.errors])

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What the sampler's variables are called, in the model's order."""
        law = self.law
        found: list[str] = []
        for name, prior in law.priors.items():
            sampled, population = law.sampled_name(name), pooling.offset_name(law.population_name(name))
            pooled = (population, law.spread_name(name), pooling.offset_name(sampled))
            found += pooled if prior.pooled else (sampled,)
        found += [name for name, _ in (*self.errors, *self.vectors)]
        return (*found, measurement_error.NAME) if self.count("latent_row") else tuple(found)

    @cached_property
    def buckets(self) -> tuple[Any, ...]:
        """The shapes of suites, as `qidbayes.noise.family_density` names them."""
        return self.blocks or ()

    def count(self, name: str) -> int:
        """Return the length of an array, 0 if the program takes none of that name."""
        return next((array.shape[0] for array in self.arrays if array.name == name), 0)


def describe(rows: Inputs, arrays: Mapping[str, np.ndarray]) -> ModelSpec:
    """Return the description of the rows' program, given what `model_data` says of it."""
    law = rows.law
    groups = zip(law.priors.values(), Problem(rows).sizes, strict=True)
    return ModelSpec(
        equation=law.equation,
        define=tuple(law.define.items()),
        priors=tuple(law.priors.items()),
        reference=tuple(law.reference),
        family=law.noise.family,
        discrepancy=law.noise.discrepancy,
        # How many groups there are is part of the program only where it works on rows.
        groups=tuple(size if prior.by else None for prior, size in groups),
        errors=tuple(rows.errors.items()),
        vectors=tuple(rows.vectors.items()),
        levels=tuple(
            Grouping(level.name, *((level.size, len(level.parent)) if "root" not in arrays else (0, 0)), level.regular)
            for level in rows.levels
        ),
        blocks=rows.partition.shapes if rows.noise.by_draw else None,
        power_prior=tuple(n for n in rows.errors if n in rows.power_prior.sizes) if rows.power_prior else None,
        arrays=tuple(Array(name, values.shape, str(values.dtype)) for name, values in arrays.items()),
    )
