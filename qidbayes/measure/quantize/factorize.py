"""The Cholesky factor of the damped Hessian's inverse, by which GPTQ spreads an error: computed in two ways."""

import torch
from torch import Tensor

from qidbayes.measure.errors import MeasureError

_SMALL = 1_024  # columns from which on a triangle is inverted by halves


def factorize(hessian: Tensor, damping: float) -> tuple[Tensor, float]:
    """The upper Cholesky factor of the damped Hessian's inverse, and the damping it took.

    Row i, over its diagonal, says how column i's rounding error spreads over the columns after it. Where the matrix is
    not positive definite to working precision, damping grows tenfold until it is, up to 1.

    Raises
    ------
    MeasureError
        If a damping of 1 does not help either.
    """
    mean = torch.diag(hessian).mean()  # of a copy: a strided view sums in another order, and the libraries sum a copy
    while True:
        damped = hessian + torch.diag_embed((damping * mean).expand(hessian.shape[0]))
        lower, failed = torch.linalg.cholesky_ex(damped)
        if not failed:
            upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
            if not failed and torch.isfinite(upper).all() and torch.isfinite(mean):
                return upper, damping
        if damping >= 1:
            raise MeasureError("the Hessian of the calibration inputs cannot be factorized, even with damping 1")
        damping = min(10 * damping, 1.0)


def factorize_fast(hessian: Tensor, damping: float) -> tuple[Tensor, float]:
    """What `qidbayes.measure.quantize.gptq.factorize` returns, at a quarter of its operations.

    With the columns in reverse, H = L Lᵀ; put back in order, L is an upper triangle R with H = R Rᵀ, and the factor of
    the inverse is R⁻¹. So one factorization and one triangle's inverse do for two factorizations and a full inverse.

    Raises
    ------
    MeasureError
        If a damping of 1 does not help either.

    Examples
    --------
    >>> spread, _ = factorize_fast(torch.tensor([[2.0, 1.0], [1.0, 2.0]]), damping=1e-6)
    >>> spread.T @ spread
    tensor([[ 0.6667, -0.3333],
            [-0.3333,  0.6667]])
    """
    mean = hessian.diagonal().mean()
    added = 0.0
    while True:
        hessian.diagonal().add_((damping - added) * mean)
        added = damping
        lower, failed = torch.linalg.cholesky_ex(hessian.flip(0, 1))
        upper = lower.flip(0, 1)
        del lower
        _invert_upper(upper)
        # Asked once for all: a GPU that is asked has to have done everything, and stands still until the next launch.
        if (failed == 0) & torch.isfinite(upper).all() & torch.isfinite(mean):
            return upper, damping
        if damping >= 1:
            raise MeasureError("the Hessian of the calibration inputs cannot be factorized, even with damping 1")
        damping = min(10 * damping, 1.0)


def _invert_upper(upper: Tensor) -> None:
    """Invert an upper triangle in place, by halves, so that nearly all of the work is in matrix products."""
    size = len(upper)
    if size <= _SMALL:
        upper.copy_(
            torch.linalg.solve_triangular(upper, torch.eye(size, dtype=upper.dtype, device=upper.device), upper=True)
        )
        return
    half = size // 2
    first, corner, last = upper[:half, :half], upper[:half, half:], upper[half:, half:]
    _invert_upper(first)
    _invert_upper(last)
    corner.copy_(_times_upper(_upper_times(first, corner), last))
    corner.neg_()


def _upper_times(upper: Tensor, x: Tensor) -> Tensor:
    """An upper triangle times a matrix, by halves: what lies below the diagonal is left out."""
    size = len(upper)
    if size <= _SMALL:
        return upper @ x
    half = size // 2
    first = _upper_times(upper[:half, :half], x[:half]).addmm_(upper[:half, half:], x[half:])
    return torch.cat([first, _upper_times(upper[half:, half:], x[half:])])


def _times_upper(x: Tensor, upper: Tensor) -> Tensor:
    """A matrix times an upper triangle, likewise."""
    size = len(upper)
    if size <= _SMALL:
        return x @ upper
    half = size // 2
    last = _times_upper(x[:, half:], upper[half:, half:]).addmm_(x[:, :half], upper[:half, half:])
    return torch.cat([_times_upper(x[:, :half], upper[:half, :half]), last], dim=1)
