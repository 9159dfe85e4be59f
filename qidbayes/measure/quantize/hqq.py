"""HQQ (Badri & Shaji 2023, mobiusml.github.io/hqq_blog): zero points moved to where a few weights may be far off."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from qidbayes.measure.plan.methods import METHODS, check_settings
from qidbayes.measure.quantize.grid import SCALE_BITS
from qidbayes.measure.quantize.matrix import MatrixQuantizer

_SETTINGS = METHODS["hqq"].settings
_NORM, _PENALTY, _STEPS = 0.7, 10.0, 20  # as the library has them: p of |x|^p, what a step costs, the most steps
_FLAT, _STEEPEST = 1e-4, 2e4  # spans that are taken for none; the largest inverse scale


@dataclass(frozen=True)
class HQQ(MatrixQuantizer):
    """Half-quadratic quantization: no data, groups along the inputs, zero points that are no whole numbers.

    It does what the library of that name does (0.2.8, `axis=1`, its default solver), to the bit: checks/quantizers.

    Attributes
    ----------
    bits
        Width of a weight, 1 to 8.
    group_size
        Inputs that share a scale and a zero point; None for a whole output channel.
    """

    method: ClassVar[str] = "hqq"

    bits: int
    group_size: int | None = _SETTINGS["group_size"].default

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self.method, vars(self))

    def round_linear(self, linear: nn.Linear) -> tuple[Tensor, int]:
        """See `MatrixQuantizer.round_linear`. Scales and zero points are kept in the model's type."""
        weight = linear.weight.detach()
        groups = weight.float().reshape(-1, self.group_size or linear.in_features)
        codes, scale, zero = (x.to(weight.dtype) for x in self.solve(groups))
        stored = self.bits * weight.numel() + 2 * SCALE_BITS * len(groups)
        return ((codes - zero) * scale).reshape(weight.shape), stored

    def solve(self, groups: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return codes, scales and zero points: a weight stands for `(code - zero) * scale`.

        Parameters
        ----------
        groups
            `[groups, size]`, float32. On a GPU the steps are taken in float16, as the library takes them.

        Examples
        --------
        >>> codes, scale, zero = HQQ(bits=2).solve(torch.tensor([[-1.0, -0.4, 0.2, 0.8]]))
        >>> codes.int()
        tensor([[0, 1, 2, 3]], dtype=torch.int32)
        """
        top = 2**self.bits - 1
        low, high = groups.amin(1, keepdim=True), groups.amax(1, keepdim=True)
        span = high - low
        slope = torch.where(span.abs() <= _FLAT, 1.0, top / span).clamp(max=_STEEPEST)
        zero = -low * slope
        if self.bits == 4:
            zero = zero.round()  # where it starts: the library's rule for this width alone
        work = torch.float16 if groups.is_cuda else torch.float32
        weights, slope, zero = groups.to(work), slope.to(work), zero.to(work)
        least = torch.inf
        for _ in range(_STEPS):
            codes = torch.round(weights * slope + zero).clamp(0, top)
            rounded = (codes - zero) / slope
            zero = torch.mean(codes - (weights - _shrunk(weights - rounded)) * slope, dim=1, keepdim=True)
            error = float((weights - rounded).abs().mean().float())
            if not error < least:
                break
            least = error
        return torch.round(groups * slope + zero).clamp(0, top), 1 / slope, zero


def _shrunk(x: Tensor) -> Tensor:
    """The proximal step of |x|^p: the errors that weights may keep."""
    size = x.abs()
    return (size - (1 / _PENALTY) * size.pow(_NORM - 1)).clamp(min=0) * x.sign()
