"""What a fit says of itself: convergence, and which parameters the data know anything of."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

R_HAT_BELOW = 1.01
ESS_ABOVE = 400
BFMI_ABOVE = 0.3
CONTRACTION_ABOVE = 0.1
SHIFT_BELOW = 3.0
"""Prior standard deviations: 99.7% of a normal prior lies nearer to its middle than that."""


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
    doubts
        What of the table was probably not meant, a sentence each (`qidbayes.table.doubts`).
    """

    convergence: Mapping[str, Convergence]
    divergences: int
    bfmi: tuple[float, ...]
    contraction: Mapping[str, float]
    shift: Mapping[str, float] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()

    def with_part(self, name: str, part: "Diagnostics") -> "Diagnostics":
        """Return these checks with those of a part of the fit, whose numbers are named after it."""
        return Diagnostics(
            {**self.convergence, **{f"{name}: {label}": c for label, c in part.convergence.items()}},
            self.divergences + part.divergences,
            (*self.bfmi, *part.bfmi),
            {**self.contraction, **{f"{name}: {label}": c for label, c in part.contraction.items()}},
            {**self.shift, **{f"{name}: {label}": s for label, s in part.shift.items()}},
            tuple(dict.fromkeys((*self.doubts, *part.doubts))),
        )

    @property
    def unidentified(self) -> tuple[str, ...]:
        """The parameters whose posterior comes from the priors."""
        return tuple(name for name, value in self.contraction.items() if not value > CONTRACTION_ABOVE)

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
        return [*self.not_identified(), *self.conflicts(), *self.doubts]

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
