"""One pass over a decoder for its 16-bit loss and those of many quantizations.

The plain path (`Quantizer.quantize`, then `window_losses`) runs the whole model for every quantization. Here the hidden
states of the 16-bit model and of every quantized variant travel through the layers together: a layer is put on the
device once, every variant's version of it is made there, all states are moved past it, and it is let go. So only one
layer need be on the device. The mathematics is the plain path's: GPTQ's later layers are calibrated on what its own
quantized ones put out. So is the order of its sums, without which a weight would round the other way here and there.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import batched, chain, groupby

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from qidbayes.errors import InputError
from qidbayes.measure.decoder.evaluate import token_losses
from qidbayes.measure.decoder.hessian import SecondMoment
from qidbayes.measure.decoder.hidden_states import HiddenStates
from qidbayes.measure.decoder.layers import (
    Call,
    decoder_layers,
    enter_stack,
    evaluating,
    input_groups,
    leave_stack,
    sequences_at_once,
    stack_linears,
)
from qidbayes.measure.decoder.passes import Passes, Replayed, Suspended, run_past
from qidbayes.measure.decoder.probe import check_stack
from qidbayes.measure.decoder.rotary import fused_rotary
from qidbayes.measure.errors import MeasureError, of_linear
from qidbayes.measure.plan.methods import METHODS
from qidbayes.measure.quantize.factorize import factorize_fast
from qidbayes.measure.quantize.gptq import GPTQ
from qidbayes.measure.quantize.gptq_batched import gridded, solve_together
from qidbayes.measure.quantize.report import MatrixQuantizer, QuantizationReport, Quantizer

_LOGITS = 0.125  # share of what is free on a GPU for the logits at once
_MOST_LOGITS, _LOGITS_CPU = 2**31 - 1, 2**30  # and no more than 32 bits count; on a CPU
_RESERVE = 0.5  # share of the GPU's memory left to a layer, its Hessians and its activations
_WAITING = 0.5  # of what is free when a layer begins: for calibration passes that wait within it
_WAITING_CPU = 2**30  # bytes, likewise
_FACTORS = 0.2  # likewise, for the factors of what is solved together


@dataclass(frozen=True)
class Swept:
    """What the sweep found for one quantizer.

    Attributes
    ----------
    report
        How quantizing went; None if it failed.
    losses
        For each evaluation set `[n]`: each window's mean loss, float64, nats/token. Not finite where the model's are
        not.
    error
        What went wrong, if it did: activations that are not finite, a matrix that cannot be factorized.
    """

    report: QuantizationReport | None
    losses: list[Tensor]
    error: MeasureError | None


@dataclass(frozen=True)
class Sweep:
    """What one pass found.

    Attributes
    ----------
    baseline
        The 16-bit model's losses, as in `Swept.losses`.
    variants
        One for each quantizer.
    seconds_quantize, seconds_evaluate
        Of the whole pass.
    """

    baseline: list[Tensor]
    variants: list[Swept]
    seconds_quantize: float
    seconds_evaluate: float


@torch.no_grad()
def sweep(
    model: PreTrainedModel,
    quantizers: Sequence[Quantizer],
    calibration: Tensor,
    windows: Sequence[Tensor],
    device: torch.device,
    report: Callable[[str], None] = lambda _: None,
) -> Sweep:
    """Quantize a model in every way and evaluate it in each, in one pass.

    Parameters
    ----------
    model
        Any decoder of transformers, on `device` or, if that has no room for it, in main memory. It is left as it is.
    quantizers
        GPTQ, round-to-nearest or bitsandbytes, with any settings.
    calibration
        `[n, length]` token ids; methods that need no data ignore them.
    windows
        One `[n, seq_len + 1]` of token ids for each evaluation set.
    device
        Where to compute.
    report
        Told which layer is under way.

    Raises
    ------
    InputError
        If a quantizer's settings do not fit the model, or the sweep does not know its method.
    MeasureError
        If the model's loss does not come out of its decoder stack.

    Examples
    --------
    >>> from transformers import AutoModelForCausalLM, GPTNeoXConfig
    >>> from qidbayes.measure.quantize import RTN
    >>> model = AutoModelForCausalLM.from_config(GPTNeoXConfig(
    ...     vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2))
    >>> text = torch.arange(66).reshape(2, 33) % 64
    >>> found = sweep(model, [GPTQ(2, 16), RTN(2, 16)], text, [text], torch.device("cpu"))
    >>> [variant.losses[0].shape for variant in found.variants]
    [torch.Size([2]), torch.Size([2])]
    """
    for quantizer in quantizers:
        known = sorted(name for name, method in METHODS.items() if method.swept)
        if quantizer.method not in known:
            raise InputError(f"the sweep does not know {quantizer.method}; give {', '.join(known)}")
        quantizer.check_fit(stack_linears(model))
    check_stack(model)
    return _Pass(model, quantizers, calibration, windows, device, report).carry_out()


@dataclass
class _Variant:
    """One quantizer's state as the pass goes on."""

    quantizer: Quantizer
    calibration: HiddenStates | None
    evaluation: list[HiddenStates]
    weights: dict[str, Tensor] = field(default_factory=dict)  # of the layer under way
    raised: dict[str, float] = field(default_factory=dict)
    dead: dict[str, int] = field(default_factory=dict)
    stored: int = 0
    error: MeasureError | None = None


