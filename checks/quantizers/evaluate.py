"""What every environment evaluates with, so that losses are of the same windows and the same sums."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn


def read_tokens(path: Path) -> tuple[Tensor, Tensor]:
    """Calibration and evaluation windows, `[n, length]` each."""
    tokens = load_file(path)
    return tokens["calibration"], tokens["evaluation"]


@torch.no_grad()
def loss_of(model: nn.Module, windows: Tensor) -> float:
    """Nats per token, the logits taken to float64 before the softmax."""
    total = 0.0
    for batch in windows.split(16):
        logits = model(input_ids=batch).logits[:, :-1].double()
        total += float(nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten(), reduction="sum"))
    return total / windows[:, 1:].numel()


@torch.no_grad()
def weights_of(model: nn.Module, kind: type[nn.Module], dtype: torch.dtype) -> dict[str, Tensor]:
    """What each quantized linear multiplies by, `[out, in]`: its own kernel's answers to the unit vectors."""
    weights = {}
    for name, module in model.named_modules():
        if isinstance(module, kind):
            bias, module.bias = module.bias, None
            inputs = module.in_features if hasattr(module, "in_features") else module.infeatures
            weights[name] = module(torch.eye(inputs, dtype=dtype)).T.contiguous()
            module.bias = bias
    return weights
