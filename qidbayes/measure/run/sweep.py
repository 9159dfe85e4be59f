"""One pass over a decoder for its 16-bit loss and those of many quantizations.

The plain path (`Quantizer.quantize`, then `window_losses`) runs the whole model for every quantization. Here the hidden
states of the 16-bit model and of every quantized variant travel through the layers together: a layer is put on the
device once, every variant's version of it is made there, all states are moved past it, and it is let go. So only one
layer need be on the device. The mathematics is the plain path's: GPTQ's later layers are calibrated on what its own
quantized ones put out. So is the order of its sums, without which a weight would round the other way here and there.

Where evaluation may end early, the first pass takes the first block of windows, and every variant's weights are kept.
Later blocks go through the layers again, with those variants alone that still want them.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from qidbayes import memory
from qidbayes.errors import InputError
from qidbayes.measure.decoder.batches import Batches, compare_batches, enter_batches, in_order
from qidbayes.measure.decoder.blocks import going_on, in_blocks
from qidbayes.measure.decoder.compare import Compared
from qidbayes.measure.decoder.hessian import second_moments
from qidbayes.measure.decoder.hidden_states import HiddenStates
from qidbayes.measure.decoder.layers import (
    decoder_layers,
    evaluating,
    input_groups,
    sequences_at_once,
    stack_linears,
    tapped,
)
from qidbayes.measure.decoder.memory import borrowed, room
from qidbayes.measure.decoder.passes import run_past
from qidbayes.measure.decoder.probe import check_stack
from qidbayes.measure.decoder.rotary import fused_rotary
from qidbayes.measure.errors import MeasureError
from qidbayes.measure.plan.methods import METHODS
from qidbayes.measure.quantize.activations import rounding_inputs
from qidbayes.measure.quantize.gptq import GPTQKind
from qidbayes.measure.quantize.matrix import MatrixQuantizer
from qidbayes.measure.quantize.recorded import RecordedSolver
from qidbayes.measure.quantize.report import QuantizationReport, Quantizer
from qidbayes.measure.run.layer_solver import LayerSolver, Variant, use_weights

_RESERVE = 0.5  # share of the GPU's memory left to a layer, its Hessians and its activations
_HALVINGS = 4  # of the batches, after each of which a pass that ran out of memory begins anew


@dataclass(frozen=True)
class Swept:
    """What the sweep found for one quantizer.

    Attributes
    ----------
    report
        How quantizing went; None if it failed.
    orders
        For each order of the calibration windows (one, for a method that needs none), and there for each evaluation
        set: each window's means beside the 16-bit model, of the first windows if evaluation ended early. Not finite
        where the model's are not.
    error
        What went wrong, if it did: activations that are not finite, a matrix that cannot be factorized.
    """

    report: QuantizationReport | None
    orders: list[list[Compared]]
    error: MeasureError | None

    @property
    def compared(self) -> list[Compared]:
        """For each evaluation set: what the first order gives."""
        return self.orders[0] if self.orders else []

    @property
    def losses(self) -> list[Tensor]:
        """For each evaluation set `[n]`: each window's mean loss with the first order, float64, nats/token."""
        return [some.losses for some in self.compared]


@dataclass(frozen=True)
class RoundedLayer:
    """A layer as the sweep has just rounded it, for who watches.

    Attributes
    ----------
    prefix
        What its linears' full names begin with.
    weights
        The 16-bit model's, `[out, in]`, by the linears' names in the layer.
    moments
        The second moments of the 16-bit model's inputs on the calibration set, `[in, in]`, by those names; none where
        nothing was given to calibrate with.
    rounded
        For each quantizer its weights, likewise (with the first order of calibration); None for one that has failed.
    """

    prefix: str
    weights: Mapping[str, Tensor]
    moments: Mapping[str, Tensor]
    rounded: Sequence[Mapping[str, Tensor] | None]


type Watch = Callable[[RoundedLayer], None]