@dataclass(frozen=True)
class _Texts:
    """Token windows on their way in: batches of ids, and how each layer is called for each batch."""

    batches: tuple[Tensor, ...]
    calls: list[list[Call]]

    @property
    def tokens(self) -> int:
        return sum(batch.numel() for batch in self.batches)


class _Pass:
    def __init__(
        self,
        model: PreTrainedModel,
        quantizers: Sequence[Quantizer],
        calibration: Tensor,
        windows: Sequence[Tensor],
        device: torch.device,
        report: Callable[[str], None],
    ) -> None:
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", torch.cuda.current_device())
        self._model, self._device, self._report = model, device, report
        self._linears = stack_linears(model)
        self._stack, self._layers = decoder_layers(model)
        self._windows = windows
        self._seconds = {"quantize": 0.0, "evaluate": 0.0}
        calibrated = [q for q in quantizers if isinstance(q, GPTQ)]
        self._outside = self._stay_outside(calibration if calibrated else calibration[:0], windows, len(calibrated))
        self._calibration, calibration_stream = None, None
        with self._outer_parts():
            if calibrated:
                with self._timed("quantize"):
                    self._calibration, calibration_stream = self._enter(calibration)
            with self._timed("evaluate"):
                entered = [self._enter(texts[:, :-1]) for texts in windows]
        self._texts = [texts for texts, _ in entered]
        self._baseline = [stream for _, stream in entered]
        self._variants = [
            _Variant(
                q,
                calibration_stream.copy() if isinstance(q, GPTQ) and calibration_stream else None,
                [stream.copy() for stream in self._baseline],
            )
            for q in quantizers
        ]

    def carry_out(self) -> Sweep:
        with fused_rotary(self._layers, self._device):
            for index, layer in enumerate(self._layers):
                self._report(f"layer {index + 1} of {len(self._layers)}")
                with _borrowed(layer.parameters(), layer.buffers(), device=self._device), evaluating(layer):
                    self._pass_layer(index, layer)
        self._report("losses")
        with self._timed("evaluate"), self._outer_parts():
            baseline = self._losses(self._baseline)
            losses = [[] if v.error else self._losses(v.evaluation) for v in self._variants]
        variants = [
            Swept(None if v.error else self._reported(v), found, v.error)
            for v, found in zip(self._variants, losses, strict=True)
        ]
        return Sweep(baseline, variants, self._seconds["quantize"], self._seconds["evaluate"])

    def _outer_parts(self) -> AbstractContextManager[None]:
        """The embedding, the head and one layer on the device; the first layer, to see how layers answer."""
        inner = {id(t) for t in chain(self._layers[1:].parameters(), self._layers[1:].buffers())}
        outer = [t for t in chain(self._model.parameters(), self._model.buffers()) if id(t) not in inner]
        return _borrowed(outer, device=self._device)

    def _stay_outside(self, calibration: Tensor, windows: Sequence[Tensor], calibrated: int) -> bool:
        """Whether all hidden states together are too much for the device."""
        if self._device.type != "cuda":
            return False
        tokens = calibration.numel() * calibrated + (1 + calibrated) * sum(w.numel() for w in windows)
        return tokens * self._width * self._model.dtype.itemsize > (1 - _RESERVE) * room(self._device)

    @property
    def _width(self) -> int:
        embedding: nn.Module = self._model.get_input_embeddings()
        return next(embedding.parameters()).shape[1]

    def _enter(self, tokens: Tensor) -> tuple[_Texts, HiddenStates]:
        size = sequences_at_once(self._model, tokens.shape[1], self._device)
        batches = torch.split(tokens.to(self._device), size)
        calls: list[list[Call]] = [[] for _ in self._layers]
        hidden: list[Tensor] = []
        for batch in batches:
            inputs = enter_stack(self._model, batch, len(batch))
            self._tupled = inputs.tupled
            hidden.append(inputs.hidden[0].cpu() if self._outside else inputs.hidden[0])
            for known, (call,) in zip(calls, inputs.calls, strict=True):
                known.append(next((other for other in known[-1:] if _same(call, other)), call))
        return _Texts(batches, calls), HiddenStates(hidden, self._device, self._outside)

    def _pass_layer(self, index: int, layer: nn.Module) -> None:
        prefix = f"{self._stack}.{index}."
        linears = {n.removeprefix(prefix): m for n, m in self._linears.items() if n.startswith(prefix)}
        own = {name: linear.weight.data for name, linear in linears.items()}
        variants = [v for v in self._variants if not v.error]
        with self._timed("quantize"):
            for variant in variants:
                variant.weights = dict(own)
                if isinstance(variant.quantizer, MatrixQuantizer):
                    for name, linear in linears.items():
                        rounded, stored = variant.quantizer.round_linear(linear)
                        variant.weights[name] = rounded.to(linear.weight.dtype)
                        variant.stored += stored
            self._solve_layer(index, layer, linears, [v for v in variants if isinstance(v.quantizer, GPTQ)])
        for variant in variants:
            if not variant.error:
                _use(linears, variant.weights)
                self._advance(index, layer, variant.evaluation)
            variant.weights = {}
        _use(linears, own)
        self._advance(index, layer, self._baseline)

    def _advance(self, index: int, layer: nn.Module, streams: Sequence[HiddenStates]) -> None:
        with self._timed("evaluate"):
            for texts, stream in zip(self._texts, streams, strict=True):
                stream.advance(partial(run_past, layer, texts.calls[index]))

    def _solve_layer(
        self, index: int, layer: nn.Module, linears: dict[str, nn.Linear], variants: Sequence[_Variant]
    ) -> None:
        """Round a layer for all GPTQ variants, and move their calibration states past it."""
        if not variants or self._calibration is None or variants[0].calibration is None:
            return
        calls = self._calibration.calls[index]
        first = next(iter(variants[0].calibration))
        groups = input_groups(layer, first, calls[0])
        inputs = [linears[group[0]].in_features for group in groups]
        held = (sum(inputs) + 2 * first.shape[-1]) * first.element_size() * self._calibration.tokens
        waiting, solved = self._at_once(held, 4 * max(inputs) ** 2)
        for (sequential, _), alike in groupby(sorted(variants, key=_order), key=_solved_alike):
            # Where all of a layer is calibrated at once, its states must go through all of it again.
            kind = Suspended if waiting and sequential else Replayed
            for together in batched(alike, min(waiting, solved) if kind is Suspended else solved):
                passes = [(v, kind(layer, v.calibration, calls)) for v in together if v.calibration]
                try:
                    for stage in [[group] for group in groups] if sequential else [groups]:
                        self._solve_stage(f"{self._stack}.{index}.", linears, passes, stage)
                    for variant, one in passes:
                        if not variant.error and index + 1 < len(self._layers):
                            _use(linears, variant.weights)
                            one.finish()
                finally:
                    for _, one in passes:
                        one.close()

    def _at_once(self, held: int, factor: int) -> tuple[int, int]:
        """How many variants' calibration passes may wait within a layer (maybe 0), and how many may be solved together.

        Parameters
        ----------
        held
            Bytes that a variant's waiting passes hold.
        factor
            Bytes of its largest factor.
        """
        if self._device.type != "cuda":
            return _WAITING_CPU // held, len(self._variants)
        free = room(self._device)
        return 0 if self._outside else int(free * _WAITING) // held, max(1, int(free * _FACTORS) // factor)

    def _solve_stage(
        self,
        prefix: str,
        linears: dict[str, nn.Linear],
        passes: Sequence[tuple[_Variant, Passes]],
        stage: Sequence[tuple[str, ...]],
    ) -> None:
        ready = {group: [] for group in stage}  # type: ignore[var-annotated]
        for variant, one in passes:
            if variant.error:
                continue
            assert isinstance(variant.quantizer, GPTQ)
            _use(linears, variant.weights)
            moments = {group: SecondMoment() for group in stage}
            one.run_to({group[0]: moments[group].add for group in stage})
            for group in stage:
                weight = torch.cat([linears[name].weight.float() for name in group])
                try:
                    solver = variant.quantizer
                    ready[group].append((variant, solver.prepare(weight, moments.pop(group).value(), factorize_fast)))
                except MeasureError as error:
                    variant.error = of_linear(prefix + group[0], error, self._model.dtype)
                    break
        for group, all_prepared in ready.items():
            prepared = [(variant, one) for variant, one in all_prepared if not variant.error]
            if not prepared:
                continue
            quantizers = [variant.quantizer for variant, _ in prepared if isinstance(variant.quantizer, GPTQ)]
            solutions = solve_together(quantizers, [one for _, one in prepared])
            for (variant, _), solution in zip(prepared, solutions, strict=True):
                sizes = [linears[name].out_features for name in group]
                for name, part in zip(group, torch.split(solution.weight, sizes), strict=True):
                    variant.weights[name] = part.to(linears[name].weight.dtype)
                    if solution.damping > variant.quantizer.damping:
                        variant.raised[prefix + name] = solution.damping
                    if solution.dead_columns:
                        variant.dead[prefix + name] = solution.dead_columns

    def _losses(self, streams: Sequence[HiddenStates]) -> list[Tensor]:
        """Each window's mean loss, by evaluation set."""
        found, most = [], _LOGITS_CPU
        if self._device.type == "cuda":
            most = min(_MOST_LOGITS, int(room(self._device) * _LOGITS) // self._model.dtype.itemsize)
        for windows, texts, stream in zip(self._windows, self._texts, streams, strict=True):
            targets = torch.split(windows[:, 1:].to(self._device), [len(batch) for batch in texts.batches])
            done: list[Tensor] = []
            for tokens, hidden, wanted in zip(texts.batches, stream, targets, strict=True):
                rows = max(1, most // (tokens.shape[1] * self._model.config.get_text_config().vocab_size))
                for t, h, w in zip(*(torch.split(x, rows) for x in (tokens, hidden, wanted)), strict=True):
                    logits = leave_stack(self._model, t, h, self._tupled)
                    losses = token_losses(logits.flatten(0, 1), w.flatten())
                    done.append(losses.view(len(t), -1).double().mean(dim=1))
            found.append(torch.cat(done).cpu())
        return found

    def _reported(self, variant: _Variant) -> QuantizationReport:
        quantizer = variant.quantizer
        if isinstance(quantizer, GPTQ):
            return quantizer.report(self._linears, variant.raised, variant.dead)
        n_weights = sum(linear.weight.numel() for linear in self._linears.values())
        bits_per_weight = variant.stored / n_weights
        return QuantizationReport(quantizer.method, quantizer.bits, quantizer.group_size, bits_per_weight, n_weights)

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self._seconds[part] += time.perf_counter() - began


def room(device: torch.device) -> int:
    """Return the bytes that this process may still take on a device; without limit on a CPU."""
    if device.type != "cuda":
        return sys.maxsize
    free, total = torch.cuda.mem_get_info(device)  # less than what is ours where other processes are on the device too
    mine = torch.cuda.memory_allocated(device)
    kept = torch.cuda.memory_reserved(device) - mine
    return min(int(total * torch.cuda.get_per_process_memory_fraction(device.index)) - mine, free + kept)


def model_bytes(model: nn.Module) -> int:
    """Return the bytes that a model's parameters take."""
    return sum(p.numel() * p.element_size() for p in model.parameters())


def _solved_alike(variant: _Variant) -> tuple[bool, int]:
    assert isinstance(variant.quantizer, GPTQ)
    return variant.quantizer.true_sequential, variant.quantizer.block_size


def _order(variant: _Variant) -> tuple[bool, int, bool, bool, int]:
    assert isinstance(variant.quantizer, GPTQ)
    return (*_solved_alike(variant), *gridded(variant.quantizer))


def _use(linears: dict[str, nn.Linear], weights: dict[str, Tensor]) -> None:
    for name, linear in linears.items():
        linear.weight.data = weights[name]


@contextmanager
def _borrowed(*tensors: Iterable[Tensor], device: torch.device) -> Iterator[None]:
    """Have parameters and buffers on a device; afterwards they are where they were, and what they were."""
    lent = [(tensor, tensor.data) for tensor in chain(*tensors)]
    for tensor, home in lent:
        tensor.data = home.to(device, non_blocking=True)
    try:
        yield
    finally:
        for tensor, home in lent:
            tensor.data = home


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
