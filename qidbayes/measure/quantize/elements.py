"""Small floating-point numbers: the values that a code of 4, 6 or 8 bits stands for, before its scale."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Element:
    """Floating-point numbers of a few bits, without infinities.

    Attributes
    ----------
    bits
        Width of a code, its sign included.
    mantissa
        Bits of the fraction.
    least
        The exponent of the smallest normal number; below it numbers are as far apart as there.
    highest
        The largest number; what is larger is rounded to it.
    """

    bits: int
    mantissa: int
    least: int
    highest: float

    def nearest(self, x: Tensor) -> Tensor:
        """Round to the nearest of these numbers, ties to the even fraction.

        Examples
        --------
        >>> E2M1.nearest(torch.tensor([0.2, 0.25, 0.75, -2.5, 5.0, 99.0]))
        tensor([ 0.,  0.,  1., -2.,  4.,  6.])
        """
        _, exponent = torch.frexp(x)  # of a fraction from 1/2 to 1
        step = torch.ldexp(torch.ones_like(x), (exponent - 1).clamp(min=self.least) - self.mantissa)
        return (torch.round(x / step) * step).clamp(-self.highest, self.highest)


E4M3 = Element(8, 3, -6, 448.0)
E3M2 = Element(6, 2, -2, 28.0)
E2M3 = Element(6, 3, 0, 7.5)
E2M1 = Element(4, 1, 0, 6.0)
