"""Turn sampled parameters into the constants that a paper prints: definitions evaluated, in raw counts of N and D."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import polars as pl

from qidbayes.errors import InputError
from qidbayes.law.evaluate import Scope, evaluate, evaluate_log
from qidbayes.law.law import Law, suggestion
from qidbayes.table.groups import dimension


def dimensions(law: Law) -> dict[str, str]:
    """Return, for each parameter and constant that differs between groups, the dimension it differs along."""
    found = {}
    for name in (*law.priors, *law.define, *law.constants):
        grouped = {dimension(law.priors[p].by) for p in law.depends_on(name) if law.priors[p].by}
        if len(grouped) > 1:
            raise InputError(
                f"{name!r} would differ by {' and by '.join(sorted(grouped))}; give its parts the same 'by'"
            )
        if grouped:
            found[name] = grouped.pop()
    return found


def raw_constants(law: Law, sampled: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the law's definitions at the reference point, and its constants in raw counts.

    Parameters
    ----------
    law
        The law.
    sampled
        The parameters by their names in the model (``k_ref``, ``beta``); shape ``(draws,)`` or ``(draws, groups)``.

    Returns
    -------
    dict
        Definitions by the names they have at the reference point, then ``k`` for every ``k_ref``; shapes as above.

    Examples
    --------
    >>> from qidbayes.law import load_law
    >>> at_reference = {"k_ref": 0.035, "beta": 0.47, "alpha": 0.3, "gamma": 5.8}
    >>> draws = {name: np.array([value]) for name, value in at_reference.items()}
    >>> round(float(raw_constants(load_law("unified"), draws)["k"][0]), 3)
    0.368
    """
    # k in raw counts differs between groups if γ does, though k at the reference point may not.
    grouped = dimensions(law)
    wide = {name: _column(sampled[law.sampled_name(name)], bool(prior.by)) for name, prior in law.priors.items()}
    scope = law.scope(np, wide)
    found: dict[str, np.ndarray] = {}
    with np.errstate(all="ignore"):  # a draw in the far tail may overflow; it is kept as the largest number
        for name in law.definitions:
            found[law.sampled_name(name)] = _narrow(scope.value(name), name in grouped)
        for name, powers in law.unit_powers.items():
            log_raw = scope.log(name)
            for covariate, power in powers.items():
                log_raw = log_raw + evaluate(power, scope) * law.log_reference[covariate]
            found[name] = _narrow(np.exp(log_raw), name in grouped)
    return found


def _column(values: np.ndarray, grouped: bool) -> np.ndarray:
    return values if grouped else values[:, None]


def _narrow(values: np.ndarray, grouped: bool) -> np.ndarray:
    most = np.finfo(float).max
    return np.asarray(np.clip(values if grouped else values[:, 0], -most, most))


class Curve:
    """A law with values for its constants in raw counts: what answers a question.

    Parameters
    ----------
    law
        The law.
    constants
        For each of the law's constants, shape ``(draws,)`` or ``(draws, groups)``.
    coords
        The group labels of each dimension.
    new_groups
        Where there are populations to draw from: the constants of new groups, given their dimension and labels.

    untold
        What gives log tokens for questions that do not tell them, shape ``(draws, queries)``; None if they have to.
    completed
        What gives questions with what they leave out and the fit knows of their models.

    Attributes
    ----------
    drawn
        The labels of the groups that were drawn from a population, as they were asked for.
    """

    def __init__(
        self,
        law: Law,
        constants: Mapping[str, np.ndarray],
        coords: Mapping[str, tuple[str, ...]],
        new_groups: Callable[[str, Sequence[str]], Mapping[str, np.ndarray] | None] | None = None,
        untold: Callable[[pl.DataFrame], np.ndarray] | None = None,
        completed: Callable[[pl.DataFrame], pl.DataFrame] = lambda frame: frame,
    ) -> None:
        self.law = law
        self.drawn: list[str] = []
        self.untold = untold
        self.completed = completed
        self._constants = {name: constants[name] for name in law.constants}
        self._dims = dimensions(law)
        self._coords = dict(coords)
        self._new_groups = new_groups

    def repeated(self, each: int) -> "Curve":
        """Return the curve with every draw several times, one after the other."""
        constants = {name: np.repeat(values, each, axis=0) for name, values in self._constants.items()}
        return Curve(self.law, constants, self._coords)

    def group_index(self, dimension: str, labels: Sequence[str]) -> np.ndarray:
        """Return each label's index among the groups of a dimension, drawing those that are new if it can.

        Raises
        ------
        InputError
            If a group is not known, and there is no population to draw it from.
        """
        known = self._coords[dimension]
        unknown = [label for label in dict.fromkeys(labels) if label not in known]
        if unknown:
            found = self._new_groups(dimension, unknown) if self._new_groups else None
            if found is None:
                some = ", ".join(known[:12]) + (", …" if len(known) > 12 else "")
                raise InputError(
                    f"law {self.law.name!r} knows {dimension} {some}; not {unknown[0]}{suggestion(unknown[0], known)}"
                )
            self._constants |= {n: np.concatenate([self._constants[n], v], axis=1) for n, v in found.items()}
            self._coords[dimension] = (*known, *unknown)
            self.drawn += unknown
        numbers = {label: i for i, label in enumerate(self._coords[dimension])}
        return np.array([numbers[label] for label in labels], dtype=np.int64)

    def scope(self, log_covariates: Mapping[str, np.ndarray], index: Mapping[str, np.ndarray]) -> Scope:
        """Return a scope in which every name has shape ``(draws or 1, queries or 1)``.

        Parameters
        ----------
        log_covariates
            Logarithms of the covariates in raw counts, shape ``(queries,)``; ``(draws, queries)`` where unknown.
        index
            For each dimension, the group of each query.
        """
        scope = self.law.scope(np, logs={name: np.atleast_2d(v) for name, v in log_covariates.items()})
        for name, values in self._constants.items():
            dim = self._dims.get(name)
            scope.set(name, value=values[:, index[dim]] if dim else values[:, None])
        return scope

    def log_response(self, log_covariates: Mapping[str, np.ndarray], index: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the logarithm of the law's response (nats per token); shape ``(draws, queries)``."""
        with np.errstate(all="ignore"):  # of a response that is 0 the logarithm is -inf
            return np.asarray(evaluate_log(self.law.expression, self.scope(log_covariates, index)))
