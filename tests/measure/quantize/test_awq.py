"""AWQ's search against round to nearest and against brute force over its exponents."""

import pytest
import torch
from torch import Tensor

from qidbayes.measure.quantize import AWQ
from qidbayes.measure.quantize.grid import round_to_grid


def problem(seed: int = 0) -> tuple[Tensor, Tensor]:
    """A weight, and inputs whose channels differ a hundredfold in size."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(12, 32, generator=generator)
    return weight, torch.randn(300, 32, generator=generator) * torch.logspace(-1, 1, 32)


def output_error(weight: Tensor, quantized: Tensor, inputs: Tensor) -> float:
    """From the outputs themselves, where the quantizer goes through the second moment."""
    return float((inputs @ (quantized - weight).T).square().sum(1).mean())


def solve(quantizer: AWQ, weight: Tensor, inputs: Tensor) -> Tensor:
    return quantizer.solve(weight, inputs.T @ inputs / len(inputs), inputs.abs().mean(0))


@pytest.mark.parametrize("group_size", [8, None])
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_scales_are_the_best_of_the_exponents(bits: int, group_size: int | None) -> None:
    weight, inputs = problem(bits)
    errors = []
    for step in range(20):
        scale = inputs.abs().mean(0) ** (step / 20)  # unnormalised: only ratios within a group matter
        errors.append(output_error(weight, round_to_grid(weight * scale, bits, group_size, False) / scale, inputs))
    found = output_error(weight, solve(AWQ(bits, group_size, clip=False), weight, inputs), inputs)
    assert found == pytest.approx(min(errors), rel=1e-3)  # float32 sums in another order
    assert found < errors[0]  # errors[0] is round to nearest


@pytest.mark.parametrize("seed", range(4))
def test_clipping_lowers_the_error_of_a_single_group(seed: int) -> None:
    """With one group a row, the group's own error is the row's, so clipping can only help."""
    weight, inputs = problem(seed)
    clipped = output_error(weight, solve(AWQ(2, None), weight, inputs), inputs)
    assert clipped < output_error(weight, solve(AWQ(2, None, clip=False), weight, inputs), inputs)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_each_group_is_clipped_where_its_own_outputs_change_least(seed: int, symmetric: bool) -> None:
    """Against every limit tried in turn, its error taken from the inputs themselves and not from their moment."""
    bits, size = 3, 8
    weight, inputs = problem(seed)
    inputs = inputs + inputs.roll(1, dims=1)  # neighbours are correlated, so that more than the diagonal counts
    scale = best_scale(weight, inputs, bits, size, symmetric)
    solved = solve(AWQ(bits, size, symmetric), weight, inputs)
    limits = set()
    for start in range(0, 32, size):
        group = slice(start, start + size)
        scaled = weight[:, group] * scale[group]
        errors, widest = [], scaled.abs().amax(1, keepdim=True)
        for narrowing in (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55):
            limit = narrowing * widest
            rounded = round_to_grid(scaled.clamp(-limit, limit), bits, size, symmetric) / scale[group]
            errors.append((inputs[:, group] @ (rounded - weight[:, group]).T).square().mean(0))
        least, which = torch.stack(errors).min(0)
        found = (inputs[:, group] @ (solved - weight)[:, group].T).square().mean(0)
        torch.testing.assert_close(found, least, rtol=1e-3, atol=0)
        limits |= set(which.tolist())
    assert len(limits) > 4  # or any limit would have done


def best_scale(weight: Tensor, inputs: Tensor, bits: int, size: int, symmetric: bool) -> Tensor:
    """The scales of the exponent whose rounding changes the outputs least.

    They are brought to the size that AWQ's have: a range that is clipped on both sides puts its zero point on a tie.
    """
    tried = [inputs.abs().mean(0) ** (step / 20) for step in range(20)]
    sized = [scale / (scale.max() * scale.min()).sqrt() for scale in tried]

    def cost(scale: Tensor) -> float:
        return output_error(weight, round_to_grid(weight * scale, bits, size, symmetric) / scale, inputs)

    return min(sized, key=cost)


def test_silent_channels_are_no_trouble() -> None:
    weight, inputs = problem()
    inputs[:, :3] = 0
    assert torch.isfinite(solve(AWQ(3, 8), weight, inputs)).all()


def test_eight_bits_change_almost_nothing() -> None:
    weight, inputs = problem()
    relative = output_error(weight, solve(AWQ(8, 8), weight, inputs), inputs) / float(
        (inputs @ weight.T).square().sum(1).mean()
    )
    assert relative < 1e-4  # a grid of 256 steps over ±3 sd: (6 / 255)² / 12 = 5e-5 of the variance
