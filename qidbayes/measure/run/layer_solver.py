"""One layer of the sweep, rounded for every GPTQ setting: calibrated on each one's own states, solved together."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import batched, groupby

import torch
from torch import Tensor, nn

from qidbayes.measure.decoder.compare import Compared
from qidbayes.measure.decoder.hessian import second_moments
from qidbayes.measure.decoder.hidden_states import HiddenStates
from qidbayes.measure.decoder.layers import Call, input_groups
from qidbayes.measure.decoder.memory import room
from qidbayes.measure.decoder.passes import Passes, Replayed, Suspended
from qidbayes.measure.errors import MeasureError, of_linear
from qidbayes.measure.inputs.experts import in_stages
from qidbayes.measure.quantize.factorize import factorize_fast
from qidbayes.measure.quantize.gptq import GPTQKind, Prepared
from qidbayes.measure.quantize.gptq_batched import gridded
from qidbayes.measure.quantize.recorded import RecordedSolver
from qidbayes.measure.quantize.report import Quantizer
from qidbayes.measure.run.beside import Beside

_WAITING = 0.5  # of what is free when a layer begins: for calibration passes that wait within it
_WAITING_CPU = 2**30  # bytes, likewise
_FACTORS = 0.2  # likewise, for the factors of what is solved together
_FACTORIZED = 4  # matrices of a factor's size that factorizing holds at a time


@dataclass
class Variant:
    """One quantizer's state as the sweep goes on.

    Attributes
    ----------
    quantizer
        It.
    calibration, evaluation
        Its own hidden states, of the calibration set (None where it needs none) and, by their numbers, of the
        evaluation sets that it is still evaluated on.
    weights
        Its weights of the layer under way, by the linears' names.
    tokens
        What its experts have seen, as `QuantizationReport` has it.
    kept
        Its weights of each layer, where it may be evaluated on further windows.
    compared
        For each evaluation set and each block of it: what it gives beside the 16-bit model.
    stored
        Bits that its weights take so far.
    error
        What went wrong; it is left out from then on.
    """

    quantizer: Quantizer
    calibration: HiddenStates | None
    evaluation: dict[int, HiddenStates] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    kept: list[dict[str, Tensor]] = field(default_factory=list)
    compared: list[list[Compared]] = field(default_factory=list)
    stored: int = 0
    error: MeasureError | None = None


@dataclass(frozen=True)
class LayerSolver:
    """A layer, and what goes into it.

    Attributes
    ----------
    layer, prefix
        It, on the device that computes, and what its linears' full names begin with.
    linears
        Its linears, by name within the layer.
    single, calls
        How it is called for one sequence, and for each batch of the calibration set.
    tokens
        Of the calibration set.
    device
        The device that computes.
    kept_outside
        Whether hidden states wait in main memory.
    is_last
        Whether no layer comes after, so that no state need go past it.
    solver
        What rounds the columns, of all layers.
    """

    layer: nn.Module
    prefix: str
    linears: dict[str, nn.Linear]
    single: Call
    calls: Sequence[Call]
    tokens: int
    device: torch.device
    kept_outside: bool
    is_last: bool
    solver: RecordedSolver

    def solve(self, variants: Sequence[Variant]) -> None:
        """Round the layer for GPTQ variants, and move their calibration states past it."""
        states = next(variant.calibration for variant in variants)
        assert states is not None
        first = next(iter(states))[:1]
        groups = input_groups(self.layer, first, self.single)
        inputs = [self.linears[group[0]].in_features for group in groups]
        held = (sum(inputs) + 2 * first.shape[-1]) * first.element_size() * self.tokens
        factor = 4 * max(inputs) ** 2
        waiting, solved = self._at_once(held, factor, len(variants))
        for (sequential, _), alike in groupby(sorted(variants, key=_order), key=_solved_alike):
            # Where all of a layer is calibrated at once, its states must go through all of it again.
            kind = Suspended if waiting and sequential else Replayed
            for together in batched(alike, min(waiting, solved) if kind is Suspended else solved):
                passes = [(v, kind(self.layer, v.calibration, self.calls)) for v in together if v.calibration]
                beside = Beside(self.device, len(together) if len(together) * _FACTORIZED <= solved else 1)
                try:
                    for stage in self._stages(groups, kind is Replayed, sequential, factor * len(together)):
                        self._solve_stage(passes, stage, beside)
                    for variant, one in passes:
                        if not variant.error and not self.is_last:
                            use_weights(self.linears, variant.weights)
                            one.finish()
                finally:
                    for _, one in passes:
                        one.close()

    def _at_once(self, held: int, factor: int, variants: int) -> tuple[int, int]:
        """How many variants' calibration passes may wait within a layer (maybe 0), and how many may be solved together.

        Parameters
        ----------
        held
            Bytes that a variant's waiting passes hold.
        factor
            Bytes of its largest factor.
        variants
            How many there are.
        """
        if self.device.type != "cuda":
            return _WAITING_CPU // held, variants
        free = room(self.device)
        return 0 if self.kept_outside else int(free * _WAITING) // held, max(1, int(free * _FACTORS) // factor)

    def _stages(
        self, groups: Sequence[tuple[str, ...]], replayed: bool, sequential: bool, factors: int
    ) -> Sequence[Sequence[tuple[str, ...]]]:
        """What is calibrated at a time, given the bytes of one group's factors.

        A pass that waits goes on with what it has computed, so it has to stop before each expert is run.
        """
        if not sequential:
            return [groups]
        return in_stages(self.layer, groups, self._experts_at_once(factors)) if replayed else [[g] for g in groups]

    def _experts_at_once(self, factors: int) -> int | None:
        """How many experts may be calibrated together; None for all."""
        return max(1, int(room(self.device) * _FACTORS) // factors) if self.device.type == "cuda" else None

    def _solve_stage(
        self, passes: Sequence[tuple[Variant, Passes]], stage: Sequence[tuple[str, ...]], beside: Beside
    ) -> None:
        """Calibrate some groups of linears that share an input, and round them."""
        started = []
        ready: dict[tuple[str, ...], list[tuple[Variant, Prepared]]] = {group: [] for group in stage}
        for variant, one in passes:
            if variant.error:
                continue
            assert isinstance(variant.quantizer, GPTQKind)
            use_weights(self.linears, variant.weights)
            moments = second_moments(self.layer, stage)
            one.run_to({group[0]: moments[group].add for group in stage})
            for group in stage:
                members = [self.linears[name].weight for name in group]
                weight = torch.cat([member.float() for member in members])
                sizes = [len(member) for member in members]
                moment = moments.pop(group)
                if moment.routed:
                    variant.tokens |= {self.prefix + name: moment.tokens for name in group}
                work = beside.start(variant.quantizer.prepare, weight, moment.value(), factorize_fast, sizes)
                started.append((variant, group, members[0].dtype, work))
        for variant, group, dtype, work in started:
            try:
                ready[group].append((variant, work.result()))
            except MeasureError as error:
                variant.error = variant.error or of_linear(self.prefix + group[0], error, dtype)
        beside.wait()
        for group, all_prepared in ready.items():
            prepared = [(variant, one) for variant, one in all_prepared if not variant.error]
            if not prepared:
                continue
            quantizers = [variant.quantizer for variant, _ in prepared if isinstance(variant.quantizer, GPTQKind)]
            solved = self.solver.solve(quantizers, [one for _, one in prepared])
            for (variant, _), weight in zip(prepared, solved, strict=True):
                sizes = [self.linears[name].out_features for name in group]
                for name, part in zip(group, torch.split(weight, sizes), strict=True):
                    variant.weights[name] = part.to(self.linears[name].weight.dtype)


def use_weights(linears: dict[str, nn.Linear], weights: dict[str, Tensor]) -> None:
    """Have a layer's linears hold other weights."""
    for name, linear in linears.items():
        linear.weight.data = weights[name]


def _solved_alike(variant: Variant) -> tuple[bool, int]:
    assert isinstance(variant.quantizer, GPTQKind)
    return variant.quantizer.true_sequential, variant.quantizer.block_size


def _order(variant: Variant) -> tuple[bool, int, bool, bool, tuple[str, bool, int]]:
    assert isinstance(variant.quantizer, GPTQKind)
    return (*_solved_alike(variant), *gridded(variant.quantizer))
