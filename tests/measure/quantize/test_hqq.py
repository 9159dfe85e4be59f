"""HQQ against its paper's steps in NumPy with double precision, and against rounding without them."""

import numpy as np
import pytest
import torch
from torch import nn

from qidbayes.errors import InputError
from qidbayes.measure.quantize import HQQ


def heavy_tailed(rows: int, columns: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_t(3, (rows, columns)) * 0.02


def half_quadratic(groups: np.ndarray, bits: int) -> np.ndarray:
    """Minimise |W - Ŵ|^0.7 + ½·10·|We - (W - Ŵ)|² over We and the zero point in turn, while the mean error falls."""
    top = 2**bits - 1
    low, span = groups.min(1, keepdims=True), np.ptp(groups, axis=1, keepdims=True)
    slope = top / span
    zero = -low * slope
    zero = np.round(zero) if bits == 4 else zero
    least = np.inf
    for _ in range(20):
        codes = np.clip(np.round(groups * slope + zero), 0, top)
        off = groups - (codes - zero) / slope
        size = np.abs(off)
        allowed = np.sign(off) * np.maximum(size - 0.1 * np.where(size, size, 1) ** -0.3, 0)
        zero = (codes - (groups - allowed) * slope).mean(1, keepdims=True)
        if not size.mean() < least:
            break
        least = size.mean()
    return (np.clip(np.round(groups * slope + zero), 0, top) - zero) / slope


def rounded(weight: np.ndarray, bits: int, size: int | None) -> np.ndarray:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    linear.weight.data = torch.tensor(weight, dtype=torch.float32)
    return HQQ(bits, size).round_linear(linear)[0].double().numpy()


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("size", [16, 64, None])
def test_the_steps_of_the_paper(bits: int, size: int | None) -> None:
    """Float32 may put a weight within 1e-6 of a border to either side: few, each by one step of its group."""
    weight = heavy_tailed(24, 128, bits)
    expected = half_quadratic(weight.reshape(-1, size or 128), bits).reshape(weight.shape)
    assert (np.abs(rounded(weight, bits, size) - expected) > 1e-6).mean() < 0.01


@pytest.mark.parametrize("bits", [2, 3])
def test_more_weights_are_nearly_right_than_without_the_steps(bits: int) -> None:
    weight = heavy_tailed(64, 128, bits)
    groups = weight.reshape(-1, 64)
    low, step = groups.min(1, keepdims=True), np.ptp(groups, axis=1, keepdims=True) / (2**bits - 1)
    plain = (low + step * np.round((groups - low) / step)).reshape(weight.shape)
    ours = rounded(weight, bits, 64)
    assert (np.abs(ours - weight) ** 0.7).sum() < (np.abs(plain - weight) ** 0.7).sum()


def test_bits_that_are_stored() -> None:
    assert HQQ(3, 64).round_linear(nn.Linear(128, 4))[1] == 3 * 512 + 8 * 2 * 16  # a scale and a zero point a group


def test_a_group_of_zeros_stays_zeros() -> None:
    weight = heavy_tailed(4, 32, 0)
    weight[1] = 0
    assert (rounded(weight, 4, 16)[1] == 0).all()


@pytest.mark.parametrize("bits", [0, 9])
def test_widths_that_there_are_not(bits: int) -> None:
    with pytest.raises(InputError, match=r"hqq: bits = \d is not accepted; give a whole number from 1 to 8"):
        HQQ(bits)
