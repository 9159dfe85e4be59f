"""Learning-rate schedules, so that a table can say what the rate was at each checkpoint."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

type Shape = Literal["constant", "linear", "cosine"]
SHAPES: tuple[Shape, ...] = get_args(Shape.__value__)


@dataclass(frozen=True)
class Schedule:
    """A linear warm-up, then one of three shapes down to a share of the peak.

    Attributes
    ----------
    shape
        `constant`, `linear` or `cosine`.
    warmup_steps, total_steps
        Steps of the warm-up, and of the whole run. A constant schedule needs no `total_steps`.
    final
        The rate at the end as a share of the peak.

    Examples
    --------
    >>> pythia = Schedule("cosine", warmup_steps=1430, total_steps=143_000, final=0.1)
    >>> [float(f"{pythia.rate(1.2e-4, step):.4g}") for step in (512, 1430, 98_000, 143_000)]
    [4.297e-05, 0.00012, 3.676e-05, 1.2e-05]
    """

    shape: Shape = "constant"
    warmup_steps: int = 0
    total_steps: int = 0
    final: float = 1.0

    def rate(self, peak: float, step: int) -> float:
        """Return the learning rate at `step` of a run whose highest rate is `peak`."""
        if step < self.warmup_steps:
            return peak * step / self.warmup_steps
        if self.shape == "constant":
            return peak
        done = min(1.0, (step - self.warmup_steps) / (self.total_steps - self.warmup_steps))
        left = 1 - done if self.shape == "linear" else (1 + math.cos(math.pi * done)) / 2
        return peak * (self.final + (1 - self.final) * left)
