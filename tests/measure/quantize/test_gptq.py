"""GPTQ's solver against closed forms, a slow reference that updates the inverse Hessian, and round to nearest."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from qidbayes.errors import InputError
from qidbayes.measure.errors import MeasureError
from qidbayes.measure.quantize import GPTQ
from qidbayes.measure.quantize.factorize import factorize, factorize_fast
from qidbayes.measure.quantize.gptq import Factorizer
from qidbayes.measure.quantize.gptq_batched import solve_together
from qidbayes.measure.quantize.grid import fit_grid, round_to_grid


def problem(rows: int = 6, columns: int = 24, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A weight, and the second moment of correlated inputs, in float64."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, dtype=torch.float64, generator=generator)
    mix = torch.randn(columns, columns, dtype=torch.float64, generator=generator)
    inputs = torch.randn(400, columns, dtype=torch.float64, generator=generator) @ mix
    return weight, inputs.T @ inputs / 400


def cost(weight: Tensor, quantized: Tensor, hessian: Tensor) -> float:
    change = quantized - weight
    return float(((change @ hessian) * change).sum())


def optimal_brain_quantizer(
    weight: Tensor, hessian: Tensor, bits: int, group_size: int, symmetric: bool
) -> tuple[Tensor, Tensor]:
    """One column at a time with the explicit inverse Hessian of the columns left (Frantar et al., eqs. 2 and 3).

    Also returns which rows met a tie, as a symmetric grid's extreme does if its column comes first: there the last bit
    of a sum decides, and rows do not interact.
    """
    weight = weight.clone()
    tied = torch.zeros(len(weight), dtype=torch.bool)
    inverse = torch.linalg.inv(hessian)
    quantized = torch.zeros_like(weight)
    for c in range(weight.shape[1]):
        if c % group_size == 0:
            grid = fit_grid(weight[:, c : c + group_size].clone(), bits, symmetric)
        steps = (weight[:, c : c + 1] / grid.scale)[:, 0]
        tied |= (steps - steps.floor() - 0.5).abs() < 1e-9
        quantized[:, c] = grid.nearest(weight[:, c : c + 1])[:, 0]
        error = (weight[:, c] - quantized[:, c]) / inverse[c, c]
        weight = weight - torch.outer(error, inverse[c])
        inverse = inverse - torch.outer(inverse[:, c], inverse[c]) / inverse[c, c]
    return quantized, tied


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("group_size", [8, 24])
def test_matches_the_slow_reference(bits: int, symmetric: bool, group_size: int) -> None:
    weight, hessian = problem(seed=bits)
    damped = hessian + 0.01 * hessian.diagonal().mean() * torch.eye(24, dtype=torch.float64)
    expected, tied = optimal_brain_quantizer(weight, damped, bits, group_size, symmetric)
    # A block of one column spreads every error at once, as the reference does.
    solved = GPTQ(bits, group_size, symmetric, block_size=1).solve(weight, hessian)
    assert not tied.all()
    torch.testing.assert_close(solved[~tied], expected[~tied], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("group_size", [4, 12, None])
@pytest.mark.parametrize("symmetric", [True, False])
def test_uncorrelated_inputs_make_it_round_to_nearest(group_size: int | None, symmetric: bool) -> None:
    weight, _ = problem()
    solved = GPTQ(3, group_size, symmetric).solve(weight, 2.5 * torch.eye(24, dtype=torch.float64))
    torch.testing.assert_close(solved, round_to_grid(weight, 3, group_size, symmetric), rtol=0, atol=0)


@pytest.mark.parametrize("block_size", [1, 5, 8, 24, 1000])
def test_block_size_does_not_matter_where_groups_are_no_smaller(block_size: int) -> None:
    weight, hessian = problem()
    whole = GPTQ(3, None, block_size=24).solve(weight, hessian)
    torch.testing.assert_close(GPTQ(3, None, block_size=block_size).solve(weight, hessian), whole)


def test_two_columns_in_closed_form() -> None:
    """The second column moves by the first's error times H12 / H22: the least squares answer."""
    weight = torch.tensor([[0.3, -1.0]], dtype=torch.float64)
    hessian = torch.tensor([[2.0, 0.8], [0.8, 1.0]], dtype=torch.float64)
    damping = 0.01
    step = 2 / 7  # three bits, symmetric around the largest magnitude, 1
    first = step * round(0.3 / step)
    second = -1.0 + (0.3 - first) * 0.8 / (1.0 + damping * 1.5)
    expected = torch.tensor([[first, step * max(round(second / step), -4)]], dtype=torch.float64)
    torch.testing.assert_close(GPTQ(3, None, damping=damping).solve(weight, hessian), expected)


@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_costs_less_than_round_to_nearest(act_order: bool, seed: int) -> None:
    weight, hessian = problem(16, 64, seed)
    for bits in (2, 3, 4):
        gptq = GPTQ(bits, 32, act_order=act_order).solve(weight, hessian)
        assert cost(weight, gptq, hessian) < 0.8 * cost(weight, round_to_grid(weight, bits, 32, True), hessian)


