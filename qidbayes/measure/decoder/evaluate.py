"""Losses over token windows, in nats per token, and the difference between two models on the same windows."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from qidbayes.measure.errors import NotFiniteError

try:
    from qidbayes.measure.decoder import token_losses_triton
except ImportError:  # Triton comes with torch's CUDA builds only
    token_losses_triton = None  # type: ignore[assignment]

# Tokens a forward pass: enough to fill a GPU, few enough that half-precision logits fit; on a CPU, what a cache holds.
_BATCH_TOKENS = {"cuda": 16_384, "cpu": 4_096}
_CHUNK = 1_024  # tokens whose logits are in float32 at once

type Known = tuple[Tensor, Tensor, Tensor]
"""Each token's loss, the logarithm of the sum of its exponentials, and the top token."""


@torch.no_grad()
def window_losses(model: PreTrainedModel, windows: Tensor, report: Callable[[float], None] | None = None) -> Tensor:
    """Return each window's mean loss: every token but the first is predicted from those before it in the window.

    Parameters
    ----------
    model
        On its device, in any floating type; the log-softmax is taken in float32 whatever that type is.
    windows
        `[n, seq_len + 1]` token ids.
    report
        Told the mean loss so far, nats/token, after every batch.

    Returns
    -------
    torch.Tensor
        `[n]`, float64, on the CPU, nats/token.

    Raises
    ------
    MeasureError
        If a loss is not a finite number.
    """
    device = next(model.parameters()).device
    done: list[Tensor] = []
    for rows in torch.split(windows, windows_at_once(windows, device)):
        rows = rows.to(device)
        logits = model(input_ids=rows[:, :-1], use_cache=False).logits
        losses = _losses_in_chunks(logits.flatten(0, 1), rows[:, 1:].flatten())
        done.append(losses.view(len(rows), -1).double().mean(dim=1).cpu())
        if report is not None:
            report(float(torch.cat(done).mean()))
    return check_finite(torch.cat(done), model.dtype)


def windows_at_once(windows: Tensor, device: torch.device) -> int:
    """Return how many windows `[n, seq_len + 1]` go through a whole model in one forward pass."""
    return max(1, _BATCH_TOKENS[device.type] // (windows.shape[1] - 1))


def check_finite(losses: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the windows' losses, of a model of this type.

    Raises
    ------
    MeasureError
        If one of them is not a finite number; where float16 may be why, it says what to do.
    """
    bad = int((~losses.isfinite()).sum())
    if bad:
        raise NotFiniteError(f"the loss is not a finite number in {bad} of {len(losses)} windows", dtype)
    return losses


@torch.no_grad()
def token_losses(logits: Tensor, targets: Tensor) -> tuple[Tensor, Known | None]:
    """Return each token's loss, `[n]`, float32, nats; and on a GPU what else its kernel has found.

    Parameters
    ----------
    logits
        `[n, vocabulary]`, of any floating type; the log-softmax is taken in float32. On a GPU one kernel reads them
        once.
    targets
        `[n]` token ids.

    Examples
    --------
    >>> token_losses(torch.zeros(2, 4), torch.tensor([0, 3]))
    (tensor([1.3863, 1.3863]), None)
    """
    if token_losses_triton is not None and logits.is_cuda:
        known: Known = token_losses_triton.summarize(logits, targets)
        return known[0], known
    return _losses_in_chunks(logits, targets), None


def _losses_in_chunks(logits: Tensor, targets: Tensor) -> Tensor:
    return torch.cat(
        [
            torch.nn.functional.cross_entropy(some.float(), wanted, reduction="none")
            for some, wanted in zip(torch.split(logits, _CHUNK), torch.split(targets, _CHUNK), strict=True)
        ]
    )


@dataclass(frozen=True)
class Difference:
    """A mean paired difference and its standard error, both in nats/token."""

    mean: float
    standard_error: float


def paired_difference(losses: Tensor, baseline: Tensor) -> Difference:
    """Return the mean of `losses - baseline` and its standard error over windows.

    Both models saw the same windows, so what makes one window harder than another cancels; that makes this error
    several times smaller than that of two separate means.

    Parameters
    ----------
    losses, baseline
        `[n]` each, nats/token, n at least 2.

    Examples
    --------
    >>> paired_difference(torch.tensor([2.5, 3.25, 4.0]), torch.tensor([2.0, 3.0, 4.0]))
    Difference(mean=0.25, standard_error=0.14433756729740646)
    """
    difference = losses.double() - baseline.double()
    return Difference(float(difference.mean()), float(difference.std(correction=1)) / math.sqrt(len(difference)))
