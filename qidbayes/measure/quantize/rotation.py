"""Hadamard rotation of a linear's inputs: the outliers of a few are spread over many before they are rounded."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_SEED = 0  # of the signs, which are the same for every linear of a width


@dataclass(frozen=True)
class Rotation:
    """The orthogonal matrix R = diag(s)·H, of random signs s and a Hadamard matrix H over its size's root.

    For a width that is no power of 2, H stands in blocks on the diagonal, each as wide as the largest power of 2 that
    divides the width: 768 has three of 256, 11,008 has 43 of 256.

    A linear W x is (W R)(Rᵀ x). What is rounded is W R; its rounded form, times Rᵀ, takes the place of W. A kernel that
    turns its inputs computes the same, and so does a model whose weights before were turned for it. Every
    architecture's function stays what it was (QuaRot, arXiv:2404.00456; QuIP#, arXiv:2402.04396).

    Attributes
    ----------
    size
        The linear's inputs.
    """

    size: int

    @property
    def block(self) -> int:
        """The width of a Hadamard matrix: a power of 2."""
        return self.size & -self.size

    def turned(self, x: Tensor) -> Tensor:
        """Return x R for `[..., size]`.

        Examples
        --------
        >>> x = torch.tensor([[8.0, 0.0, 0.0, 0.0]])
        >>> Rotation(4).turned(x).abs()
        tensor([[4., 4., 4., 4.]])
        >>> Rotation(4).back(Rotation(4).turned(x)) + 0
        tensor([[8., 0., 0., 0.]])
        """
        return self._hadamard(x * self._signs(x))

    def back(self, x: Tensor) -> Tensor:
        """Return x Rᵀ."""
        return self._hadamard(x) * self._signs(x)

    def moment(self, moment: Tensor) -> Tensor:
        """Return Rᵀ M R: the second moment of the turned inputs, given that of the inputs, `[size, size]`."""
        return self.turned(self.turned(moment).T).T

    def _signs(self, like: Tensor) -> Tensor:
        bits = torch.randint(2, (self.size,), generator=torch.Generator().manual_seed(_SEED))
        return (2 * bits - 1).to(like)

    def _hadamard(self, x: Tensor) -> Tensor:
        made = x.reshape(-1, self.block)
        width = 1
        while width < self.block:
            halves = made.view(-1, self.block // (2 * width), 2, width)
            first, second = halves[:, :, 0], halves[:, :, 1]
            made = torch.stack((first + second, first - second), dim=2).view(-1, self.block)
            width *= 2
        return (made / math.sqrt(self.block)).view(x.shape)


def round_turned(x: Tensor, turned: bool, rounding: Callable[[Tensor], Tensor]) -> Tensor:
    """Round `[n, inputs]`, with the inputs turned before and back afterwards if asked.

    Examples
    --------
    >>> round_turned(torch.tensor([[9.0, 0.0, 0.0, 0.0]]), True, torch.round) + 0
    tensor([[8., 0., 0., 0.]])
    """
    if not turned:
        return rounding(x)
    turn = Rotation(x.shape[-1])
    return turn.back(rounding(turn.turned(x)))
