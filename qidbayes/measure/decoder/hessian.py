"""The second moment of a linear's inputs, batch by batch."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from qidbayes.measure.errors import MeasureError
from qidbayes.measure.inputs.experts import routed

try:
    from qidbayes.measure.decoder import hessian_triton
except ImportError:  # Triton comes with torch's CUDA builds only
    hessian_triton = None  # type: ignore[assignment]

SUMMED = 8_192
"""Inputs whose outer products a GPU's matrix units sum before a float32 takes the sum over."""
_STRIP = 512  # rows of the moment that are worked out at once, from the diagonal on: the rest mirrors them


class SecondMoment:
    """The mean of x xᵀ over a linear's inputs, `[in_features, in_features]` in float32: GPTQ's Hessian, halved.

    What a router gives tokens to may see few of them, or none. With fewer tokens than inputs, one more is counted, as
    loud as the rest and alike in every direction: damping that wanes with tokens. Without any, it is the identity, with
    which GPTQ and AWQ round to nearest.

    Half-precision inputs on a GPU go through its matrix units: two such numbers' product is exact in float32, and sums
    are kept in float32. It is symmetric to the bit.

    Parameters
    ----------
    routed
        Whether a router chooses the tokens.

    Attributes
    ----------
    routed
        As given.
    tokens
        How many have been added.

    Examples
    --------
    >>> moment = SecondMoment()
    >>> moment.add(torch.tensor([[1.0, 0.0], [0.0, 3.0]]))
    >>> moment.value()
    tensor([[0.5000, 0.0000],
            [0.0000, 4.5000]])
    """

    def __init__(self, routed: bool = False) -> None:
        self._sum: Tensor | None = None
        self.routed = routed
        self.tokens = 0

    def add(self, x: Tensor) -> None:
        """Add inputs `[..., in_features]`."""
        rows = x.reshape(-1, x.shape[-1])
        if self._sum is None:
            self._sum = torch.zeros(rows.shape[1], rows.shape[1], device=rows.device)
        self.tokens += rows.shape[0]
        if not rows.is_cuda or rows.dtype == torch.float32:
            rows = rows.float()
            for start in range(0, rows.shape[1], _STRIP):
                strip = rows[:, start : start + _STRIP].T
                self._sum[start : start + _STRIP, start:].addmm_(strip, rows[:, start:])
            return
        whole = len(rows) - len(rows) % SUMMED
        for some in (rows[:whole].view(-1, SUMMED, rows.shape[1]), rows[None, whole:]):
            for start in range(0, rows.shape[1] if some.numel() else 0, _STRIP):
                strip = some[:, :, start : start + _STRIP].transpose(1, 2)
                parts = torch.bmm(strip, some[:, :, start:], out_dtype=torch.float32)
                add_parts(self._sum[start : start + _STRIP, start:], parts)

    def value(self) -> Tensor:
        """Return the mean so far."""
        if self._sum is None or not (self.tokens or self.routed):
            raise MeasureError("no calibration token reached this linear")
        if self.routed and self.tokens < len(self._sum):
            power = self._sum.diagonal().mean() / self.tokens if self.tokens else self._sum.new_ones(())
            mean = (self._sum + torch.diag_embed(power.expand(len(self._sum)))) / (self.tokens + 1)
        else:
            mean = self._sum / self.tokens
        for start in range(_STRIP, len(mean), _STRIP):
            mean[start:, start - _STRIP : start] = mean[start - _STRIP : start, start:].T
        return mean


def add_parts(into: Tensor, parts: Tensor) -> None:
    """Add parts `[n, rows, columns]` to a matrix one after another."""
    if hessian_triton is not None and into.is_cuda:
        hessian_triton.add_parts(into, parts)
        return
    for part in parts:
        into += part


def second_moments(layer: nn.Module, groups: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], SecondMoment]:
    """Return an empty moment for each group of a layer's linears that share an input (`input_groups`)."""
    names = {name for _, linears in routed(layer) for name in linears}
    return {group: SecondMoment(group[0] in names) for group in groups}
