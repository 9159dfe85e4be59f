"""What only a GPU runs: kernels, streams and passes that wait, against the same on a CPU or without them.

`make check-gpu` runs these where a GPU is; elsewhere they are skipped.
"""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, GPTNeoXConfig, LlamaConfig, PreTrainedModel

from measure.decoders import GROUPED, SHAPE, calibration, sentences, trained, trained_weights
from measure.mixtures import MIXTURES, random_mixture
from qidbayes.measure.decoder import compare, hessian, layers
from qidbayes.measure.decoder.compare import Compared, Reference, compare_tokens, compare_windows
from qidbayes.measure.decoder.hessian import SecondMoment
from qidbayes.measure.decoder.layers import restoring_weights
from qidbayes.measure.inputs.experts import list_experts
from qidbayes.measure.quantize import GPTQ, RTN, Floats, GPTQFloats, Quantizer, recorded
from qidbayes.measure.quantize.block import WHOLE, Block, Codes
from qidbayes.measure.quantize.elements import E2M1, E2M3, E3M2, E4M3
from qidbayes.measure.quantize.float_grid import FORMATS
from qidbayes.measure.quantize.floats import round_to_format
from qidbayes.measure.quantize.grid import round_to_grid
from qidbayes.measure.quantize.rotation import Rotation
from qidbayes.measure.quantize.round_block import round_block, round_block_plain
from qidbayes.measure.run import layer_solver
from qidbayes.measure.run import sweep as swept
from qidbayes.measure.run.sweep import sweep

__all__ = ["calibration", "trained", "trained_weights"]

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
GPU = torch.device("cuda")
EVERY: Sequence[Quantizer] = (
    GPTQ(2, 16),
    GPTQ(3, None),
    GPTQ(4, 8, symmetric=False, true_sequential=False),
    GPTQ(3, 16, act_order=True, block_size=16),
    GPTQ(3, 16, rotate=True),
    RTN(3, 16),
    RTN(3, 16, rotate=True),
    *(Floats(kind) for kind in FORMATS),
    *(GPTQFloats(kind) for kind in FORMATS),
    GPTQFloats("nvfp4", act_order=True),
    GPTQFloats("mxfp4", static_groups=True, rotate=True),
)


def matrix(rows: int = 192, columns: int = 320) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(rows, columns, generator=generator)
    weight *= 2.0 ** torch.randint(-6, 3, (rows, 1), generator=generator)
    weight[3, 32:64] = 0
    return weight


@pytest.mark.parametrize("kind", FORMATS)
def test_formats_are_the_cpus_to_the_bit(kind: str) -> None:
    assert torch.equal(round_to_format(matrix().to(GPU), kind).cpu(), round_to_format(matrix(), kind))


def test_integers_and_rotation_are_the_cpus() -> None:
    for symmetric in (True, False):
        ours = round_to_grid(matrix().to(GPU), 3, 32, symmetric)
        assert torch.equal(ours.cpu(), round_to_grid(matrix(), 3, 32, symmetric))
    assert torch.equal(Rotation(320).turned(matrix().to(GPU)).cpu(), Rotation(320).turned(matrix()))


