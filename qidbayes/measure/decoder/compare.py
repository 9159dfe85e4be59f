"""A quantized model beside the 16-bit one, token by token on the same windows: loss, divergence and top token."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from qidbayes.measure.decoder.evaluate import Known, check_finite, windows_at_once
from qidbayes.measure.decoder.layers import decoder_layers, leave_stack

try:
    from qidbayes.measure.decoder import compare_triton
except ImportError:  # Triton comes with torch's CUDA builds only
    compare_triton = None  # type: ignore[assignment]

_CHUNK = 256  # tokens whose logits are in float32 at once
_NEAR = 0.25


@dataclass(frozen=True)
class Compared:
    """What a quantized model gives beside the 16-bit one, by window or by token.

    Attributes
    ----------
    losses
        Cross-entropy, nats/token.
    kld
        The Kullback–Leibler divergence of its next-token distribution from the 16-bit model's, Σ p (ln p − ln q) with
        p of the 16-bit model, nats/token.
    top_agreement
        Share of the tokens where both models give the same token the highest probability.
    """

    losses: Tensor
    kld: Tensor
    top_agreement: Tensor

    def by_window(self, windows: int) -> "Compared":
        """Return the means over the tokens of each of so many windows, float64."""
        return Compared(*(x.view(windows, -1).double().mean(dim=1) for x in self._parts))

    @staticmethod
    def mean(several: "Sequence[Compared]") -> "Compared":
        """Return the means of several models' parts."""
        return Compared(*(torch.stack(some).mean(dim=0) for some in zip(*(one._parts for one in several), strict=True)))

    @staticmethod
    def joined(parts: "Sequence[Compared]") -> "Compared":
        """Return some batches' windows as one, in main memory."""
        return Compared(*(torch.cat(some).cpu() for some in zip(*(part._parts for part in parts), strict=True)))

    @property
    def _parts(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.losses, self.kld, self.top_agreement


@torch.no_grad()
def compare_tokens(logits: Tensor, reference: Tensor, targets: Tensor, known: Known | None = None) -> Compared:
    """Compare next-token distributions, token by token; `[n]` each, float32.

    The divergence is summed so that no term is below 0, and what rounding does to sums enters it squared.

    Parameters
    ----------
    logits, reference
        `[n, vocabulary]` of the quantized and of the 16-bit model, of any floating type; all else is in float32. On a
        GPU one kernel reads both.
    targets
        `[n]` token ids.
    known
        What `token_losses` has kept of the reference's, if it has been asked.

    Examples
    --------
    >>> found = compare_tokens(torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]]), torch.tensor([1]))
    >>> found.kld, found.top_agreement
    (tensor([0.4621]), tensor([0.]))
    """
    if compare_triton is not None and logits.is_cuda:
        return Compared(*compare_triton.compare_tokens(logits, reference, targets, known))
    parts = zip(*(torch.split(x, _CHUNK) for x in (logits, reference, targets)), strict=True)
    return Compared(*map(torch.cat, zip(*(_compare(*some) for some in parts), strict=True)))


def _compare(logits: Tensor, reference: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    q, p = logits.float(), reference.float()
    # Of equals the first counts, in both.
    same = q.argmax(dim=-1) == p.argmax(dim=-1)
    losses = torch.nn.functional.cross_entropy(q, targets, reduction="none")
    # With x = (a − b) less its mean under p, of logits a and b, the divergence is ln Σ p e^x: no sum of exponentials
    # of either model is in it, whose rounding would drown a small one.
    x, p = q - p, torch.softmax(p, dim=-1)
    x -= torch.linalg.vecdot(p, x)[:, None]
    excess = torch.linalg.vecdot(p, _excess(x))
    found = torch.log1p(excess)
    ruled_out = (p.amin(dim=-1) == 0) | ~found.isfinite()
    if ruled_out.any():
        found[ruled_out] = _by_terms(logits[ruled_out].double(), reference[ruled_out].double()).float()
    return losses, found, same.float()


def _excess(x: Tensor) -> Tensor:
    """e^x − 1 − x, never below 0: by its series near 0, where the difference has no digits."""
    near = (x * (1 / 120)).add_(1 / 24).mul_(x).add_(1 / 6).mul_(x).add_(1 / 2).mul_(x).mul_(x)
    return torch.where(x.abs() < _NEAR, near, x.exp().sub_(1).sub_(x))


def _by_terms(q: Tensor, p: Tensor) -> Tensor:
    """The divergence where a model rules tokens out: Σ p ln(p/q) in float64, a token of p = 0 being worth 0."""
    log_q, log_p = torch.log_softmax(q, dim=-1), torch.log_softmax(p, dim=-1)
    return torch.where(log_p > -torch.inf, log_p.exp() * (log_p - log_q), 0).sum(dim=-1).clamp_(min=0)


class Reference:
    """The 16-bit model on some windows, so that other models' logits can be held against its own.

    What its last layer puts out is kept in main memory, and its logits are made of that whenever they are wanted: they
    are a vocabulary wide, and states a model's width. The model's layers may be quantized in the meantime.

    Parameters
    ----------
    model
        Any decoder of transformers, on its device.
    windows
        `[n, seq_len + 1]` token ids.
    """

    @torch.no_grad()
    def __init__(self, model: PreTrainedModel, windows: Tensor) -> None:
        self.windows = windows
        self._model = model
        self._tupled = False
        self._states: list[Tensor] = []

        def keep(_module: object, _inputs: object, output: object) -> None:
            self._tupled = isinstance(output, tuple)
            state = output[0] if isinstance(output, tuple) else output
            assert isinstance(state, Tensor)
            self._states.append(state.cpu())

        handle = decoder_layers(model)[1][-1].register_forward_hook(keep)
        try:
            for rows in self.batches():
                model.base_model(input_ids=rows[:, :-1], use_cache=False)
        finally:
            handle.remove()

    def batches(self) -> list[Tensor]:
        """Return the windows, some at a time, on the model's device."""
        device = next(self._model.parameters()).device
        rows = torch.split(self.windows, windows_at_once(self.windows, device))
        return [some.to(device) for some in rows]

    def logits(self, number: int, rows: Tensor) -> Tensor:
        """Return the 16-bit model's logits of one batch, `[n, length, vocabulary]`."""
        return leave_stack(self._model, rows[:, :-1], self._states[number].to(rows.device), self._tupled)


@torch.no_grad()
def compare_windows(
    model: PreTrainedModel, reference: Reference, report: Callable[[float], None] | None = None
) -> Compared:
    """Return each window's means; `window_losses` of a model that is held against another.

    Parameters
    ----------
    model
        On its device, in any floating type.
    reference
        The 16-bit model's, of the windows.
    report
        Told the mean loss so far, nats/token, after every batch.

    Returns
    -------
    Compared
        `[n]` each, float64, on the CPU.

    Raises
    ------
    MeasureError
        If a loss is not a finite number.
    """
    done: list[Compared] = []
    for number, rows in enumerate(reference.batches()):
        logits = model(input_ids=rows[:, :-1], use_cache=False).logits.flatten(0, 1)
        found = compare_tokens(logits, reference.logits(number, rows).flatten(0, 1), rows[:, 1:].flatten())
        done.append(found.by_window(len(rows)))
        if report is not None:
            report(float(torch.cat([some.losses for some in done]).mean()))
    made = Compared.joined(done)
    check_finite(made.losses, model.dtype)
    return made
