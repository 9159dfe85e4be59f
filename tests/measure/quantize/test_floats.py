"""Floating-point formats, to the bit: compressed-tensors' own rounding, torch's casts, grids listed by hand."""

import itertools

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from measure.decoders import sentences
from qidbayes.errors import InputError
from qidbayes.measure.decoder.compare import Reference, compare_windows
from qidbayes.measure.decoder.layers import restoring_weights
from qidbayes.measure.quantize import Floats, GPTQFloats, Quantizer
from qidbayes.measure.quantize.elements import E2M1, E2M3, E3M2, E4M3, Element
from qidbayes.measure.quantize.float_grid import FORMATS
from qidbayes.measure.quantize.floats import round_to_format

# Every positive value of an element by hand: fraction steps in each binade, and those below the first.
BY_HAND = {
    E2M1: [0, 0.5, 1, 1.5, 2, 3, 4, 6],
    E2M3: [k / 8 for k in range(16)] + [2 + k / 4 for k in range(8)] + [4 + k / 2 for k in range(8)],
    E3M2: [k / 16 for k in range(8)]
    + [(1 + k / 4) * 2.0**e for e, k in itertools.product(range(-1, 5), range(4))],
}  # fmt: skip


def numbers(count: int = 40_000) -> Tensor:
    """Of every size that matters, with all ties of all elements among them."""
    generator = torch.Generator().manual_seed(0)
    spread = torch.randn(count, generator=generator) * 2.0 ** torch.randint(-14, 10, (count,), generator=generator)
    ties = torch.arange(-1024, 1025) / 64
    return torch.cat([spread, ties, ties / 256, 16 * ties, torch.tensor([0.0, -0.0])])


def listed(element: Element, x: Tensor) -> Tensor:
    """The nearest of the values listed by hand; of two that are equally near, the one whose last bit is 0."""
    values = torch.tensor(BY_HAND[element], dtype=torch.float64)
    places = torch.arange(len(values))
    found = []
    for some in torch.split(x.flatten().double(), 8192):
        distance = (some.abs()[:, None] - values).abs()
        nearest = torch.where(distance == distance.amin(1, keepdim=True), places % 2, 9).argmin(1)
        found.append(values[nearest] * some.sign())
    return torch.cat(found).float().view(x.shape)


@pytest.mark.parametrize("element", BY_HAND)
def test_elements_are_those_listed_by_hand(element: Element) -> None:
    assert element.highest == max(BY_HAND[element])
    assert len(set(BY_HAND[element])) == 2 ** (element.bits - 1)
    x = numbers()
    torch.testing.assert_close(element.nearest(x), listed(element, x), rtol=0, atol=0)


def test_e4m3_is_torchs_cast() -> None:
    x = numbers()
    cast = x.clamp(-448, 448).to(torch.float8_e4m3fn).float()
    torch.testing.assert_close(E4M3.nearest(x), cast, rtol=0, atol=0)
    assert E4M3.nearest(x.double()).unique().numel() == 253  # 2 · 127 codes and one for both zeros, less both NaNs


def matrix(rows: int = 192, columns: int = 320) -> Tensor:
    """With loud rows and columns, a group and a block of zeros, a group whose scale underflows, ties of scales."""
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(rows, columns, generator=generator) * 2.0 ** torch.randint(
        -6, 3, (rows, 1), generator=generator
    )
    weight[:, 7] *= 40
    weight[3, 32:64] = 0
    weight[128:, 256:] = 0
    weight[5, 64:96] *= 1e-7
    weight[9, :32] = weight[9, :32].clamp(-1, 1)
    for row, most in enumerate((1.75, 1.74999, 1.9375, 1.93749, 1.875, 6.0, 7.0), 10):
        weight[row, :32] = weight[row, :32].clamp(-1, 1)
        weight[row, 4] = most
    return weight