@dataclass(frozen=True)
class Sweep:
    """What one pass found.

    Attributes
    ----------
    baseline
        The 16-bit model's losses, for each evaluation set `[n]`: each window's mean, float64, nats/token.
    variants
        One for each quantizer.
    seconds_quantize, seconds_evaluate
        Of the whole pass, which they add up to.
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
    orders: int = 1,
    watch: Watch | None = None,
    until: float | None = None,
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
    orders
        In how many orders of the calibration windows methods that need them are run; see `in_order`.
    watch
        Told of every layer once it has been rounded. It costs one pass of the 16-bit model over the calibration set.
    until
        A quantizer is evaluated on a set until QiD's standard error is at most this share of QiD, with the first order
        if there are several; the 16-bit model on all windows. Asked at the ends of `in_blocks`, so the windows should
        be in a random order.

    Raises
    ------
    InputError
        If a quantizer's settings do not fit the model, or the sweep does not know its method.
    MeasureError
        If the model's loss does not come out of its decoder stack.
    torch.OutOfMemoryError
        If the GPU's memory is too small for batches of a sixteenth of what seemed right.

    Examples
    --------
    >>> from transformers import AutoModelForCausalLM, GPTNeoXConfig
    >>> from qidbayes.measure.quantize import GPTQ, RTN
    >>> model = AutoModelForCausalLM.from_config(GPTNeoXConfig(
    ...     vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2))
    >>> text = torch.arange(66).reshape(2, 33) % 64
    >>> found = sweep(model, [GPTQ(2, 16), RTN(2, 16)], text, [text], torch.device("cpu"))
    >>> [variant.losses[0].shape for variant in found.variants]
    [torch.Size([2]), torch.Size([2])]
    """
    began = time.perf_counter()
    linears = stack_linears(model)
    known = sorted(name for name, method in METHODS.items() if method.swept)
    for quantizer in quantizers:
        if quantizer.method not in known:
            raise InputError(f"the sweep does not know {quantizer.method}; give {', '.join(known)}")
        quantizer.check_fit(linears)
    check_stack(model)
    for halvings in range(_HALVINGS):
        try:
            return _Pass(model, quantizers, calibration, windows, device, report, orders, watch, until, halvings).run(
                began
            )
        except torch.OutOfMemoryError:
            report(f"out of memory: the sweep begins anew, with batches of 1/{2 ** (halvings + 1)}")
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return _Pass(model, quantizers, calibration, windows, device, report, orders, watch, until, _HALVINGS).run(began)


