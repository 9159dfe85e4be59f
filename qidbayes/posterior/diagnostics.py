"""What a fit says of itself: convergence, and which parameters the data know anything of."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from qidbayes.notebook import html_list, html_table

R_HAT_BELOW = 1.01
ESS_ABOVE = 400
BFMI_ABOVE = 0.3
CONTRACTION_ABOVE = 0.1
DIRECTION_ABOVE = 0.5
"""Below it more than half of the prior's variance is left: the posterior's standard deviation is above 71%."""
NOISE_ABOVE = 0.25
"""Of a number of the noise; a thousand effective draws of the prior itself have a contraction within 0.14 of 0."""
SHIFT_BELOW = 3.0
"""Prior standard deviations: 99.7% of a normal prior lies nearer to its middle than that."""

_SHOWN = 0.2  # of the largest weight of a direction
_AS_ONE = 0.05
_MOST = 4  # constants are named


def number(name: str, group: str | None) -> str:
    """Return what one number of a variable is called.

    Examples
    --------
    >>> number("gamma", None), number("gamma", "awq")
    ('gamma', 'gamma[awq]')
    """
    return name if group is None else f"{name}[{group}]"


@dataclass(frozen=True)
class Convergence:
    """How well the sampler knows one number (ArviZ's rank-normalised statistics)."""

    r_hat: float
    ess_bulk: float
    ess_tail: float

    @property
    def enough(self) -> bool:
        """Whether every bound is kept; NaN, as of a number that never moved, keeps none."""
        return self.r_hat < R_HAT_BELOW and self.ess_bulk > ESS_ABOVE and self.ess_tail > ESS_ABOVE


@dataclass(frozen=True)
class Direction:
    """A linear combination of a law's constants, on the real line.

    Attributes
    ----------
    ratio
        Its posterior variance over its prior variance.
    weights
        Of each constant, in units of its prior's standard deviation; their squares sum to 1.
    prior_sd
        The prior's standard deviation of each constant.
    """

    ratio: float
    weights: Mapping[str, float]
    prior_sd: Mapping[str, float]

    def __str__(self) -> str:
        """Return it as a reader would write it, the constant that matters most first and without those that do not.

        Examples
        --------
        >>> str(Direction(0.8, {"alpha": 0.7, "beta": -0.7, "gamma": 0.01}, {"alpha": 0.5, "beta": 0.25, "gamma": 3.0}))
        'alpha - 2 beta'
        """
        shown = sorted(self.weights, key=lambda name: -abs(self.weights[name]))
        shown = [name for name in shown if abs(self.weights[name]) >= _SHOWN * abs(self.weights[shown[0]])]
        few = shown[:_MOST]
        steps = [self.weights[name] / self.prior_sd[name] for name in few]
        found = ""
        for name, step in zip(few, np.array(steps) / steps[0], strict=True):
            times = "" if abs(abs(step) - 1.0) < _AS_ONE else f"{abs(step):.2g} "
            found += f"{' - ' if step < 0 else ' + ' if found else ''}{times}{name}"
        return f"{found} + … ({len(shown) - _MOST} more)" if shown[_MOST:] else found

    def of_part(self, part: str) -> "Direction":
        """Return it with its constants named after a part of a fit."""
        weights, prior_sd = ({f"{part}: {n}": v for n, v in values.items()} for values in (self.weights, self.prior_sd))
        return replace(self, weights=weights, prior_sd=prior_sd)


@dataclass(frozen=True, repr=False)
class Diagnostics:
    """The checks a fit went through.

    Attributes
    ----------
    convergence
        For each number the sampler drew, by its label.
    divergences
        Divergent transitions after warm-up.
    bfmi
        Each chain's energy Bayesian fraction of missing information (E-BFMI).
    contraction
        For each number of a parameter, 1 − (posterior variance / prior variance), on the real line. Near 0 the data say
        nothing of it.
    shift
        For each number of a parameter that has a prior of its own, how many prior standard deviations the posterior's
        mean lies from the prior's, on the real line.
    directions
        Of the law's constants the combination of which the data say least, and that of a part's
        (`qidbayes.posterior.contraction.least_contracted`).
    noise
        The contraction of each number of the noise.
    doubts
        What of the table was probably not meant, a sentence each (`qidbayes.law.plausibility`).
    """

    convergence: Mapping[str, Convergence]
    divergences: int
    bfmi: tuple[float, ...]
    contraction: Mapping[str, float]
    shift: Mapping[str, float] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()
    directions: tuple[Direction, ...] = ()
    noise: Mapping[str, float] = field(default_factory=dict)

    def with_part(self, name: str, part: "Diagnostics") -> "Diagnostics":
        """Return these checks with those of a part of the fit, whose numbers are named after it."""
        return Diagnostics(
            {**self.convergence, **{f"{name}: {label}": c for label, c in part.convergence.items()}},
            self.divergences + part.divergences,
            (*self.bfmi, *part.bfmi),
            {**self.contraction, **{f"{name}: {label}": c for label, c in part.contraction.items()}},
            {**self.shift, **{f"{name}: {label}": s for label, s in part.shift.items()}},
            tuple(dict.fromkeys((*self.doubts, *part.doubts))),
            (*self.directions, *(direction.of_part(name) for direction in part.directions)),
            {**self.noise, **{f"{name}: {label}": c for label, c in part.noise.items()}},
        )

    @property
    def unidentified(self) -> tuple[str, ...]:
        """The parameters whose posterior comes from the priors."""
        return tuple(name for name, value in self.contraction.items() if not value > CONTRACTION_ABOVE)

    @property
    def unidentified_noise(self) -> tuple[str, ...]:
        """The numbers of the noise whose posterior is about as wide as their prior."""
        return tuple(name for name, value in self.noise.items() if not value > NOISE_ABOVE)

    def problems(self) -> list[str]:
        """Return a sentence for each check that failed, none if all passed."""
        found = []
        if self.divergences:
            found.append(
                f"{self.divergences} divergent transitions: the posterior may be missing a part; see target_accept"
            )
        for statistic in ("r_hat", "ess_bulk", "ess_tail"):
            small = statistic == "r_hat"  # R-hat must be small, ESS large
            limit = R_HAT_BELOW if small else ESS_ABOVE
            values = [(float(getattr(c, statistic)), name) for name, c in self.convergence.items()]
            # NaN, as of a number that never moved, fails too.
            failed = [(v, name) for v, name in values if not (v < limit if small else v > limit)]
            if failed:
                value, name = max(failed) if small else min(failed)
                found.append(
                    f"{statistic} is not {'below' if small else 'above'} {limit} for {len(failed)} of {len(values)} "
                    f"numbers (worst: {name}, {value:.4g}); draw more"
                )
        low = [value for value in self.bfmi if not value > BFMI_ABOVE]
        if low:
            found.append(f"E-BFMI is not > {BFMI_ABOVE} in {len(low)} chains (least: {min(low):.2f}); reparametrise")
        return found

    def remarks(self) -> list[str]:
        """Return a sentence for each thing to know of the answers: what the data leave open, conflicts, doubts."""
        return [*self.not_identified(), *self.weak_directions(), *self.conflicts(), *self.doubts]

    def __repr__(self) -> str:
        worst = {name: f"{value:.4g}" for name, value in self._worst().items()}
        failed = len(self.problems())
        verdict = f"{failed} check{'s' if failed != 1 else ''} failed" if failed else "all checks passed"
        return (
            f"<Diagnostics of {len(self.convergence)} numbers: {verdict}; R-hat at most {worst['r_hat']}, ESS at least "
            f"{worst['ess_bulk']} (bulk) and {worst['ess_tail']} (tail), {self.divergences} divergent transitions, "
            f"E-BFMI at least {worst['bfmi']}>"
        )

    def _repr_html_(self) -> str:
        worst = self._worst()
        rows = [
            ["R-hat", f"below {R_HAT_BELOW}", f"{worst['r_hat']:.4f}"],
            ["ESS, bulk", f"above {ESS_ABOVE}", f"{worst['ess_bulk']:.0f}"],
            ["ESS, tail", f"above {ESS_ABOVE}", f"{worst['ess_tail']:.0f}"],
            ["divergent transitions", "0", str(self.divergences)],
            ["E-BFMI", f"above {BFMI_ABOVE}", f"{worst['bfmi']:.2f}"],
        ]
        problems = [f"FAILED: {problem}" for problem in self.problems()]
        verdict = "" if problems else "<p>All checks passed.</p>"
        told = html_list([*problems, *self.remarks()])
        return f"{html_table(['check', 'wanted', 'worst'], rows)}{verdict}{told}"

    def _worst(self) -> dict[str, float]:
        """Return the worst of each statistic; NaN, as of a number that never moved, is worse than any."""
        values = {s: [getattr(c, s) for c in self.convergence.values()] for s in ("r_hat", "ess_bulk", "ess_tail")}
        worst = {
            name: np.max(v or [np.nan]) if name == "r_hat" else np.min(v or [np.nan]) for name, v in values.items()
        }
        return {**worst, "bfmi": float(np.min(self.bfmi or [np.nan]))}

    def conflicts(self) -> list[str]:
        """Return a sentence that names the parameters whose prior the data contradict; none if there is no such."""
        far = sorted(((s, name) for name, s in self.shift.items() if not s < SHIFT_BELOW), reverse=True)
        if not far:
            return []
        some = ", ".join(f"{name} ({s:.1f})" for s, name in far[:5]) + (f" and {len(far) - 5} more" if far[5:] else "")
        return [
            f"prior and data disagree: the posterior of {some} lies more than {SHIFT_BELOW:g} standard deviations of "
            "the prior away from it, which still pulls on it; see whether the prior or the table's units are wrong"
        ]

    def not_identified(self, apart_from: Collection[str] = ()) -> list[str]:
        """Return a sentence that names what the data say nothing of; none if there is no such number."""
        names = [name for name in self.unidentified if name not in apart_from]
        if not names:
            return []
        some = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        if len(names) == 1:
            return [f"{some} is not identified by these data and rests on its prior"]
        return [f"{some} are not identified by these data and rest on their priors"]

    def weak_directions(self) -> list[str]:
        """Return a sentence for each direction that the data say little of, though each constant is identified."""
        return [
            f"the data hardly tell {direction} apart from the prior: its posterior sd is "
            f"{np.sqrt(min(direction.ratio, 1.0)):.0%} of its prior sd"
            for direction in self.directions
            if not 1.0 - direction.ratio > DIRECTION_ABOVE
        ]
