"""Token windows in batches on their way through a decoder, from the embedding to the losses."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from qidbayes.measure.decoder.compare import Compared, compare_tokens
from qidbayes.measure.decoder.evaluate import token_losses
from qidbayes.measure.decoder.hidden_states import HiddenStates
from qidbayes.measure.decoder.layers import Call, decoder_layers, enter_stack, leaving
from qidbayes.measure.decoder.memory import room

_LOGITS = 0.0625  # share of what is free on a GPU for one model's logits at once; there are two models' at a time
_MOST_LOGITS, _LOGITS_CPU = 2**31 - 1, 2**28  # and no more than 32 bits count; on a CPU


@dataclass(frozen=True)
class Batches:
    """Batches of token ids, and what the model does with them outside its layers.

    Attributes
    ----------
    ids
        `[n, length]` each, on the device that computes.
    calls
        `calls[layer][batch]`: how the layer is called.
    tupled
        Whether the layers answer with a tuple (`leave_stack`).
    """

    ids: tuple[Tensor, ...]
    calls: list[list[Call]]
    tupled: bool

    @property
    def tokens(self) -> int:
        """How many there are."""
        return sum(batch.numel() for batch in self.ids)


def in_order(ids: Tensor, number: int) -> Tensor:
    """Return calibration windows `[n, length]` in one of several orders: 0 as they are, 1, 2, … at random.

    GPTQ amplifies how its sums are rounded, and they are rounded otherwise in another order, in other batches and on
    another device: how far orders differ is how far these do.
    """
    if number == 0:
        return ids
    order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(number))
    return ids[order.to(ids.device)]


def enter_batches(
    model: PreTrainedModel, ids: Tensor, device: torch.device, kept_outside: bool, at_once: int
) -> tuple[Batches, HiddenStates]:
    """Return token windows `[n, length]` in batches, and the hidden states that enter the model's first layer.

    Parameters
    ----------
    model
        Any decoder of transformers; its embedding and its first layer are on the device.
    ids
        `[n, length]`.
    device, kept_outside
        As `HiddenStates` takes them.
    at_once
        Windows in a batch.
    """
    batches = torch.split(ids.to(device), at_once)
    calls: list[list[Call]] = [[] for _ in decoder_layers(model)[1]]
    hidden: list[Tensor] = []
    tupled = False
    for batch in batches:
        inputs = enter_stack(model, batch, len(batch))
        tupled = inputs.tupled
        hidden.append(inputs.hidden[0].cpu() if kept_outside else inputs.hidden[0])
        for known, (call,) in zip(calls, inputs.calls, strict=True):
            known.append(next((other for other in known[-1:] if _same(call, other)), call))
    return Batches(batches, calls, tupled), HiddenStates(hidden, device, kept_outside)


def compare_batches(
    model: PreTrainedModel,
    batches: Batches,
    baseline: HiddenStates,
    variants: Sequence[HiddenStates],
    targets: Tensor,
) -> tuple[Tensor, list[Compared]]:
    """Return each window's mean loss, of the 16-bit model, and what each quantized one gives beside it.

    Parameters
    ----------
    model
        Any decoder of transformers; its embedding and head are on the device.
    batches
        Those that went in.
    baseline, variants
        What the last layer put out, batch by batch, in 16 bits and quantized.
    targets
        `[n, length]`: the id that follows each token.

    Returns
    -------
    tuple of torch.Tensor and list of Compared
        `[n]`, nats/token, float64, in main memory; and so are the other ones' parts.
    """
    device, most = batches.ids[0].device, _LOGITS_CPU
    if device.type == "cuda":
        most = min(_MOST_LOGITS, int(room(device) * _LOGITS) // model.dtype.itemsize)
    wanted = torch.split(targets.to(device), [len(batch) for batch in batches.ids])
    losses: list[Tensor] = []
    compared: list[list[Compared]] = [[] for _ in variants]
    with leaving(model, batches.tupled) as logits_of:
        for number, (ids, target) in enumerate(zip(batches.ids, wanted, strict=True)):
            rows = max(1, most // (ids.shape[1] * model.config.get_text_config().vocab_size))
            split = [torch.split(x, rows) for x in (ids, target, baseline.batch(number))]
            there = [torch.split(states.batch(number), rows) for states in variants]
            for part, (i, t, h) in enumerate(zip(*split, strict=True)):
                reference = logits_of(i, h).flatten(0, 1)
                own, known = token_losses(reference, t.flatten())
                losses.append(own.view(len(i), -1).double().mean(dim=1))
                for done, some in zip(compared, there, strict=True):
                    logits = logits_of(i, some[part]).flatten(0, 1)
                    done.append(compare_tokens(logits, reference, t.flatten(), known).by_window(len(i)))
                    del logits
    return torch.cat(losses).cpu(), [Compared.joined(done) for done in compared]


def _same(one: object, other: object) -> bool:
    """Whether two calls, or parts of them, say the same."""
    if one is other:
        return True
    if isinstance(one, Call) and isinstance(other, Call):
        return _same(one.args, other.args) and _same(dict(one.kwargs), dict(other.kwargs))
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, tuple | list) and isinstance(other, tuple | list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return type(one) is type(other) and isinstance(one, int | float | str | None) and one == other
