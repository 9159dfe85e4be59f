"""The Cholesky factor of the damped Hessian's inverse, by which GPTQ spreads an error: computed in two ways."""

import torch
from torch import Tensor

from qidbayes.measure.errors import MeasureError

_SMALL = 512  # columns up to which a triangle is not halved


def factorize(hessian: Tensor, damping: float) -> Tensor:
    """The upper Cholesky factor of the damped Hessian's inverse.

    Row i, over its diagonal, says how column i's rounding error spreads over the columns after it. Where the matrix is
    not positive definite to working precision, damping grows tenfold until it is, up to 1.

    Raises
    ------
    MeasureError
        If a damping of 1 does not help either.
    """
    upper: Tensor
    mean = torch.diag(hessian).mean()  # of a copy: a strided view sums in another order, and the libraries sum a copy
    while True:
        damped = hessian + torch.diag_embed((damping * mean).expand(hessian.shape[0]))
        lower, failed = torch.linalg.cholesky_ex(damped)
        if not failed:
            upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
            if not failed and torch.isfinite(upper).all() and torch.isfinite(mean):
                return upper
        if damping >= 1:
            raise MeasureError("the Hessian of the calibration inputs cannot be factorized, even with damping 1")
        damping = min(10 * damping, 1.0)


def factorize_fast(hessian: Tensor, damping: float) -> Tensor:
    """What `qidbayes.measure.quantize.gptq.factorize` returns, at a quarter of its operations.

    With the columns in reverse, H = L Lᵀ; put back in order, L is an upper triangle R with H = R Rᵀ, and the factor of
    the inverse is R⁻¹. It is found by halves, so that nearly all of the work is in matrix products. With R's blocks A,
    B and C, C⁻¹ comes first, from H's last block. It gives B = H₁₂ C⁻ᵀ; A⁻¹ comes from H₁₁ − B Bᵀ; and what stands
    between them in the inverse is −A⁻¹ B C⁻¹.

    Raises
    ------
    MeasureError
        If a damping of 1 does not help either.

    Examples
    --------
    >>> spread = factorize_fast(torch.tensor([[2.0, 1.0], [1.0, 2.0]]), damping=1e-6)
    >>> spread.T @ spread
    tensor([[ 0.6667, -0.3333],
            [-0.3333,  0.6667]])
    """
    mean = hessian.diagonal().mean()
    added = 0.0
    while True:
        hessian.diagonal().add_((damping - added) * mean)
        added = damping
        upper: Tensor = torch.zeros_like(hessian)
        failed = _invert_factor(hessian.clone(), upper)
        # Asked once for all: a GPU that is asked has to have done everything, and stands still until the next launch.
        if (failed == 0) & torch.isfinite(upper).all() & torch.isfinite(mean):
            return upper
        if damping >= 1:
            raise MeasureError("the Hessian of the calibration inputs cannot be factorized, even with damping 1")
        damping = min(10 * damping, 1.0)


def _invert_factor(matrix: Tensor, out: Tensor) -> Tensor:
    """Write R⁻¹ into an upper triangle, for a matrix R Rᵀ whose own upper triangle is used up; returns 0, or not."""
    failed: Tensor
    size = len(matrix)
    if size <= _SMALL:
        lower, failed = torch.linalg.cholesky_ex(matrix.flip(0, 1))
        one = torch.eye(size, dtype=matrix.dtype, device=matrix.device)
        out.copy_(torch.linalg.solve_triangular(lower.flip(0, 1), one, upper=True))
        return failed
    half = size // 2
    first, corner, last = out[:half, :half], out[:half, half:], out[half:, half:]
    failed = _invert_factor(matrix[half:, half:], last)
    between = _upper_times(last, matrix[:half, half:].T)
    _take_square(matrix[:half, :half], between)
    failed = failed + _invert_factor(matrix[:half, :half], first)
    corner.copy_(_upper_times(first, _times_upper(between.T, last))).neg_()
    return failed


def _take_square(matrix: Tensor, x: Tensor) -> None:
    """Take xᵀ x away from a matrix's upper triangle, by halves."""
    size = len(matrix)
    if size <= _SMALL:
        matrix.addmm_(x.T, x, alpha=-1)
        return
    half = size // 2
    matrix[:half, half:].addmm_(x[:, :half].T, x[:, half:], alpha=-1)
    _take_square(matrix[:half, :half], x[:, :half])
    _take_square(matrix[half:, half:], x[:, half:])


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
