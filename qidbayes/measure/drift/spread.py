"""The spread of many absolute values, taken in piece by piece and never held: counts by their logarithm."""

import math

import torch
from torch import Tensor

_LEAST, _DECADES, _PER_DECADE = -9, 12, 512  # from 1e-9, below which a length counts as 0; bins are .45% wide


class Spread:
    """Mean square and percentiles of absolute values.

    Percentiles are within half a decade (.23%) of the value itself. Spreads of parts add up to that of the whole.

    Examples
    --------
    >>> spread = Spread()
    >>> spread.add(torch.arange(-50.0, 51.0))
    >>> round(spread.rms, 4), round(spread.percentile(50), 1)
    (29.1548, 25.0)
    """

    def __init__(self) -> None:
        self._counts: Tensor | None = None
        self._squares = 0.0
        self.n = 0

    def add(self, values: Tensor) -> None:
        """Add values of any shape, float32."""
        flat = values.abs().flatten()
        decade = ((flat.clamp(min=1e-30).log10() - _LEAST) * _PER_DECADE).floor().long() + 1
        counts = torch.bincount(decade.clamp(0, _DECADES * _PER_DECADE + 1), minlength=_DECADES * _PER_DECADE + 2)
        self._counts = counts.cpu() if self._counts is None else self._counts + counts.cpu()
        self._squares += float(flat.double().square().sum())
        self.n += flat.numel()

    def join(self, other: "Spread") -> None:
        """Add all that another one holds."""
        if other._counts is not None:
            self._counts = other._counts.clone() if self._counts is None else self._counts + other._counts
            self._squares += other._squares
            self.n += other.n

    @property
    def rms(self) -> float:
        """The root of the mean square."""
        return math.sqrt(self._squares / self.n)

    def percentile(self, percent: float) -> float:
        """Return the value that so many per cent of the values do not exceed."""
        assert self._counts is not None, "something has been added"
        bin_ = int(torch.searchsorted(self._counts.cumsum(0), max(1, math.ceil(percent / 100 * self.n))))
        return 0.0 if bin_ == 0 else float(10 ** (_LEAST + (bin_ - 0.5) / _PER_DECADE))
