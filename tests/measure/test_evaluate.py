"""Losses against a plain loop, the paired error against NumPy."""

import numpy as np
import pytest
import torch

from measure.conftest import small_model
from qidbayes.measure import evaluate
from qidbayes.measure.errors import MeasureError
from qidbayes.measure.evaluate import paired_difference, window_losses


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
    with pytest.raises(MeasureError, match="not a finite number in 2 of 2 windows"):
        window_losses(model, torch.randint(512, (2, 33)))
