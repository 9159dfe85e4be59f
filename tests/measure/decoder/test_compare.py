"""Divergence and top tokens against SciPy in float64; the kernel, interpreted, against plain torch."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr
from torch import Tensor
from transformers import PreTrainedModel

from measure.conftest import small_model
from measure.decoders import sentences
from qidbayes.measure.decoder import compare
from qidbayes.measure.decoder.compare import Reference, compare_tokens, compare_windows
from qidbayes.measure.decoder.evaluate import window_losses
from qidbayes.measure.decoder.layers import restoring_weights
from qidbayes.measure.quantize import AWQ, GPTQ, RTN
from qidbayes.measure.run.sweep import sweep


def pair(dtype: torch.dtype, apart: float) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    reference = 4 * torch.randn(60, 3_000, generator=generator)
    logits = reference + apart * torch.randn(60, 3_000, generator=generator)
    return logits.to(dtype), reference.to(dtype), torch.randint(3_000, (60,), generator=generator)


def in_float64(logits: Tensor, reference: Tensor) -> np.ndarray:
    log_q, log_p = (log_softmax(x.double().numpy(), axis=-1) for x in (logits, reference))
    return np.asarray(rel_entr(np.exp(log_p), np.exp(log_q)).sum(axis=-1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("apart", [3.0, 0.3, 1e-2])  # nats: from another model to one that is 8 bits wide
def test_divergence_is_that_of_float64(dtype: torch.dtype, apart: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "_CHUNK", 25)
    logits, reference, targets = pair(dtype, apart)
    found = compare_tokens(logits, reference, targets)
    np.testing.assert_allclose(found.kld.numpy(), in_float64(logits, reference), rtol=2e-3, atol=1e-10)
    same = np.argmax(logits.float().numpy(), axis=1) == np.argmax(reference.float().numpy(), axis=1)
    assert found.top_agreement.tolist() == same.tolist()


def test_divergence_is_never_below_0_and_is_0_of_a_model_from_itself() -> None:
    logits, reference, targets = pair(torch.float32, 1e-6)
    assert float(compare_tokens(logits, reference, targets).kld.min()) >= 0
    assert compare_tokens(reference, reference, targets).kld.tolist() == [0.0] * 60


def test_tokens_that_one_model_rules_out() -> None:
    """Of probability 0 in the 16-bit model they cost what the other gives them; in both they cost nothing."""
    least = -torch.inf
    reference = torch.tensor([[0.0, 0.0, least, least]])
    logits = torch.tensor([[0.0, 0.0, 0.0, least]])
    assert float(compare_tokens(logits, reference, torch.tensor([0])).kld) == pytest.approx(np.log(1.5))
    assert float(compare_tokens(reference, logits, torch.tensor([0])).kld) == np.inf


def test_of_equal_logits_the_first_is_the_top_token() -> None:
    logits, reference = (
        torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]]),
        torch.tensor([[1.0, 0.5, 0.0], [1.0, 0.0, 2.0]]),
    )
    assert compare_tokens(logits, reference, torch.tensor([0, 0])).top_agreement.tolist() == [1.0, 0.0]


def test_windows_of_a_quantized_model_beside_two_forward_passes() -> None:
    model = small_model()
    windows = torch.randint(512, (7, 33), generator=torch.Generator().manual_seed(1))
    reference = Reference(model, windows)
    with torch.no_grad():
        original = model(input_ids=windows[:, :-1]).logits
    with restoring_weights(model):
        RTN(3, 16).quantize(model, windows[:0])
        found = compare_windows(model, reference)
        torch.testing.assert_close(found.losses, window_losses(model, windows), rtol=0, atol=1e-6)
        with torch.no_grad():
            logits = model(input_ids=windows[:, :-1]).logits
    expected = in_float64(logits.flatten(0, 1), original.flatten(0, 1)).reshape(7, -1).mean(axis=1)
    np.testing.assert_allclose(found.kld.numpy(), expected, rtol=1e-4)
    same = (logits.argmax(-1) == original.argmax(-1)).double().mean(dim=1)
    torch.testing.assert_close(found.top_agreement, same)
    torch.testing.assert_close(compare_windows(model, reference).kld, torch.zeros(7, dtype=torch.float64))


def test_the_sweep_compares_as_the_plain_path_does(trained: PreTrainedModel, calibration: Tensor) -> None:
    windows = sentences(12, 33, seed=10_004)
    quantizers = [GPTQ(3, 32), RTN(4, 32)]
    swept = sweep(trained, quantizers, calibration, [windows, windows[:4]], torch.device("cpu"))
    reference = Reference(trained, windows)
    for quantizer, variant in zip(quantizers, swept.variants, strict=True):
        with restoring_weights(trained):
            quantizer.quantize(trained, calibration)
            alone = compare_windows(trained, reference)
        for found, count in zip(variant.compared, (12, 4), strict=True):
            torch.testing.assert_close(found.kld, alone.kld[:count], rtol=1e-3, atol=1e-8)
            torch.testing.assert_close(found.top_agreement, alone.top_agreement[:count], rtol=0, atol=0.04)
        assert 0 < float(alone.kld.mean()) < 1
        assert 0.5 < float(alone.top_agreement.mean()) < 1


def test_awq_too_goes_beside_the_16_bit_model(trained: PreTrainedModel, calibration: Tensor) -> None:
    windows = sentences(12, 33, seed=10_004)
    reference = Reference(trained, windows)
    with restoring_weights(trained):
        AWQ(8, 32).quantize(trained, calibration)
        fine = compare_windows(trained, reference).kld.mean()
    with restoring_weights(trained):
        AWQ(3, 32).quantize(trained, calibration)
        coarse = compare_windows(trained, reference).kld.mean()
    assert 0 < float(fine) < float(coarse) / 10


KERNEL = """
import torch
from measure.decoder.test_compare import pair
from qidbayes.measure.decoder import compare_triton
from qidbayes.measure.decoder.compare import compare_tokens
for dtype, apart in ((torch.float16, 3.0), (torch.float32, 0.3), (torch.bfloat16, 1e-2)):
    logits, reference, targets = (x[:6] for x in pair(dtype, apart))
    found, plain = compare_triton.compare_tokens(logits, reference, targets), compare_tokens(logits, reference, targets)
    for one, other in zip(found, (plain.losses, plain.kld, plain.top_agreement), strict=True):
        torch.testing.assert_close(one, other, rtol=2e-3, atol=1e-5)
    torch.testing.assert_close(found[1], plain.kld, rtol=2e-3, atol=1e-9)
"""


def test_the_kernel_gives_what_torch_gives() -> None:
    pytest.importorskip("triton")
    done = subprocess.run(
        [sys.executable, "-c", KERNEL],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
