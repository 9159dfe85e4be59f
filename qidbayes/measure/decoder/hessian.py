"""The second moment of a linear's inputs, batch by batch."""

import torch
from torch import Tensor

from qidbayes.measure.errors import MeasureError

SUMMED = 8_192
"""Inputs whose outer products a GPU's matrix units sum before a float32 takes the sum over."""
_STRIP = 2_048  # rows of the moment that are worked out at once, from the diagonal on: the rest mirrors them


class SecondMoment:
    """The mean of x xᵀ over a linear's inputs, `[in_features, in_features]` in float32: GPTQ's Hessian, halved.

    Half-precision inputs on a GPU go through its matrix units: two such numbers' product is exact in float32, and sums
    are kept in float32. It is symmetric to the bit.

    Examples
    --------
    >>> moment = SecondMoment()
    >>> moment.add(torch.tensor([[1.0, 0.0], [0.0, 3.0]]))
    >>> moment.value()
    tensor([[0.5000, 0.0000],
            [0.0000, 4.5000]])
    """

    def __init__(self) -> None:
        self._sum: Tensor | None = None
        self._count = 0

    def add(self, x: Tensor) -> None:
        """Add inputs `[..., in_features]`."""
        rows = x.reshape(-1, x.shape[-1])
        on_matrix_units = rows.is_cuda and rows.dtype != torch.float32
        if self._sum is None:
            self._sum = torch.zeros(rows.shape[1], rows.shape[1], device=rows.device)
        self._count += rows.shape[0]
        for some in torch.split(rows, SUMMED) if on_matrix_units else [rows.float()]:
            for start in range(0, rows.shape[1], _STRIP):
                strip, into = some[:, start : start + _STRIP].T, self._sum[start : start + _STRIP, start:]
                if on_matrix_units:
                    into += torch.mm(strip, some[:, start:], out_dtype=torch.float32)
                else:
                    into.addmm_(strip, some[:, start:])

    def value(self) -> Tensor:
        """Return the mean so far."""
        if self._sum is None:
            raise MeasureError("no calibration token reached this linear")
        mean = self._sum / self._count
        for start in range(_STRIP, len(mean), _STRIP):
            mean[start:, start - _STRIP : start] = mean[start - _STRIP : start, start:].T
        return mean
