"""The formats of bitsandbytes against nearest values picked by hand."""

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig

from qidbayes.measure.decoder.layers import stack_linears
from qidbayes.measure.quantize import BitsAndBytes

# QLoRA's table (arXiv:2305.14314, appendix E), and FP4's one sign, two exponent and one mantissa bits over its largest.
NF4 = [-1, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0]
NF4 += [0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1]
FP4 = [s * v / 12 for s in (-1, 1) for v in (0, 0.0625, 2, 3, 4, 6, 8, 12)]


def nearest(weight: Tensor, values: list[float], block: int) -> Tensor:
    table = torch.tensor(values, dtype=torch.float64)
    blocks = weight.double().flatten().split(block)
    scaled = [(b / b.abs().max(), b.abs().max()) for b in blocks]
    return torch.cat([table[(b[:, None] - table).abs().argmin(1)] * top for b, top in scaled]).reshape(weight.shape)


@pytest.mark.parametrize("width", [64, 96, 40])
@pytest.mark.parametrize(("kind", "values"), [("nf4", NF4), ("fp4", FP4)])
def test_four_bits_are_the_nearest_values_of_their_block(width: int, kind: str, values: list[float]) -> None:
    """Also where blocks of 64 run on from row to row."""
    config = LlamaConfig(
        vocab_size=8, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=1, num_attention_heads=2
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    expected = {name: nearest(linear.weight.detach(), values, 64) for name, linear in stack_linears(model).items()}
    BitsAndBytes(kind).quantize(model, torch.zeros(1, 1, dtype=torch.long))
    for name, linear in stack_linears(model).items():
        differing = ~torch.isclose(linear.weight.detach().double(), expected[name], rtol=1e-5, atol=1e-8)
        # float32 boundaries: a weight within 1e-6 of one may go either way, about one in a hundred thousand
        assert differing.float().mean() < 1e-3, name


def test_int8_rounds_rows_to_127_steps_of_their_largest() -> None:
    config = LlamaConfig(vocab_size=8, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    before = {name: linear.weight.detach().half().double() for name, linear in stack_linears(model).items()}
    BitsAndBytes("int8").quantize(model, torch.zeros(1, 1, dtype=torch.long))
    for name, linear in stack_linears(model).items():
        step = before[name].abs().amax(1, keepdim=True) / 127
        torch.testing.assert_close(
            linear.weight.detach().double() / step, (before[name] / step).round(), rtol=0, atol=2e-4
        )