class _Pass:
    def __init__(
        self,
        model: PreTrainedModel,
        quantizers: Sequence[Quantizer],
        calibration: Tensor,
        windows: Sequence[Tensor],
        device: torch.device,
        report: Callable[[str], None],
        orders: int,
        watch: Watch | None,
        until: float | None,
        halvings: int,
    ) -> None:
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", torch.cuda.current_device())
        self._model, self._device, self._report = model, device, report
        self._until, self._halvings = until, halvings
        self._linears = stack_linears(model)
        self._stack, self._layers = decoder_layers(model)
        self._blocks = [in_blocks(texts, until) for texts in windows]
        self._seconds_quantize = 0.0
        self._timed: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._solver = RecordedSolver()
        calibrated = orders * sum(isinstance(q, GPTQKind) for q in quantizers)
        self._watch, watched = watch, watch is not None and len(calibration) > 0
        variants = sum(orders if isinstance(q, GPTQKind) else 1 for q in quantizers)
        self._outside, self._kept_outside = self._stay_outside(calibration, calibrated + watched, variants)
        calibrations: list[tuple[Batches, HiddenStates]] = []
        self._watched: tuple[Batches, HiddenStates] | None = None
        with self._outer_parts():
            if calibrated or watched:
                # One sequence tells which linears of a layer share their inputs.
                self._single, _ = enter_batches(model, calibration[:1], device, False, 1)
            if watched:
                self._watched = self._enter(calibration)
            if calibrated:
                with self._quantizing():
                    calibrations = [self._enter(in_order(calibration, number)) for number in range(orders)]
        self._calibrations = [batches for batches, _ in calibrations]
        self._repeated = [
            [Variant(q, states.copy()) for _, states in calibrations] if isinstance(q, GPTQKind) else [Variant(q, None)]
            for q in quantizers
        ]
        self._variants = list(chain.from_iterable(self._repeated))
        for variant in self._variants:
            variant.compared = [[] for _ in windows]
        self._losses: list[list[Tensor]] = [[] for _ in windows]

    def run(self, began: float) -> Sweep:
        with fused_rotary(self._layers, self._device):
            for block in range(max(map(len, self._blocks), default=1)):
                self._enter_block(block)
                for index, layer in enumerate(self._layers):
                    self._report(f"layer {index + 1} of {len(self._layers)}{f', block {block + 1}' if block else ''}")
                    with borrowed(layer.parameters(), layer.buffers(), device=self._device), evaluating(layer):
                        if block == 0:
                            self._round_layer(index, layer)
                        self._advance_layer(index, layer)
                self._report("losses")
                self._compare_block(block)
                self._let_go_of_calibration()
        variants = []
        for repeats in self._repeated:
            error = next((v.error for v in repeats if v.error), None)
            if error:
                variants.append(Swept(None, [], error))
                continue
            found = [[Compared.joined(blocks) for blocks in v.compared] for v in repeats]
            variants.append(Swept(self._reported(repeats[0]), found, None))
        self._count_seconds()
        seconds = time.perf_counter() - began
        baseline = [torch.cat(blocks) for blocks in self._losses]
        return Sweep(baseline, variants, self._seconds_quantize, seconds - self._seconds_quantize)

    def _outer_parts(self) -> AbstractContextManager[None]:
        """The embedding, the head and one layer on the device; the first layer, to see how layers answer."""
        inner = {id(t) for t in chain(self._layers[1:].parameters(), self._layers[1:].buffers())}
        outer = [t for t in chain(self._model.parameters(), self._model.buffers()) if id(t) not in inner]
        return borrowed(outer, device=self._device)

    def _enter(self, ids: Tensor) -> tuple[Batches, HiddenStates]:
        at_once = sequences_at_once(self._model, ids.shape[1], self._device, self._halvings)
        return enter_batches(self._model, ids, self._device, self._outside, at_once)

    def _enter_block(self, number: int) -> None:
        """Have a block of each evaluation set before the first layer, for the variants that want it."""
        with self._outer_parts():
            self._entered = {
                s: self._enter(blocks[number][:, :-1]) for s, blocks in enumerate(self._blocks) if number < len(blocks)
            }
        for repeats in self._repeated:
            sets = [s for s in self._entered if number == 0 or self._goes_on(repeats[0], s)]
            for variant in repeats:
                variant.evaluation = {s: self._entered[s][1].copy() for s in sets}
                variant.kept = variant.kept if sets else []

    def _let_go_of_calibration(self) -> None:
        self._calibrations, self._watched, self._solver = [], None, RecordedSolver()
        for variant in self._variants:
            variant.calibration = None

    def _goes_on(self, variant: Variant, s: int) -> bool:
        """Whether the block after the last is wanted of a set, too."""
        if variant.error or s not in variant.evaluation:
            return False
        return going_on(
            [one.losses for one in variant.compared[s]], self._losses[s][: len(variant.compared[s])], self._until
        )

    def _stay_outside(self, calibration: Tensor, streams: int, variants: int) -> tuple[bool, bool]:
        """Whether all hidden states, and then the weights that later blocks want, are too much for the device."""
        first = sum(blocks[0].numel() for blocks in self._blocks)
        states = (calibration.numel() * streams + (1 + variants) * first) * self._width * self._model.dtype.itemsize
        weights = 0
        if any(len(blocks) > 1 for blocks in self._blocks):
            weights = variants * sum(linear.weight.nbytes for linear in self._linears.values())
        most = (1 - _RESERVE) * room(self._device)
        if states + weights > most or self._device.type != "cuda":
            memory.check(weights, "[evaluation] until: the weights of all quantizations", "leave until out")
        return states > most, states + weights > most

    @property
    def _width(self) -> int:
        embedding: nn.Module = self._model.get_input_embeddings()
        return next(embedding.parameters()).shape[1]

    def _linears_of(self, index: int) -> tuple[str, dict[str, nn.Linear]]:
        prefix = f"{self._stack}.{index}."
        return prefix, {n.removeprefix(prefix): m for n, m in self._linears.items() if n.startswith(prefix)}

    def _round_layer(self, index: int, layer: nn.Module) -> None:
        """Give every variant its weights of the layer, and move calibration states past it."""
        prefix, linears = self._linears_of(index)
        own = {name: linear.weight.data for name, linear in linears.items()}
        moments = self._own_moments(index, layer)
        with self._quantizing():
            for variant in self._variants:
                if variant.error:
                    continue
                variant.weights = dict(own)
                if isinstance(variant.quantizer, MatrixQuantizer):
                    for name, linear in linears.items():
                        rounded, stored = variant.quantizer.round_linear(linear)
                        variant.weights[name] = rounded.to(linear.weight.dtype)
                        variant.stored += stored
            calibrated = [repeats for repeats in self._repeated if repeats[0].calibration]
            for number, batches in enumerate(self._calibrations):
                ready = [repeats[number] for repeats in calibrated if not repeats[number].error]
                if ready:
                    LayerSolver(
                        layer,
                        prefix,
                        linears,
                        self._single.calls[index][0],
                        batches.calls[index],
                        batches.tokens,
                        self._device,
                        self._outside,
                        is_last=index + 1 == len(self._layers),
                        solver=self._solver,
                    ).solve(ready)
            use_weights(linears, own)
        if self._watch is not None:
            of_each = [None if repeats[0].error else repeats[0].weights for repeats in self._repeated]
            self._watch(RoundedLayer(prefix, own, moments, of_each))

    def _advance_layer(self, index: int, layer: nn.Module) -> None:
        """Move evaluation states past the layer: each variant's with its own weights, then the 16-bit model's."""
        _, linears = self._linears_of(index)
        own = {name: linear.weight.data for name, linear in linears.items()}
        for variant in self._variants:
            if variant.error or not variant.evaluation:
                variant.weights = {}
                continue
            weights = variant.kept[index] if index < len(variant.kept) else variant.weights
            use_weights(linears, {name: weight.to(self._device) for name, weight in weights.items()})
            with rounding_inputs(variant.quantizer, linears.values()):
                for s, states in variant.evaluation.items():
                    states.advance(partial(run_past, layer, self._entered[s][0].calls[index]))
            if variant.weights and self._until is not None:
                variant.kept.append({n: w.cpu() if self._kept_outside else w for n, w in variant.weights.items()})
            variant.weights = {}
        use_weights(linears, own)
        for batches, states in self._entered.values():
            states.advance(partial(run_past, layer, batches.calls[index]))

    def _own_moments(self, index: int, layer: nn.Module) -> dict[str, Tensor]:
        """Move the watched 16-bit states past the layer; returns the second moments of its linears' inputs, by name."""
        if self._watched is None:
            return {}
        batches, states = self._watched
        groups = input_groups(layer, next(iter(states))[:1], self._single.calls[index][0])
        moments = second_moments(layer, groups)
        with ExitStack() as stack:
            for group, moment in moments.items():
                stack.enter_context(tapped(layer.get_submodule(group[0]), moment.add))
            states.advance(partial(run_past, layer, batches.calls[index]))
        return {name: value for group, m in moments.items() for value in [m.value()] for name in group}

    def _compare_block(self, number: int) -> None:
        """Note what the 16-bit model loses on a block of each set, and what each variant gives beside it."""
        with self._outer_parts():
            for s, (batches, states) in self._entered.items():
                going = [v for v in self._variants if s in v.evaluation and not v.error]
                streams, targets = [v.evaluation[s] for v in going], self._blocks[s][number][:, 1:]
                losses, found = compare_batches(self._model, batches, states, streams, targets)
                self._losses[s].append(losses)
                for variant, one in zip(going, found, strict=True):
                    variant.compared[s].append(one)

    def _reported(self, variant: Variant) -> QuantizationReport:
        quantizer = variant.quantizer
        if isinstance(quantizer, GPTQKind):
            return quantizer.report(self._linears, variant.tokens)
        assert isinstance(quantizer, MatrixQuantizer)
        return quantizer.report(self._linears, variant.stored)

    @contextmanager
    def _quantizing(self) -> Iterator[None]:
        """Count the block's seconds as quantizing; all others evaluate. On a GPU they are its own: nothing waits."""
        if self._device.type != "cuda":
            began = time.perf_counter()
            yield
            self._seconds_quantize += time.perf_counter() - began
            return
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        first.record()
        yield
        last.record()
        self._timed.append((first, last))

    def _count_seconds(self) -> None:
        if self._timed:
            torch.cuda.synchronize(self._device)
        self._seconds_quantize += sum(first.elapsed_time(last) for first, last in self._timed) / 1000
