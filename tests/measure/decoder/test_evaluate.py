"""Losses against a plain loop, the paired error against NumPy."""

import numpy as np
import pytest
import torch

from measure.conftest import small_model
from qidbayes.measure.decoder import evaluate
from qidbayes.measure.decoder.evaluate import paired_difference, token_losses, window_losses
from qidbayes.measure.errors import MeasureError


def test_losses_agree_with_a_plain_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "_BATCH_TOKENS", {"cpu": 64})  # several batches, and chunks that cut through windows
    monkeypatch.setattr(evaluate, "_CHUNK", 10)
    model = small_model()
    windows = torch.randint(512, (7, 33), generator=torch.Generator().manual_seed(1))
    told: list[float] = []
    losses = window_losses(model, windows, told.append)
    for window, loss in zip(windows, losses, strict=True):
        with torch.no_grad():  # transformers shifts the labels by itself
            plain = model(input_ids=window[None], labels=window[None]).loss
        assert float(loss) == pytest.approx(float(plain), abs=1e-5)
    assert told[-1] == pytest.approx(float(losses.mean()))
    assert len(told) == 4


def in_float64(logits: torch.Tensor, targets: torch.Tensor) -> np.ndarray:
    values = logits.double().numpy()
    top = values.max(axis=-1)
    return (
        top
        + np.log(np.exp(values - top[..., None]).sum(axis=-1))
        - np.take_along_axis(values, targets.numpy()[..., None], axis=-1)[..., 0]
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_ends_at_the_logits(dtype: torch.dtype) -> None:
    """A log-softmax in the model's own type would be off by up to a hundredth of a nat."""
    generator = torch.Generator().manual_seed(3)
    logits = (6 * torch.randn(50, 3_000, generator=generator)).to(dtype)
    targets = torch.randint(3_000, (50,), generator=generator)
    np.testing.assert_allclose(token_losses(logits, targets)[0].numpy(), in_float64(logits, targets), rtol=0, atol=2e-5)
    model = small_model().to(dtype)
    windows = torch.randint(512, (4, 33), generator=generator)
    with torch.no_grad():
        told = model(input_ids=windows[:, :-1]).logits
    expected = in_float64(told, windows[:, 1:]).mean(axis=1)
    np.testing.assert_allclose(window_losses(model, windows).numpy(), expected, rtol=0, atol=2e-6)


def test_the_error_is_that_of_paired_differences() -> None:
    generator = np.random.default_rng(0)
    baseline = generator.normal(3, 1, 50)
    losses = baseline + generator.normal(0.1, 0.02, 50)
    found = paired_difference(torch.tensor(losses), torch.tensor(baseline))
    assert found.mean == pytest.approx(np.mean(losses) - np.mean(baseline))
    assert found.standard_error == pytest.approx(np.std(losses - baseline, ddof=1) / np.sqrt(50))
    unpaired = np.sqrt(np.var(losses, ddof=1) / 50 + np.var(baseline, ddof=1) / 50)
    assert found.standard_error < unpaired / 10


def test_losses_that_are_not_finite_are_refused() -> None:
    model = small_model()
    with torch.no_grad():
        model.gpt_neox.layers[0].mlp.dense_h_to_4h.weight[0, 0] = float("nan")
    windows = torch.randint(512, (2, 33))
    with pytest.raises(MeasureError, match=r"not a finite number in 2 of 2 windows$"):
        window_losses(model, windows)
    with pytest.raises(MeasureError, match='float16 ends at 65,504: give dtype = "bfloat16" or "float32" in the plan'):
        window_losses(model.half(), windows)
