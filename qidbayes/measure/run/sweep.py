"""One pass over a decoder for its 16-bit loss and those of many quantizations.

The plain path (`Quantizer.quantize`, then `window_losses`) runs the whole model for every quantization. Here the hidden
states of the 16-bit model and of every quantized variant travel through the layers together: a layer is put on the
device once, every variant's version of it is made there, all states are moved past it, and it is let go. So only one
layer need be on the device. The mathematics is the plain path's: GPTQ's later layers are calibrated on what its own
quantized ones put out. So is the order of its sums, without which a weight would round the other way here and there.
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

from qidbayes.errors import InputError
from qidbayes.measure.decoder.batches import Batches, compare_batches, enter_batches, in_order
from qidbayes.measure.decoder.compare import Compared
from qidbayes.measure.decoder.hessian import second_moments
from qidbayes.measure.decoder.hidden_states import HiddenStates
from qidbayes.measure.decoder.layers import decoder_layers, evaluating, input_groups, stack_linears, tapped
from qidbayes.measure.decoder.memory import borrowed, room
from qidbayes.measure.decoder.passes import run_past
from qidbayes.measure.decoder.probe import check_stack
from qidbayes.measure.decoder.rotary import fused_rotary
from qidbayes.measure.errors import MeasureError
from qidbayes.measure.plan.methods import METHODS
from qidbayes.measure.quantize.activations import rounding_inputs
from qidbayes.measure.quantize.gptq import GPTQKind
from qidbayes.measure.quantize.report import MatrixQuantizer, QuantizationReport, Quantizer
from qidbayes.measure.run.layer_solver import LayerSolver, Variant, use_weights

_RESERVE = 0.5  # share of the GPU's memory left to a layer, its Hessians and its activations


@dataclass(frozen=True)
class Swept:
    """What the sweep found for one quantizer.

    Attributes
    ----------
    report
        How quantizing went; None if it failed.
    orders
        For each order of the calibration windows (one, for a method that needs none), and there for each evaluation
        set: each window's means beside the 16-bit model. Not finite where the model's are not.
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
    orders: int = 1,
    watch: Watch | None = None,
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

    Raises
    ------
    InputError
        If a quantizer's settings do not fit the model, or the sweep does not know its method.
    MeasureError
        If the model's loss does not come out of its decoder stack.

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
    for quantizer in quantizers:
        known = sorted(name for name, method in METHODS.items() if method.swept)
        if quantizer.method not in known:
            raise InputError(f"the sweep does not know {quantizer.method}; give {', '.join(known)}")
        quantizer.check_fit(stack_linears(model))
    check_stack(model)
    return _Pass(model, quantizers, calibration, windows, device, report, orders, watch).carry_out()


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
    ) -> None:
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", torch.cuda.current_device())
        self._model, self._device, self._report = model, device, report
        self._linears = stack_linears(model)
        self._stack, self._layers = decoder_layers(model)
        self._windows = windows
        self._seconds = {"quantize": 0.0, "evaluate": 0.0}
        calibrated = orders * sum(isinstance(q, GPTQKind) for q in quantizers)
        self._watch, watched = watch, watch is not None and len(calibration) > 0
        streams = calibrated + watched
        self._outside = self._stay_outside(calibration if streams else calibration[:0], windows, streams)
        calibrations: list[tuple[Batches, HiddenStates]] = []
        self._watched: tuple[Batches, HiddenStates] | None = None
        with self._outer_parts():
            if watched:
                self._watched = enter_batches(model, calibration, device, self._outside)
            if calibrated:
                with self._timed("quantize"):
                    calibrations = [
                        enter_batches(model, in_order(calibration, number), device, self._outside)
                        for number in range(orders)
                    ]
            with self._timed("evaluate"):
                entered = [enter_batches(model, texts[:, :-1], device, self._outside) for texts in windows]
        self._batches = [batches for batches, _ in entered]
        self._baseline = [states for _, states in entered]
        self._calibrations = [batches for batches, _ in calibrations]
        self._repeated: list[list[Variant]] = [
            [self._variant(q, states) for _, states in calibrations]
            if isinstance(q, GPTQKind)
            else [self._variant(q, None)]
            for q in quantizers
        ]
        self._variants = list(chain.from_iterable(self._repeated))

    def _variant(self, quantizer: Quantizer, calibration: HiddenStates | None) -> Variant:
        own = calibration.copy() if calibration else None
        return Variant(quantizer, own, [states.copy() for states in self._baseline])

    def carry_out(self) -> Sweep:
        with fused_rotary(self._layers, self._device):
            for index, layer in enumerate(self._layers):
                self._report(f"layer {index + 1} of {len(self._layers)}")
                with borrowed(layer.parameters(), layer.buffers(), device=self._device), evaluating(layer):
                    self._pass_layer(index, layer)
        self._report("losses")
        with self._timed("evaluate"), self._outer_parts():
            baseline, compared = self._compare([v for v in self._variants if not v.error])
        variants = []
        for repeats in self._repeated:
            error = next((v.error for v in repeats if v.error), None)
            found = [next(compared) for v in repeats if not v.error]
            variants.append(Swept(None, [], error) if error else Swept(self._reported(repeats[0]), found, None))
        return Sweep(baseline, variants, self._seconds["quantize"], self._seconds["evaluate"])

    def _outer_parts(self) -> AbstractContextManager[None]:
        """The embedding, the head and one layer on the device; the first layer, to see how layers answer."""
        inner = {id(t) for t in chain(self._layers[1:].parameters(), self._layers[1:].buffers())}
        outer = [t for t in chain(self._model.parameters(), self._model.buffers()) if id(t) not in inner]
        return borrowed(outer, device=self._device)

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

    def _pass_layer(self, index: int, layer: nn.Module) -> None:
        prefix = f"{self._stack}.{index}."
        linears = {n.removeprefix(prefix): m for n, m in self._linears.items() if n.startswith(prefix)}
        own = {name: linear.weight.data for name, linear in linears.items()}
        variants = [v for v in self._variants if not v.error]
        moments = self._own_moments(index, layer)
        with self._timed("quantize"):
            for variant in variants:
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
                        batches.calls[index],
                        batches.tokens,
                        self._device,
                        self._outside,
                        is_last=index + 1 == len(self._layers),
                    ).solve(ready)
        if self._watch is not None:
            of_each = [None if repeats[0].error else repeats[0].weights for repeats in self._repeated]
            self._watch(RoundedLayer(prefix, own, moments, of_each))
        for variant in variants:
            if not variant.error:
                use_weights(linears, variant.weights)
                with rounding_inputs(variant.quantizer, linears.values()):
                    self._advance(index, layer, variant.evaluation)
            variant.weights = {}
        use_weights(linears, own)
        self._advance(index, layer, self._baseline)

    def _own_moments(self, index: int, layer: nn.Module) -> dict[str, Tensor]:
        """Move the watched 16-bit states past the layer; returns the second moments of its linears' inputs, by name."""
        if self._watched is None:
            return {}
        batches, states = self._watched
        groups = input_groups(layer, next(iter(states)), batches.calls[index][0])
        moments = second_moments(layer, groups)
        with ExitStack() as stack:
            for group, moment in moments.items():
                stack.enter_context(tapped(layer.get_submodule(group[0]), moment.add))
            states.advance(partial(run_past, layer, batches.calls[index]))
        return {name: value for group, m in moments.items() for value in [m.value()] for name in group}

    def _advance(self, index: int, layer: nn.Module, streams: Sequence[HiddenStates]) -> None:
        with self._timed("evaluate"):
            for batches, states in zip(self._batches, streams, strict=True):
                states.advance(partial(run_past, layer, batches.calls[index]))

    def _compare(self, variants: Sequence[Variant]) -> tuple[list[Tensor], Iterator[list[Compared]]]:
        """The 16-bit model's losses by evaluation set, and each variant's beside it."""
        baseline, compared = [], []
        for number, (batches, states, windows) in enumerate(
            zip(self._batches, self._baseline, self._windows, strict=True)
        ):
            streams = [variant.evaluation[number] for variant in variants]
            losses, found = compare_batches(self._model, batches, states, streams, windows[:, 1:])
            baseline.append(losses)
            compared.append(found)
        return baseline, ([of_set[number] for of_set in compared] for number in range(len(variants)))

    def _reported(self, variant: Variant) -> QuantizationReport:
        quantizer = variant.quantizer
        if isinstance(quantizer, GPTQKind):
            return quantizer.report(self._linears, variant.raised, variant.dead, variant.tokens)
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