@pytest.mark.parametrize("columns", [5, 16, 128])
def test_the_columns_kernel_gives_what_torch_gives(columns: int) -> None:
    generator = torch.Generator().manual_seed(0)
    elements = [None, None, E2M1, E2M3, E3M2, E4M3]
    settings = len(elements)
    spread = torch.triu(torch.randn(settings, columns, columns, generator=generator) / 30) + torch.eye(columns)
    scale = torch.rand(settings, 77, 2, generator=generator) / 3 + 0.1
    zero = torch.tensor([2.0, 8.0, 0, 0, 0, 0])[:, None, None].expand_as(scale)
    low = torch.tensor([-e.highest if e else 0.0 for e in elements])
    top = torch.tensor([e.highest if e else 15.0 for e in elements])
    least, mantissa = (
        torch.tensor([getattr(e, name) if e else WHOLE for e in elements], dtype=torch.int32)
        for name in ("least", "mantissa")
    )
    index = (torch.arange(columns) // (columns // 2 + 1)).int().expand(settings, -1)
    weight = torch.randn(settings, 77, columns, generator=generator)
    codes = Codes(*(x.to(GPU) for x in (low, top, least, mantissa)))
    block = Block(*(x.to(GPU).contiguous() for x in (weight, spread, scale, zero, index)), codes)
    ours, plain = round_block(block), round_block_plain(block)
    # A sum in another order tips a tie here and there.
    assert float((ours.quantized != plain.quantized).float().mean()) < 1e-3
    same = (ours.quantized == plain.quantized).all(dim=2)
    torch.testing.assert_close(ours.errors[same], plain.errors[same], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("apart", [3.0, 0.3, 1e-2])
def test_the_divergence_kernel_gives_what_torch_gives(dtype: torch.dtype, apart: float) -> None:
    generator = torch.Generator().manual_seed(3)
    reference = 4 * torch.randn(300, 50_304, generator=generator)
    logits = (reference + apart * torch.randn(300, 50_304, generator=generator)).to(dtype)
    targets = torch.randint(50_304, (300,), generator=generator)
    found = compare_tokens(logits.to(GPU), reference.to(dtype).to(GPU), targets.to(GPU))
    plain = compare_tokens(logits, reference.to(dtype), targets)
    torch.testing.assert_close(found.losses.cpu(), plain.losses, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.kld.cpu(), plain.kld, rtol=2e-3, atol=1e-9)
    assert torch.equal(found.top_agreement.cpu(), plain.top_agreement)
    assert compare.compare_triton is not None


def model_of(name: str) -> PreTrainedModel:
    torch.manual_seed(0)
    config = {"neox": GPTNeoXConfig(**SHAPE), "llama": LlamaConfig(**GROUPED)}[name]
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config).eval().half().to(GPU)
    return model


def together(found: Sequence[Compared], quantity: str) -> Tensor:
    return torch.stack([getattr(one, quantity) for one in found])


@pytest.mark.parametrize("name", ["neox", "llama"])
def test_the_sweep_is_the_plain_path_for_every_format(name: str) -> None:
    model = model_of(name)
    generator = torch.Generator().manual_seed(2)
    texts, windows = (torch.randint(64, shape, generator=generator) for shape in ((8, 32), (16, 33)))
    found = sweep(model, EVERY, texts.to(GPU), [windows], GPU)
    reference = Reference(model, windows)
    alone = []
    for quantizer in EVERY:
        with restoring_weights(model):
            quantizer.quantize(model, texts.to(GPU))
            alone.append(compare_windows(model, reference))
    ours = [variant.compared[0] for variant in found.variants]
    for quantity in ("losses", "kld"):
        torch.testing.assert_close(together(ours, quantity), together(alone, quantity), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", MIXTURES)
def test_the_sweep_of_experts_is_the_plain_path(name: str) -> None:
    model = random_mixture(name).half().to(GPU)
    list_experts(model)
    generator = torch.Generator().manual_seed(2)
    texts, windows = (torch.randint(3, 64, shape, generator=generator) for shape in ((16, 48), (16, 33)))
    quantizers = [RTN(3, 16), GPTQ(3, 16), GPTQFloats("nvfp4")]
    found = sweep(model, quantizers, texts.to(GPU), [windows], GPU)
    reference = Reference(model, windows)
    for quantizer, variant in zip(quantizers, found.variants, strict=True):
        with restoring_weights(model):
            report = quantizer.quantize(model, texts.to(GPU))
            alone = compare_windows(model, reference)
        assert variant.report == report
        torch.testing.assert_close(variant.losses[0], alone.losses, rtol=0, atol=1e-6)


@pytest.mark.parametrize("how", ["in main memory", "started anew", "in small batches"])
def test_where_states_wait_changes_nothing(
    how: str, trained: PreTrainedModel, calibration: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = trained.half().to(GPU)
    windows = sentences(64, 65, seed=10_003)
    quantizers = [GPTQ(2, 32), GPTQ(3, 32), RTN(2, 32), GPTQFloats("nvfp4")]
    before = sweep(model, quantizers, calibration.to(GPU), [windows], GPU)
    if how == "in main memory":
        monkeypatch.setattr(swept, "_RESERVE", 1.0)
    elif how == "started anew":
        monkeypatch.setattr(layer_solver, "_WAITING", 0.0)
    else:
        monkeypatch.setattr(layers, "_NUMBERS_CUDA", 64 * 64 * 3)
    after = sweep(model, quantizers, calibration.to(GPU), [windows], GPU)
    for one, other in zip(before.variants, after.variants, strict=True):
        moved = float((one.losses[0].mean() - other.losses[0].mean()).abs())
        assert moved < (1e-6 if how != "in small batches" or isinstance(one, RTN) else 0.01), one.report


@pytest.mark.parametrize("reserve", [0.5, 1.0])  # weights and states wait on the GPU, in main memory
def test_evaluation_that_ends_early_is_the_first_windows_of_a_full_one(
    reserve: float, trained: PreTrainedModel, calibration: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = trained.half().to(GPU)
    windows = sentences(256, 33, seed=10_003)
    quantizers = [GPTQ(2, 32), RTN(2, 64), RTN(2, 16), RTN(3, 64), RTN(8, 32)]
    full = sweep(model, quantizers, calibration.to(GPU), [windows], GPU)
    monkeypatch.setattr(swept, "_RESERVE", reserve)
    found = sweep(model, quantizers, calibration.to(GPU), [windows], GPU, until=0.35)
    torch.testing.assert_close(found.baseline[0], full.baseline[0], rtol=0, atol=1e-6)
    ended = [len(one.losses[0]) for one in found.variants]
    assert len(set(ended)) > 1, ended
    for one, other, end in zip(found.variants, full.variants, ended, strict=True):
        torch.testing.assert_close(one.losses[0], other.losses[0][:end], rtol=0, atol=1e-6)


def test_a_cpu_and_a_gpu_agree_within_their_errors(trained: PreTrainedModel, calibration: Tensor) -> None:
    """Over the cells, in one number format: the row's error is of its windows and of four orders of calibration."""
    windows = [sentences(64, 65, seed=10_003)]
    quantizers = [GPTQ(bits, size, act_order=by) for bits in (2, 3) for size in (8, 16, 32) for by in (False, True)]
    means, variances = [], []
    for device in (torch.device("cpu"), GPU):
        found = sweep(trained.to(device), quantizers, calibration.to(device), windows, device, orders=4)  # type: ignore[arg-type]
        off = torch.stack(
            [torch.stack([one.losses - found.baseline[0] for (one,) in v.orders]) for v in found.variants]
        )  # [quantizers, orders, windows]
        means.append(off.mean(dim=(1, 2)))
        variances.append(off.mean(dim=1).var(dim=1) / off.shape[2] + off.mean(dim=2).var(dim=1) / 4)
    chi_square = ((means[0] - means[1]).square() / (variances[0] + variances[1])).mean()
    assert float(chi_square) < 0.5  # windows are the same, so that their error is no difference


def test_second_moments_are_those_of_float64_and_of_any_batches() -> None:
    generator = torch.Generator(GPU).manual_seed(0)
    x = torch.randn(5 * hessian.SUMMED + 100, 600, device=GPU, generator=generator).half()  # two strips, and a rest
    whole, parted = SecondMoment(), SecondMoment()
    whole.add(x)
    for some in torch.split(x, 2 * hessian.SUMMED):
        parted.add(some)
    exact = x.double().T @ x.double() / len(x)
    assert float((whole.value() - exact).norm() / exact.norm()) < 2e-4
    # Parts are added in one order; how a part's product is taken may depend on how many there are at once.
    assert float((whole.value() - parted.value()).norm() / exact.norm()) < 2e-5
    assert torch.equal(whole.value(), whole.value().T)


def test_recorded_columns_are_those_that_are_not(
    trained: PreTrainedModel, calibration: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = trained.half().to(GPU)
    windows = [sentences(64, 65, seed=10_003)]
    quantizers = [GPTQ(2, 32), GPTQ(3, 16, act_order=True), GPTQ(4, None, symmetric=False)]
    made: list[object] = []
    record = recorded._record
    monkeypatch.setattr(recorded, "_record", lambda *args: made.append(args) or record(*args))
    found = sweep(model, quantizers, calibration.to(GPU), windows, GPU)
    assert len(made) > 1
    monkeypatch.setattr(recorded, "_SHARE", 0.0)
    alone = sweep(model, quantizers, calibration.to(GPU), windows, GPU)
    for one, other in zip(found.variants, alone.variants, strict=True):
        assert torch.equal(one.losses[0], other.losses[0])
