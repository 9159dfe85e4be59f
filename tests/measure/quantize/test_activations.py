"""Rounded inputs: each format by its definition, in the model, in the sweep and in a run's table."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from measure.conftest import write_plan
from measure.decoders import sentences
from qidbayes.measure import load_plan
from qidbayes.measure.decoder.compare import Reference, compare_windows
from qidbayes.measure.decoder.layers import restoring_weights, stack_linears
from qidbayes.measure.quantize import GPTQ, RTN, Floats, GPTQFloats, Quantizer
from qidbayes.measure.quantize.activations import round_tokens, rounding_inputs
from qidbayes.measure.quantize.float_grid import FORMATS
from qidbayes.measure.quantize.floats import round_to_format
from qidbayes.measure.quantize.rotation import Rotation
from qidbayes.measure.run.local import measure
from qidbayes.measure.run.sweep import sweep
from qidbayes.table import read_table


def inputs() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    loud = 2.0 ** torch.randint(-4, 5, (9, 1), generator=generator)
    return torch.randn(9, 96, generator=generator) * loud


def test_integers_have_one_scale_a_token() -> None:
    x = inputs()
    for bits in (4, 8):
        scale = 2 * x.abs().amax(1, keepdim=True) / torch.tensor(2.0**bits - 1)
        by_hand = (x / scale).round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * scale
        torch.testing.assert_close(round_tokens(x, None, bits), by_hand, rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_token_is_rounded_by_itself(kind: str) -> None:
    """As a matrix of one row is, whatever the other tokens are; a block's 128 inputs are a token's."""
    x = inputs()
    rounded = round_tokens(x, kind, 0)
    assert torch.equal(rounded, torch.cat([round_to_format(row[None], kind) for row in x]))
    assert torch.equal(rounded[3:5], round_tokens(x[3:5], kind, 0))
    assert 0 < float((rounded - x).norm() / x.norm()) < 0.2


@pytest.mark.parametrize("rotate", [False, True])
def test_a_linear_sees_its_inputs_rounded(rotate: bool) -> None:
    linear = torch.nn.Linear(96, 5)
    x = inputs().reshape(3, 3, 96)
    turn = Rotation(96)
    rounded = (
        turn.back(round_tokens(turn.turned(inputs()), "nvfp4", 4)) if rotate else round_tokens(inputs(), "nvfp4", 4)
    )
    plain = linear(x)
    with rounding_inputs(Floats("nvfp4", rotate=rotate, activations=True), [linear]):
        torch.testing.assert_close(linear(x), linear.forward(rounded).reshape(3, 3, 5))
    assert torch.equal(linear(x), plain)
    with rounding_inputs(Floats("nvfp4"), [linear]):
        assert torch.equal(linear(x), plain)


def test_the_sweep_rounds_inputs_as_the_plain_path_does(trained: PreTrainedModel, calibration: Tensor) -> None:
    windows = sentences(12, 33, seed=10_004)
    quantizers: list[Quantizer] = [
        RTN(8, None, activations=True),
        RTN(8, None),
        Floats("fp8", activations=True),
        Floats("nvfp4", rotate=True, activations=True),
        GPTQ(4, 32, activations=True),
        GPTQFloats("mxfp4", activations=True),
        GPTQFloats("mxfp4"),
    ]
    found = sweep(trained, quantizers, calibration, [windows], torch.device("cpu"))
    reference = Reference(trained, windows)
    kld = []
    for quantizer, variant in zip(quantizers, found.variants, strict=True):
        with restoring_weights(trained):
            quantizer.quantize(trained, calibration)
            with rounding_inputs(quantizer, stack_linears(trained).values()):
                alone = compare_windows(trained, reference)
        torch.testing.assert_close(variant.losses[0], alone.losses, rtol=0, atol=1e-4)
        torch.testing.assert_close(variant.compared[0].kld, alone.kld, rtol=0.05, atol=1e-5)
        kld.append(float(alone.kld.mean()))
    assert kld[0] > 1.2 * kld[1] and kld[5] > 1.2 * kld[6]
    assert float(compare_windows(trained, reference).kld.max()) < 1e-9  # no hook is left behind


def test_a_run_says_the_inputs_width(plan_file: Path, tmp_path: Path) -> None:
    more = '[[quantizations]]\nmethod = "rtn"\nname = "w8a8"\nbits = 8\ngroup_size = "channel"\nactivations = true\n\n'

    def change(text: str) -> str:
        return text.replace("[calibration]", more + "[calibration]").replace("[100, 200, 400]", "[100]")

    measure(load_plan(write_plan(tmp_path, change)), tmp_path / "run")
    table = read_table(tmp_path / "run" / "table.parquet")
    assert dict(table.select("method", "bits_activation").unique().rows()) == {
        "none": None, "rtn": None, "gptq": None, "w8a8": 8.0,
    }  # fmt: skip
    assert table.filter(method="w8a8")["kld"].item() > 0
