"""A law: an equation, priors for its constants, and how measurements scatter around it."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape
from types import MappingProxyType
from typing import Any

import polars as pl

from qidbayes.errors import InputError, nearest
from qidbayes.law.evaluate import Array, ArrayLibrary, Scope, is_positive
from qidbayes.law.expression import Expression, Name, names, parse, to_text, walk
from qidbayes.law.latex import GREEK, to_latex
from qidbayes.law.prior import GROUPS, Prior, is_finite
from qidbayes.law.unit_powers import Dimension, unit_powers
from qidbayes.notebook import html_equation, html_list, html_table
from qidbayes.table.columns import COLUMNS
from qidbayes.table.further import is_further

type Constants = Mapping[str, float | Mapping[str, float]]
"""Values of a law's constants in raw counts: one number each, or one per group label."""

COVARIATES = {
    "N": "n_params",
    "D": "tokens",
    "P": "bits",
    "learning_rate": "learning_rate",
    "group_size": "group_size",
    "bits_per_weight": "bits_per_weight",
}
"""What an equation calls the columns of a table; every other column of numbers it calls by its own name."""
DATA = "data"
"""In the place of a number of the reference: the middle of the fitted rows."""
RESPONSES = {
    "qid": "QiD",
    "kld": "KL divergence",
    "loss_16bit": "16-bit loss",
    "loss": "loss after quantization",
}
INFINITY = 1e6
"""The bits of a model that was not quantized, where a law calls them infinite: 1/P and exp(-P) are 0 there."""
QUANTIZED = ("qid", "kld")
"""The responses that tell a quantized model from its 16-bit one, and so depend on the quantization."""
_LATEX = {
    "qid": r"\Delta_q\mathrm{Loss}",
    "kld": r"D_\mathrm{KL}(p_{16}\,\|\,p_q)",
    "loss_16bit": r"\mathrm{Loss}_{16}",
    "loss": r"\mathrm{Loss}_q",
}
NOISE_FAMILIES = ("normal", "student_t")
DISCREPANCIES = ("smooth", "walk", "families", "none")
STUDENT_T_FREEDOM = 4.0
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,30}")
# Names the fit itself uses for what is around the law.
_RESERVED = {"exp", "log", "sqrt", "max", "min", "sigma", "similarity", "latent", "chain", "draw", "row"}
_ENDINGS = ("_ref", "_sd", "_population", "_effect")
_MAX_NAMES = 40
_SHORTEST_COLUMN = 4  # letters: a shorter name without a prior is a parameter whose prior was forgotten
_NO_COVARIATES = {
    *("loss", "loss_16bit", "qid", "qid_se", "n_params", "tokens", "bits"),
    *(column.name for column in COLUMNS if column.dtype == pl.String),
}


@dataclass(frozen=True)
class Noise:
    """How the logarithm of the response scatters around the law.

    The rows' own error is normal with standard deviation `sigma`. Each of `groups` adds a normal effect that all its
    rows share: ``model`` for the checkpoints of one training run, ``checkpoint`` for the quantizations of one
    checkpoint. `sigma` has a half-normal prior of scale `scale`, and the effects' standard deviations, which two or
    three runs cannot keep from 0, have ``LogNormal(log(scale / 2), 0.7)``, whose median is a little smaller.

    With `family` ``"student_t"`` the rows' own error has Student's t distribution with 4 degrees of freedom and the
    scale `sigma`, so that a few rows far off count for less; it goes with no groups and no discrepancy.

    `discrepancy` ``"smooth"`` adds what the equation itself misses, as a Gaussian process over log N, log D and log P
    (see `qidbayes.noise.kernels`), so that bands grow away from the data; ``"walk"`` is the same with slopes in log D
    that differ between runs and wander along them, so that bands grow with no end; ``"none"`` takes the equation at
    its word, and is fitted in a second or two.
    """

    groups: tuple[str, ...] = ("model", "checkpoint")
    scale: float = 0.5
    family: str = "normal"
    discrepancy: str = "smooth"

    def __post_init__(self) -> None:
        wrong = [g for g in self.groups if g not in ("model", "checkpoint")]
        if wrong or len(set(self.groups)) < len(self.groups):
            raise InputError(f"noise groups {list(self.groups)!r}: choose from 'model' and 'checkpoint', each once")
        if self.family not in NOISE_FAMILIES:
            raise InputError(f"noise family {self.family!r} is not known; choose one of {', '.join(NOISE_FAMILIES)}")
        if self.family == "student_t" and (self.groups or self.discrepancy != "none"):
            raise InputError(
                "noise family 'student_t' goes with groups = [] and discrepancy = \"none\": what rows share is normal"
            )
        if not (is_finite(self.scale) and self.scale > 0):
            raise InputError(f"noise scale must be a positive number, not {self.scale!r}")
        if self.discrepancy not in DISCREPANCIES:
            raise InputError(
                f"noise discrepancy must be one of {', '.join(map(repr, DISCREPANCIES))}, not {self.discrepancy!r}"
            )