def theirs(kind: str, weight: Tensor) -> Tensor:
    """What compressed-tensors makes of a matrix: its scales of the observed extremes, and its rounding."""
    library = pytest.importorskip("compressed_tensors.quantization")
    helpers = pytest.importorskip("compressed_tensors.quantization.utils.helpers")
    forward = pytest.importorskip("compressed_tensors.quantization.lifecycle.forward")
    size, power = FORMATS[kind].group_size, torch.uint8
    args = {
        "fp8": {"num_bits": 8, "strategy": "channel"},
        "fp8-tensor": {"num_bits": 8, "strategy": "tensor"},
        "fp8-block": {"num_bits": 8, "strategy": "block", "block_structure": [128, 128]},
        "mxfp4": {"num_bits": 4, "strategy": "group", "group_size": 32, "scale_dtype": power, "zp_dtype": power},
        "mxfp6": {"num_bits": 6, "strategy": "group", "group_size": 32, "scale_dtype": power, "zp_dtype": power},
        "nvfp4": {"num_bits": 4, "strategy": "tensor_group", "group_size": 16, "scale_dtype": torch.float8_e4m3fn},
    }[kind]
    said = library.QuantizationArgs(type="float", symmetric=True, dynamic=False, **args)
    shared = None
    if kind == "fp8-tensor":
        seen = weight.reshape(1, -1)
    elif kind == "fp8-block":
        rows, columns = (-(-n // 128) for n in weight.shape)
        padded = nn.functional.pad(weight, (0, -weight.shape[1] % 128, 0, -weight.shape[0] % 128))
        seen = padded.reshape(rows, 128, columns, 128).permute(0, 2, 1, 3).flatten(2)
    else:
        seen = weight.reshape(len(weight), -1, size or weight.shape[1])
    if kind == "nvfp4":
        shared = helpers.generate_gparam(weight.amin(), weight.amax())
    scale, zero = helpers.calculate_qparams(seen.amin(-1), seen.amax(-1), said, shared)
    rounded: Tensor = forward.fake_quantize(weight.clone(), scale, zero, said, shared)
    return rounded


@pytest.mark.parametrize("kind", ["fp8", "fp8-tensor", "fp8-block", "mxfp4", "mxfp6", "nvfp4"])
def test_matrices_are_compressed_tensors_to_the_bit(kind: str) -> None:
    weight = matrix()
    ours = round_to_format(weight, kind)
    assert torch.equal(ours, theirs(kind, weight))
    assert 0 < float((ours - weight).norm() / weight.norm()) < 0.2


def by_torch(kind: str, weight: Tensor) -> Tensor:
    """By the formats' definitions, with torch's casts and the lists of values."""
    rows, columns = weight.shape
    if kind.startswith("fp8"):
        made = torch.empty_like(weight)
        tall = {"fp8": 1, "fp8-tensor": rows, "fp8-block": 128}[kind]
        wide = 128 if kind == "fp8-block" else columns
        for i, j in itertools.product(range(0, rows, tall), range(0, columns, wide)):
            part = weight[i : i + tall, j : j + wide]
            scale = part.abs().max() / torch.tensor(448.0)
            scale = scale if scale > 0 else torch.tensor(1.0)
            made[i : i + tall, j : j + wide] = (part / scale).to(torch.float8_e4m3fn).float() * scale
        return made
    if kind == "nvfp4":
        groups = weight.reshape(rows, -1, 16)
        shared = 1 / weight.abs().max() * 2688
        own = (groups.abs().amax(-1, keepdim=True) / torch.tensor(6.0) * shared).to(torch.float8_e4m3fn).float()
        scale = torch.where(own > 0, own, 0.125) / shared
        return (listed(E2M1, groups / scale) * scale).reshape(rows, columns)
    element, offset = {"mxfp4": (E2M1, 2), "mxfp6": (E2M3, 2), "mxfp6-e3m2": (E3M2, 4)}[kind]
    groups = weight.reshape(rows, -1, 32)
    # Half of the fraction's last place is added to the bits of the largest, and the fraction is cut off.
    bits = groups.abs().amax(-1, keepdim=True).view(torch.int32) + (1 << (22 - element.mantissa))
    power = (bits >> 23) - 127 - offset
    scale = torch.where(power > -127, 2.0 ** power.clamp(min=-126).float(), 1.0)
    return (listed(element, groups / scale) * scale).reshape(rows, columns)


@pytest.mark.parametrize("kind", FORMATS)
def test_matrices_are_the_definitions_to_the_bit(kind: str) -> None:
    weight = matrix()
    assert torch.equal(round_to_format(weight, kind), by_torch(kind, weight))


def test_bits_of_a_weight_count_its_scales() -> None:
    linear = nn.Linear(256, 64, bias=False)
    per_weight = {kind: Floats(kind).round_linear(linear)[1] / linear.weight.numel() for kind in FORMATS}
    assert per_weight == {
        "fp8": 8 + 32 / 256,
        "fp8-tensor": 8 + 32 / (256 * 64),
        "fp8-block": 8 + 2 * 32 / (256 * 64),
        "mxfp4": 4.25,
        "mxfp6": 6.25,
        "mxfp6-e3m2": 6.25,
        "nvfp4": 4.5 + 32 / (256 * 64),
    }


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="a has 48 inputs, which group_size = 32 does not divide"):
        Floats("mxfp4").check_fit({"a": nn.Linear(48, 2)})
    Floats("fp8-block").check_fit({"a": nn.Linear(48, 2)})  # a block may end early
    for made in (Floats, GPTQFloats):
        with pytest.raises(InputError, match="format 'fp3' is not known; give one of fp8, "):
            made("fp3")


def in_float64(columns: int) -> tuple[Tensor, Tensor]:
    """Weights, and inputs that depend on each other; in float64, so that what is equal is so to the last digits."""
    generator = torch.Generator().manual_seed(2)
    mixed = torch.randn(columns, columns, dtype=torch.float64, generator=generator)
    inputs = torch.randn(4 * columns, columns, dtype=torch.float64, generator=generator) @ mixed
    weight = torch.randn(24, columns, dtype=torch.float64, generator=generator)
    return weight, inputs.T @ inputs / len(inputs)


@pytest.mark.parametrize("kind", FORMATS)
def test_gptq_rounds_to_the_grid_and_costs_less(kind: str) -> None:
    weight, hessian = in_float64(64)
    nearest = round_to_format(weight, kind)
    # Inputs that do not depend on each other leave no error to be spread.
    torch.testing.assert_close(GPTQFloats(kind).solve(weight, torch.eye(64, dtype=torch.float64)), nearest)
    solved = GPTQFloats(kind).solve(weight, hessian)

    def cost(rounded: Tensor) -> float:
        off = rounded - weight
        return float(((off @ hessian) * off).sum())

    assert cost(solved) < 0.8 * cost(nearest)
    if kind == "fp8-tensor":
        codes = solved / (weight.abs().max() / 448)
        torch.testing.assert_close(E4M3.nearest(codes), codes, rtol=1e-12, atol=0)


@pytest.mark.parametrize("kind", ["fp8-tensor", "fp8-block", "nvfp4"])
def test_linears_that_share_an_input_have_scales_of_their_own(kind: str) -> None:
    weight, hessian = in_float64(64)
    weight[:5] *= 100
    both = GPTQFloats(kind).solve(weight, hessian, sizes=[5, 19])
    alone = [GPTQFloats(kind).solve(part, hessian) for part in (weight[:5], weight[5:])]
    torch.testing.assert_close(both, torch.cat(alone), rtol=0, atol=1e-12)
    assert not torch.allclose(both, GPTQFloats(kind).solve(weight, hessian))


def test_formats_cost_a_trained_model_what_their_widths_say(trained: PreTrainedModel, calibration: Tensor) -> None:
    reference = Reference(trained, sentences(64, 65, seed=10_002))

    def cost(quantizer: Quantizer) -> float:
        with restoring_weights(trained):
            quantizer.quantize(trained, calibration)
            return float(compare_windows(trained, reference).kld.mean())

    found = {kind: cost(Floats(kind)) for kind in FORMATS}
    assert all(found[kind] < 0.3 * found["mxfp4"] for kind in found if "4" not in kind)
    assert found["mxfp6"] < 0.5 * found["mxfp6-e3m2"]  # a bit more of fraction, where no outlier needs the exponent
    assert found["nvfp4"] < found["mxfp4"]
    for kind in ("fp8", "mxfp4", "nvfp4"):
        assert cost(GPTQFloats(kind)) < 0.5 * found[kind]