def test_act_order_is_a_permutation_of_the_problem() -> None:
    weight, hessian = problem()
    order = torch.argsort(hessian.diagonal(), descending=True)
    plain = GPTQ(3, 8).solve(weight[:, order], hessian[order][:, order])
    expected = torch.empty_like(plain)
    expected[:, order] = plain
    torch.testing.assert_close(GPTQ(3, 8, act_order=True).solve(weight, hessian), expected, rtol=0, atol=0)


@pytest.mark.parametrize("act_order", [False, True])
def test_static_groups_keep_each_columns_own_grid(act_order: bool) -> None:
    weight, hessian = problem()
    solved = GPTQ(3, 8, act_order=act_order, static_groups=True).solve(weight, hessian)
    for part, original in zip(solved.split(8, dim=1), weight.split(8, dim=1), strict=True):
        grid = fit_grid(original, 3, True)
        codes = part / grid.scale
        torch.testing.assert_close(codes, codes.round(), rtol=0, atol=1e-9)


def test_dead_inputs_become_zero_and_leave_the_rest_alone() -> None:
    weight, hessian = problem()
    hessian[[3, 17]] = 0
    hessian[:, [3, 17]] = 0
    solved = GPTQ(4, None).solve(weight, hessian)
    assert solved[:, [3, 17]].abs().max() == 0
    assert torch.isfinite(solved).all()


SETTINGS = [
    {"group_size": None},
    {"group_size": 8, "symmetric": False},
    {"group_size": 8, "act_order": True},
    {"group_size": 8, "act_order": True, "static_groups": True},
]


def with_dead_inputs(dead: list[int], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    weight, hessian = problem()
    hessian[dead] = 0
    hessian[:, dead] = 0
    return weight.to(dtype), hessian.to(dtype)


@given(
    unit=st.integers(-40, 40),
    settings=st.sampled_from(SETTINGS),
    dead=st.lists(st.integers(0, 23), unique=True),
    factor=st.sampled_from([factorize, factorize_fast]),
)
def test_the_hessians_unit_does_not_matter(
    unit: int, settings: dict[str, object], dead: list[int], factor: Factorizer
) -> None:
    """A power of two changes no digit of a float, so the answers are equal to the bit."""
    weight, hessian = with_dead_inputs(dead, torch.float32)
    quantizer = GPTQ(3, **settings)  # type: ignore[arg-type]
    expected = quantizer.solve(weight, hessian, factor)
    scaled = hessian * 2.0**unit
    assert torch.equal(quantizer.solve(weight, scaled, factor), expected)
    (together,) = solve_together([quantizer], [quantizer.prepare(weight, scaled.clone(), factor)])
    torch.testing.assert_close(together, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("unit", [1e-9, 1 / 3, 1000.0, 4096.0])
@pytest.mark.parametrize("group_size, act_order", [(None, False), (None, True), (8, True)])
def test_dead_inputs_change_nothing_for_the_others(unit: float, group_size: int | None, act_order: bool) -> None:
    """In any unit: the answer is that of the problem with the dead columns taken out. In `act_order` they come last."""
    dead = [0, 3, 4, 5, 11, 12, 17, 23]
    weight, hessian = with_dead_inputs(dead)
    live = [column for column in range(24) if column not in dead]
    quantizer = GPTQ(3, group_size, act_order=act_order)
    alone = quantizer.solve(weight[:, live], hessian[live][:, live])
    torch.testing.assert_close(quantizer.solve(weight, unit * hessian)[:, live], alone, rtol=0, atol=1e-12)


def test_inputs_that_are_all_dead_leave_zeros() -> None:
    weight, hessian = with_dead_inputs(list(range(24)))
    assert not GPTQ(3, 8, act_order=True).solve(weight, hessian).any()


def test_arguments_are_left_as_they_were() -> None:
    weight, hessian = problem()
    copies = weight.clone(), hessian.clone()
    GPTQ(2, 8, act_order=True).solve(weight, hessian)
    assert torch.equal(weight, copies[0])
    assert torch.equal(hessian, copies[1])


def test_indefinite_hessian_raises_the_damping_until_it_factorizes() -> None:
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[0, 0] = -0.05
    upper = factorize(matrix, damping=0.01)
    damped = matrix + 0.1 * matrix.diagonal().mean() * torch.eye(4, dtype=torch.float64)
    torch.testing.assert_close(upper.T @ upper, torch.linalg.inv(damped))


def test_hopeless_hessians_are_refused() -> None:
    with pytest.raises(MeasureError, match="cannot be factorized"):
        factorize(torch.diag(torch.tensor([1.0, -5.0])), damping=0.01)
    with pytest.raises(MeasureError, match="not finite"):
        GPTQ(4, None).solve(torch.ones(1, 2), torch.tensor([[1.0, torch.nan], [torch.nan, 1.0]]))


@pytest.mark.parametrize("damping", [0.0, -0.1, 1.5, float("nan")])
def test_damping_out_of_range_is_refused(damping: float) -> None:
    with pytest.raises(InputError, match="damping"):
        GPTQ(4, damping=damping)
