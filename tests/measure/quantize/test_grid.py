"""Round to nearest against the formula written out weight by weight."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from qidbayes.measure.quantize.grid import round_to_grid, stored_bits


def by_hand(values: list[float], bits: int, symmetric: bool) -> list[float]:
    """One group, in Python floats: no broadcasting, no tensors."""
    low, high = min(0.0, *values), max(0.0, *values)
    if symmetric:
        high = max(high, -low)
        low = -high
    if high == low:
        return [0.0 for _ in values]
    step = (high - low) / (2**bits - 1)
    zero = 2 ** (bits - 1) if symmetric else round(-low / step)
    return [step * (min(max(round(v / step) + zero, 0), 2**bits - 1) - zero) for v in values]


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("group_size", [4, 12, None])
def test_matches_the_elementwise_formula(bits: int, symmetric: bool, group_size: int | None) -> None:
    weight = torch.randn(5, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(bits))
    weight[1] = weight[1].abs()  # a row of one sign
    weight[2, :4] = 0  # a group of zeros
    size = group_size or 12
    expected = [
        [value for i in range(0, 12, size) for value in by_hand(row[i : i + size], bits, symmetric)]
        for row in weight.tolist()
    ]
    rounded = round_to_grid(weight, bits, group_size, symmetric)
    torch.testing.assert_close(rounded, torch.tensor(expected, dtype=torch.float64), rtol=1e-14, atol=1e-15)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=16), st.integers(2, 8), st.booleans(), st.booleans()
)
def test_error_is_at_most_a_step(values: list[float], bits: int, symmetric: bool, single: bool) -> None:
    dtype = torch.float32 if single else torch.float64
    weight = torch.tensor([values], dtype=dtype)
    rounded = round_to_grid(weight, bits, None, symmetric)
    span = max(0.0, *values) - min(0.0, *values)
    step = (2 * max(map(abs, values)) if symmetric else span) / (2**bits - 1)
    # Half a step inside the grid; the zero point's own rounding can push an end out by half a step more.
    assert (rounded - weight).abs().max() <= step * (1 + 1e-4) + 1e-30
    assert len(rounded.unique()) <= 2**bits


def test_a_grid_value_stays_where_it_is() -> None:
    weight = torch.randn(4, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    once = round_to_grid(weight, 4, 8, symmetric=False)
    torch.testing.assert_close(round_to_grid(once, 4, 8, symmetric=False), once, rtol=1e-13, atol=1e-14)


def test_stored_bits_are_counted_by_hand() -> None:
    linears = [nn.Linear(128, 3), nn.Linear(64, 5)]
    # 3 * 128 + 5 * 64 weights; 3 * 2 + 5 groups of 64, each with a 16-bit scale, and a zero point as wide as a weight
    assert stored_bits(linears, 3, 64, symmetric=True) == 704 * 3 + 11 * 16
    assert stored_bits(linears, 3, 64, symmetric=False) == 704 * 3 + 11 * 19
    assert math.isclose(stored_bits(linears, 4, None, symmetric=True), 704 * 4 + 8 * 16)