@dataclass(frozen=True, repr=False)
class Law:
    """A scaling law, declared.

    Parameters
    ----------
    equation
        The right-hand side, in the equation language: parameters, definitions and N (non-embedding parameters, count),
        D (training tokens, count), P (bits). A name that is none of these is a column of the table, such as
        `qat_tokens`: of numbers, known and 0 or above in every row.
    priors
        A `Prior` for each parameter. A parameter that carries the units of N, D or P has its prior at the reference
        point, where its value is one a reader can picture.
    name, title, source
        What the law is called, and where it comes from.
    response
        ``"qid"``, ``"kld"`` (the KL divergence from the 16-bit model), ``"loss_16bit"`` or ``"loss"``, the loss after
        quantization; all in nats per token.
    define
        Further constants in terms of the parameters, such as the ones a paper prints, in order.
    reference
        What N, D and P are relative to while sampling: a number, or ``"data"`` for the geometric mean of the fitted
        rows, to two digits. Everything reported is in raw counts.
    noise
        The scatter around the law.
    published
        Named points of constants in raw counts.
    unquantized
        Of a law of the loss after quantization: the bits P of a model that was not quantized, such as 16, or
        ``math.inf``. Its checkpoints' 16-bit losses are fitted too, with these bits, and the fit can answer with QiD.
    loss_16bit
        A law of the 16-bit loss to fit beside a law of QiD, so that a fit can speak of the quantized loss, their sum.

    Raises
    ------
    InputError
        If the equation, a name, a prior or a published point is not usable; the message says which and why.

    Examples
    --------
    >>> priors = {"k": Prior("LogNormal", mu=0, sigma=2), "beta": Prior("Normal", mu=0.5, sigma=0.3)}
    >>> law = Law("k * D**beta", priors=priors, reference={"D": 1e11})
    >>> law.constants
    ('k', 'beta')
    >>> law.sampled_name("k")
    'k_ref'
    """

    equation: str
    priors: Mapping[str, Prior]
    name: str = "law"
    title: str = ""
    source: str = ""
    response: str = "qid"
    define: Mapping[str, str] = field(default_factory=dict)
    reference: Mapping[str, float | str] = field(default_factory=dict)
    noise: Noise = field(default_factory=Noise)
    published: Mapping[str, Constants] = field(default_factory=dict)
    unquantized: float | None = None
    loss_16bit: "Law | None" = None

    def __post_init__(self) -> None:
        for mapping in ("priors", "define", "reference", "published"):  # a frozen law must not change under a fit
            object.__setattr__(self, mapping, MappingProxyType(dict(getattr(self, mapping))))
        _check(self)

    def with_noise(self, **fields: Any) -> "Law":
        """Return the law with fields of its `Noise` replaced, and those of its law of the 16-bit loss.

        Raises
        ------
        InputError
            If the noise is not usable.

        Examples
        --------
        >>> from qidbayes.law import load_law
        >>> load_law("unified").with_noise(discrepancy="none").noise.discrepancy
        'none'
        """
        loss_16bit = self.loss_16bit and self.loss_16bit.with_noise(**fields)
        return replace(self, noise=replace(self.noise, **fields), loss_16bit=loss_16bit)

    def with_reference(self, reference: Mapping[str, float | str]) -> "Law":
        """Return the law with the covariates whose reference is ``"data"`` put where another reference has them.

        Examples
        --------
        >>> from qidbayes.law import load_law
        >>> dict(load_law("kaplan-16bit").with_reference({"N": 2e5, "D": 1e8}).reference)
        {'N': 200000.0, 'D': 100000000.0}
        """
        return replace(self, reference={c: reference.get(c, v) if v == DATA else v for c, v in self.reference.items()})

    @cached_property
    def log_reference(self) -> Mapping[str, float]:
        """The logarithms of the reference.

        Raises
        ------
        InputError
            If a covariate is taken from the data, which a law alone does not know.
        """
        unknown = [covariate for covariate, value in self.reference.items() if value == DATA]
        if unknown:
            raise InputError(
                f"law {self.name!r} takes its reference {', '.join(unknown)} from the data; say where with "
                "`Law.with_reference`"
            )
        return {covariate: math.log(float(value)) for covariate, value in self.reference.items()}

    @cached_property
    def expression(self) -> Expression:
        """The parsed equation."""
        return parse(self.equation)

    @cached_property
    def definitions(self) -> Mapping[str, Expression]:
        """The parsed definitions, in order."""
        return {name: parse(text, f"definition of {name}") for name, text in self.define.items()}

    @cached_property
    def constants(self) -> tuple[str, ...]:
        """The names in the equation that are not covariates, in order of appearance: what a paper would print."""
        used = (node.id for node in walk(self.expression) if isinstance(node, Name))
        return tuple(name for name in dict.fromkeys(used) if name not in self.covariates)

    @cached_property
    def covariates(self) -> tuple[str, ...]:
        """The covariates in the equation: N, D and P first, and further columns of the table last."""
        used = (node.id for node in walk(self.expression) if isinstance(node, Name))
        further = (name for name in used if name not in (*COVARIATES, *self.priors, *self.define))
        return tuple(dict.fromkeys([*(c for c in COVARIATES if c in names(self.expression)), *further]))

    @cached_property
    def unit_powers(self) -> Mapping[str, Dimension]:
        """For each constant that changes with the reference point, the powers that carry it to raw counts."""
        return unit_powers(self.expression, list(self.reference), list(self.constants))

    @cached_property
    def may_be_negative(self) -> frozenset[str]:
        """The parameters and definitions that may be negative."""
        found = {name for name, prior in self.priors.items() if not prior.positive}
        for name, expression in self.definitions.items():
            if not is_positive(expression, found, self.unit_interval):
                found.add(name)
        return frozenset(found)

    @cached_property
    def unit_interval(self) -> frozenset[str]:
        """The parameters that lie between 0 and 1, by their priors."""
        ends = {name: prior.bounds for name, prior in self.priors.items()}
        return frozenset(name for name, bounds in ends.items() if bounds and bounds[0] >= 0 and bounds[1] <= 1)

    @cached_property
    def by(self) -> tuple[str, ...]:
        """Every column that a parameter differs by."""
        return tuple(dict.fromkeys(column for prior in self.priors.values() for column in prior.by))

    def scope(
        self, xp: ArrayLibrary, values: Mapping[str, Array] | None = None, logs: Mapping[str, Array] | None = None
    ) -> Scope:
        """Return a scope to evaluate the equation in: what is known of signs and of definitions, and some values."""
        scope = Scope(xp, values, logs, self.may_be_negative, self.unit_interval)
        for name, expression in self.definitions.items():
            scope.define(name, expression)
        return scope

    @property
    def bits_unquantized(self) -> float:
        """The bits of a model that was not quantized, as a number that has a logarithm.

        Raises
        ------
        InputError
            If the law does not say.
        """
        if self.unquantized is None:
            raise InputError(f"law {self.name!r} does not say the bits of a model that was not quantized")
        return min(self.unquantized, INFINITY)

    def sampled_name(self, name: str) -> str:
        """Return what a constant is called at the reference point: with ``_ref`` if it differs from the raw count."""
        return f"{name}_ref" if name in self.unit_powers else name

    def population_name(self, name: str) -> str:
        """Return what the population's value of a partially pooled parameter is called."""
        return f"{self.sampled_name(name)}_population"

    def spread_name(self, name: str) -> str:
        """Return what the standard deviation between the groups of a partially pooled parameter is called."""
        return f"{self.sampled_name(name)}_sd"

    def depends_on(self, name: str) -> set[str]:
        """Return the parameters that a constant in raw counts is made of."""
        found = {name} if name in self.priors else set()
        if name in self.definitions:
            found |= set().union(*(self.depends_on(n) for n in names(self.definitions[name])))
        for power in self.unit_powers.get(name, {}).values():
            found |= set().union(*(self.depends_on(n) for n in names(power)))
        return found

    def latex(self) -> str:
        """Return the law as LaTeX, without dollar signs."""
        return f"{_LATEX[self.response]} = {to_latex(self.expression)}"

    def to_dict(self) -> dict[str, Any]:
        """Return what a law file says, in plain types."""
        return {
            "name": self.name,
            "title": self.title,
            "source": self.source,
            "response": self.response,
            "equation": self.equation,
            "parameters": {name: prior.to_dict() for name, prior in self.priors.items()},
            "define": dict(self.define),
            "reference": dict(self.reference),
            "noise": {
                "groups": list(self.noise.groups),
                "scale": self.noise.scale,
                "family": self.noise.family,
                "discrepancy": self.noise.discrepancy,
            },
            "published": {
                point: {n: dict(v) if isinstance(v, Mapping) else v for n, v in values.items()}
                for point, values in self.published.items()
            },
            **(
                {"unquantized": "infinity" if math.isinf(self.unquantized) else self.unquantized}
                if self.unquantized
                else {}
            ),
            **({"loss_16bit": self.loss_16bit.to_dict()} if self.loss_16bit else {}),
        }

    def fingerprint(self) -> str:
        """Return a SHA-256 of everything the law says."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def __str__(self) -> str:
        lines = [f"{self.title or self.name}", f"  {self.response} = {to_text(self.expression)}"]
        lines += [f"  {name} = {text}" for name, text in self.define.items()]
        lines += [f"  {self.sampled_name(name)} ~ {prior!r}" for name, prior in self.priors.items()]
        if self.reference:
            at = (f"{c} = {'the middle of the data' if v == DATA else f'{v:g}'}" for c, v in self.reference.items())
            lines.append("  at " + ", ".join(at))
        shared = ", ".join(self.noise.groups) or "none"
        errors = "normal" if self.noise.family == "normal" else "Student's t"
        missed = "" if self.noise.discrepancy == "none" else f", {self.noise.discrepancy} discrepancy"
        lines.append(f"  log {self.response}: {errors} errors, effects shared by {shared}{missed}")
        if self.unquantized:
            lines.append(f"  a model that was not quantized has P = {self.unquantized:g}")
        if self.loss_16bit:
            lines += ["  loss = loss_16bit + qid, with", str(self.loss_16bit)]
        return "\n".join(lines)

    def __repr__(self) -> str:
        parameters = f"{len(self.priors)} parameter{'s' if len(self.priors) != 1 else ''}"
        return f"<Law {self.name}: {self.response} = {to_text(self.expression)}, {parameters}>"

    def _repr_html_(self) -> str:
        priors = ([self.sampled_name(name), repr(prior)] for name, prior in self.priors.items())
        points = [f"published {point}: {_in_words(constants)}" for point, constants in self.published.items()]
        # What `str` says below the equation and the priors: where they hold, and how measurements scatter.
        said = [line.strip() for line in str(replace(self, loss_16bit=None)).split("\n")[1:]]
        about = [line for line in said if line.startswith(("at ", f"log {self.response}:"))]
        beside = f"<p>loss = loss_16bit + qid, with</p>{self.loss_16bit._repr_html_()}" if self.loss_16bit else ""
        return (
            f"<p><b>{escape(self.title or self.name)}</b> ({escape(self.name)})</p>{html_equation(self.latex())}"
            f"{html_list(f'{name} = {text}' for name, text in self.define.items())}"
            f"{html_table(['parameter', 'prior'], priors)}{html_list([*about, *points])}{beside}"
        )

    def _repr_latex_(self) -> str:
        return f"$${self.latex()}$$"


def _in_words(constants: Constants) -> str:
    """Return constants as text: each a number, or one for each group."""
    return ", ".join(f"{name} = {dict(v) if isinstance(v, Mapping) else f'{v:g}'}" for name, v in constants.items())


def column_of(covariate: str) -> str:
    """Return the column of a table that an equation calls by a name.

    Examples
    --------
    >>> column_of("N"), column_of("qat_tokens")
    ('n_params', 'qat_tokens')
    """
    return COVARIATES.get(covariate, covariate)


def suggestion(name: str, known: Mapping[str, Any] | list[str] | tuple[str, ...]) -> str:
    """Return `` (did you mean …?)`` where a known name is near, else nothing."""
    near = nearest(name, known)
    return f" (did you mean {near!r}?)" if near else ""


def _check(law: Law) -> None:
    if law.response not in RESPONSES:
        raise InputError(f"response {law.response!r} is not known; choose one of {', '.join(RESPONSES)}")
    if len(law.priors) + len(law.define) > _MAX_NAMES:
        raise InputError(f"a law may have at most {_MAX_NAMES} parameters and definitions")
    for name in (*law.priors, *law.define):
        if not _NAME.fullmatch(name) or name.endswith(_ENDINGS):
            raise InputError(
                f"{name!r} cannot name a parameter; use letters, digits and _, not ending in {', '.join(_ENDINGS)}"
            )
        if name in COVARIATES or name in _RESERVED or name in law.noise.groups:
            raise InputError(f"{name!r} already means something else and cannot name a parameter")
    for name, prior in law.priors.items():
        if name in law.define:
            raise InputError(f"{name!r} has both a prior and a definition")
        if not isinstance(prior, Prior):
            raise InputError(f"priors: {name} must be a Prior, not {type(prior).__name__}")
    known = set(law.priors)
    for name, expression in law.definitions.items():
        _all_known(expression, known, f"definition of {name}")
        known.add(name)
    columns = {name for name in names(law.expression) - known if name not in COVARIATES and _is_column(name, law)}
    _all_known(law.expression, known | set(COVARIATES) | columns, "equation")
    used = names(law.expression).union(*(names(e) for e in law.definitions.values()))
    for name in (*law.priors, *law.define):
        if name not in used:
            raise InputError(f"{name!r} is declared but the equation does not use it")
    for covariate, value in law.reference.items():
        if covariate not in law.covariates:
            raise InputError(f"[reference] names {covariate!r}, which is not a covariate of the equation")
        if value != DATA and not (isinstance(value, int | float) and is_finite(value) and value > 0):
            raise InputError(f"[reference] {covariate} must be a positive number or {DATA!r}, not {value!r}")
    _ = law.unit_powers  # raises if a unit has nowhere to go
    _check_unquantized(law)
    base = law.loss_16bit
    if base and (law.response != "qid" or base.response != "loss_16bit"):
        raise InputError(
            f"loss_16bit stands beside a law of QiD and is a law of the 16-bit loss; law {law.name!r} is of "
            f"{RESPONSES[law.response]} and {base.name!r} of {RESPONSES[base.response]}"
        )
    _check_published(law)


def _check_unquantized(law: Law) -> None:
    bits = law.unquantized
    if bits is None:
        return
    if isinstance(bits, bool) or not isinstance(bits, int | float) or not bits > 0:
        raise InputError(f"unquantized must be a positive number of bits or infinity, not {bits!r}")
    if law.response != "loss" or not ("P" in law.covariates or "bits" in law.by):
        raise InputError(
            f"unquantized is of a law of the loss after quantization, response 'loss', that depends on bits; law "
            f"{law.name!r} is of {RESPONSES[law.response]} and takes {', '.join([*law.covariates, *law.by]) or 'none'}"
        )
    for covariate in ("group_size", "bits_per_weight"):
        if covariate in law.covariates:
            raise InputError(f"a model that was not quantized has no {covariate}; leave unquantized out")


def _all_known(expression: Expression, known: set[str], where: str) -> None:
    for name in sorted(names(expression) - known):
        near = suggestion(name, sorted(known))
        raise InputError(
            f"{where}: {name!r} has no prior and no definition before it{near}; known are {', '.join(sorted(known))}"
            + (", and columns of the table by their names" if where == "equation" else "")
        )


def _is_column(name: str, law: Law) -> bool:
    """Return whether a name without a prior can be meant as a column of the table."""
    if name in ("n_params", "tokens", "bits"):
        symbol = next(symbol for symbol, column in COVARIATES.items() if column == name)
        raise InputError(f"equation: write {symbol} for the column {name!r}")
    if name in _NO_COVARIATES:
        raise InputError(f"equation: the column {name!r} is no covariate")
    meant = is_further(name) and len(name) >= _SHORTEST_COLUMN and name not in GREEK
    taken = name in _RESERVED or name.endswith(_ENDINGS)
    return meant and not taken and not nearest(name, [*law.priors, *law.define, *COVARIATES])


def _check_published(law: Law) -> None:
    for point, values in law.published.items():
        for name, value in values.items():
            if name not in law.constants:
                known = ", ".join(law.constants)
                raise InputError(f"[published.{point}] {name!r} is not a constant of the equation; known are {known}")
            numbers = list(value.values()) if isinstance(value, Mapping) else [value]
            if not all(map(is_finite, numbers)):
                raise InputError(f"[published.{point}] {name}: {value!r} is not a finite number")


__all__ = ["COVARIATES", "GROUPS", "QUANTIZED", "RESPONSES", "Constants", "Law", "Noise", "column_of", "suggestion"]
