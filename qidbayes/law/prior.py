"""Prior distributions, by the names and arguments PyMC gives them."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qidbayes.errors import InputError, nearest

# Each family's arguments, and which of them must be positive.
FAMILIES: dict[str, tuple[tuple[str, ...], frozenset[str]]] = {
    "Normal": (("mu", "sigma"), frozenset({"sigma"})),
    "LogNormal": (("mu", "sigma"), frozenset({"sigma"})),
    "HalfNormal": (("sigma",), frozenset({"sigma"})),
    "Beta": (("alpha", "beta"), frozenset({"alpha", "beta"})),
    "Uniform": (("lower", "upper"), frozenset()),
}
_POSITIVE = ("LogNormal", "HalfNormal")
_POOLED = ("Normal", "LogNormal")
SPREAD_LOG_SD = 0.7
"""Of the LogNormal prior of the standard deviation between pooled groups: 90% of it within a factor of 3.2."""
GROUPS = ("suite", "model", "checkpoint", "tokens", "n_params", "method", "bits", "group_size", "dataset")
"""What `by` and noise groups may name: columns of the table, and `checkpoint` for one revision of one model."""


def is_finite(value: object) -> bool:
    """Return whether a value is a number that a 64-bit float can hold."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


@dataclass(frozen=True, init=False)
class Prior:
    """A parameter's prior, and the groups it differs between.

    Parameters
    ----------
    family
        One of ``Normal``, ``LogNormal``, ``HalfNormal``, ``Beta``, ``Uniform``.
    by
        Columns whose combinations each have a value of their own, such as ``"bits"`` or ``["model", "bits"]``.
    pooling
        How the groups share strength. ``"partial"``, the default, lets them scatter normally around the value of a
        population, which has this prior, with a standard deviation that is learnt; of a ``Normal`` or, on the
        logarithm, a ``LogNormal`` parameter. ``"none"`` gives every group this prior, independently.
    spread
        The median of the prior of that standard deviation, ``LogNormal(log(spread), 0.7)``; a quarter of `sigma` if it
        is not given.
    **arguments
        The family's arguments, as PyMC names them.

    Raises
    ------
    InputError
        If the family, an argument or a group is not known, or a value is out of range.

    Examples
    --------
    >>> Prior("Normal", mu=0.5, sigma=0.3)
    Prior('Normal', mu=0.5, sigma=0.3)
    >>> Prior("LogNormal", mu=0, sigma=2, by="bits", pooling="none").by
    ('bits',)
    >>> Prior("Normal", mu=5, sigma=3, by="method")
    Prior('Normal', mu=5, sigma=3, by=['method'], pooling='partial', spread=0.75)
    """

    family: str
    arguments: tuple[tuple[str, float], ...]
    by: tuple[str, ...]
    spread: float | None
    """The prior median of the groups' standard deviation; None if they are not partially pooled."""

    def __init__(
        self,
        family: str,
        /,
        *,
        by: str | Sequence[str] = (),
        pooling: str | None = None,
        spread: float | None = None,
        **arguments: float,
    ) -> None:
        by = (by,) if isinstance(by, str) else tuple(by)
        object.__setattr__(self, "family", family)
        object.__setattr__(self, "by", by)
        object.__setattr__(self, "arguments", tuple(sorted(arguments.items())))
        self._check()
        object.__setattr__(self, "spread", self._checked_spread(pooling, spread))

    def _check(self) -> None:
        if self.family not in FAMILIES:
            near = nearest(self.family, FAMILIES)
            hint = f" (did you mean {near!r}?)" if near else ""
            raise InputError(f"prior {self.family!r} is not known{hint}; choose one of {', '.join(FAMILIES)}")
        expected, positive = FAMILIES[self.family]
        given = dict(self.arguments)
        if set(given) != set(expected):
            raise InputError(f"prior {self.family} takes {' and '.join(expected)}; got {', '.join(given) or 'nothing'}")
        for name, value in given.items():
            if not is_finite(value):
                raise InputError(f"prior {self.family}: {name} must be a finite number, not {value!r}")
            if name in positive and value <= 0:
                raise InputError(f"prior {self.family}: {name} must be above 0, not {value!r}")
        if self.family == "Uniform" and given["lower"] >= given["upper"]:
            raise InputError("prior Uniform: lower must be below upper")
        unknown = [group for group in self.by if group not in GROUPS]
        if unknown:
            raise InputError(f"by = {unknown[0]!r} is not a group; choose from {', '.join(GROUPS)}")

    def _checked_spread(self, pooling: str | None, spread: float | None) -> float | None:
        if pooling not in (None, "partial", "none"):
            raise InputError(f"pooling {pooling!r} is not known; choose 'partial' or 'none'")
        if not self.by and (pooling or spread is not None):
            raise InputError("pooling and spread are of groups: say which by 'by'")
        if not self.by or pooling == "none":
            if spread is not None:
                raise InputError("spread goes with pooling = 'partial'; unpooled groups have the prior independently")
            return None
        if self.family not in _POOLED:
            raise InputError(
                f"prior {self.family} cannot be partially pooled, only {' and '.join(_POOLED)}; "
                f"write pooling = 'none' for independent groups"
            )
        if spread is None:
            return 0.25 * dict(self.arguments)["sigma"]
        if not is_finite(spread) or spread <= 0:
            raise InputError(f"spread must be a positive number, not {spread!r}")
        return spread

    @property
    def pooled(self) -> bool:
        """Whether its groups are partially pooled."""
        return self.spread is not None

    def __repr__(self) -> str:
        parts = [repr(self.family), *(f"{name}={value:g}" for name, value in self.arguments)]
        if self.by:
            parts.append(f"by={list(self.by)!r}")
            parts += [f"pooling='partial', spread={self.spread:g}"] if self.spread is not None else ["pooling='none'"]
        return f"Prior({', '.join(parts)})"

    def to_dict(self) -> dict[str, Any]:
        """Return what a law file says of this prior."""
        groups: dict[str, Any] = {"by": list(self.by), "pooling": "none"} if self.by else {}
        if self.spread is not None:
            groups |= {"pooling": "partial", "spread": self.spread}
        return {"prior": self.family, **dict(self.arguments), **groups}

    @property
    def positive(self) -> bool:
        """Whether it gives no weight to negative values."""
        return self.family in (*_POSITIVE, "Beta") or (self.family == "Uniform" and dict(self.arguments)["lower"] >= 0)

    @property
    def log_scaled(self) -> bool:
        """Whether the real line that `unconstrain` carries to is the logarithm's."""
        return self.family in _POSITIVE

    def unconstrain(self, values: np.ndarray) -> np.ndarray:
        """Carry values to the real line: logarithm, logit or as they are, by the family's support."""
        if self.log_scaled:
            return np.log(values)
        if self.bounds:
            lower, upper = self.bounds
            return np.log((values - lower) / (upper - values))
        return np.asarray(values, dtype=float)

    def constrain(self, values: np.ndarray) -> np.ndarray:
        """Carry values from the real line to the family's support: the inverse of `unconstrain`."""
        if self.log_scaled:
            return np.exp(values)
        if self.bounds:
            lower, upper = self.bounds
            return lower + (upper - lower) / (1.0 + np.exp(-values))
        return np.asarray(values, dtype=float)

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The ends of a support that has two."""
        if self.family not in ("Beta", "Uniform"):
            return None
        given = dict(self.arguments)
        return given.get("lower", 0.0), given.get("upper", 1.0)

    def from_normal(self, score: np.ndarray) -> np.ndarray:
        """Return the values that lie in this prior where scores lie in the standard normal distribution.

        Examples
        --------
        >>> Prior("Normal", mu=0.5, sigma=0.3).from_normal(np.array([0.0, 2.0])).tolist()
        [0.5, 1.1]
        >>> Prior("HalfNormal", sigma=2.0).from_normal(np.array([0.0])).round(3).tolist()
        [1.349]
        """
        from scipy.special import betaincinv, erfcinv, erfinv, ndtr

        given = dict(self.arguments)
        if self.family in ("Normal", "LogNormal"):
            return self.constrain(given["mu"] + given["sigma"] * score)
        # By the nearer end, so that neither is rounded away.
        near = ndtr(-np.abs(score))
        if self.family == "HalfNormal":
            return np.asarray(np.sqrt(2.0) * given["sigma"] * np.where(score < 0, erfinv(near), erfcinv(near)))
        if self.family == "Beta":
            a, b = given["alpha"], given["beta"]
            return np.asarray(np.where(score < 0, betaincinv(a, b, near), 1.0 - betaincinv(b, a, near)))
        share = np.where(score < 0, near, 1.0 - near)
        return np.asarray(given["lower"] + (given["upper"] - given["lower"]) * share)

    def sample(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """Draw from the prior; shape ``(size,)``."""
        given = dict(self.arguments)
        match self.family:
            case "Normal":
                return rng.normal(given["mu"], given["sigma"], size)
            case "LogNormal":
                return rng.lognormal(given["mu"], given["sigma"], size)
            case "HalfNormal":
                return np.abs(rng.normal(0.0, given["sigma"], size))
            case "Beta":
                return rng.beta(given["alpha"], given["beta"], size)
            case _:
                return rng.uniform(given["lower"], given["upper"], size)
