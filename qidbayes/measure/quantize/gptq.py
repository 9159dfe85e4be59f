"""GPTQ (Frantar et al., arXiv:2210.17323): round column by column, each error spread over the columns still to come."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from qidbayes.measure.decoder.hessian import second_moments
from qidbayes.measure.decoder.layers import (
    decoder_layers,
    enter_stack,
    input_groups,
    replay,
    replay_until,
    sequences_at_once,
    stack_linears,
)
from qidbayes.measure.errors import MeasureError, NotFiniteError, of_linear
from qidbayes.measure.inputs.experts import in_stages
from qidbayes.measure.plan.methods import METHODS, check_settings
from qidbayes.measure.quantize.factorize import factorize, factorize_fast
from qidbayes.measure.quantize.float_grid import FloatGrid, FloatScales
from qidbayes.measure.quantize.floats import check_format_fits, format_of
from qidbayes.measure.quantize.grid import Grid, check_groups_fit, fit_grid, stored_bits
from qidbayes.measure.quantize.report import QuantizationReport, too_few
from qidbayes.measure.quantize.rotation import Rotation

type Factorizer = Callable[[Tensor, float], Tensor]
"""Takes a Hessian and a damping; returns what `factorize` does."""


class Fitter(Protocol):
    """Fits a matrix's grids, group by group."""

    def fit(self, weights: Tensor) -> Grid | FloatGrid:
        """Return the grid of some columns, `[out, n]`: a scale for each row."""


_GROUP_INDEX_BITS = 32  # an int32 per input column, as GPTQ's files store it


@dataclass(frozen=True)
class Prepared:
    """A matrix whose columns are about to be rounded.

    Attributes
    ----------
    weight
        `[out, in]`, its columns in the order in which they are rounded; the caller's own.
    spread
        `[in, in]`, from `factorize`, in that order.
    order
        `[in]`: which column stands where; None if each is where it was.
    rotation
        What its inputs were turned by; None if they were not.
    fitter
        What fits its grids.
    grids
        Each group's grid, where they are static.
    group_of
        Where they are, by the position in that order, the group that a column was born in.
    """

    weight: Tensor
    spread: Tensor
    order: Tensor | None
    rotation: Rotation | None
    fitter: Fitter
    grids: Sequence[Grid | FloatGrid] | None
    group_of: list[int]

    def put_back(self, quantized: Tensor) -> Tensor:
        """Return the quantized matrix, given the columns as they were rounded, in that order."""
        if self.order is not None:
            quantized = quantized[:, torch.argsort(self.order)]
        if self.rotation is not None:
            quantized = self.rotation.back(quantized)
        return quantized


_SETTINGS = METHODS["gptq"].settings


@dataclass(frozen=True)
class GPTQKind:
    """GPTQ, sequential: each layer is calibrated on what the quantized layers before it put out.

    What kinds of it differ in is the grid that columns are rounded to.

    Attributes
    ----------
    act_order
        Whether columns are rounded in falling order of their inputs' mean square.
    static_groups
        Whether all grids are fitted before any error is spread, on neighbouring columns, as llmcompressor does. If
        not, and with `act_order`, groups follow the rounding order, and the stored model needs each column's group.
    damping
        What is added to the Hessian's diagonal, as a share of its mean over inputs that calibration saw move.
    true_sequential
        Whether later linears of a layer, too, are calibrated on what its already quantized ones put out. Without it,
        one pass over a layer calibrates all of it, in about half the time.
    block_size
        Columns whose errors are spread over the rest at once. It changes the result only where groups are smaller: a
        group that starts within a block is fitted before that block's errors reach it, as in every GPTQ.
    rotate
        Whether inputs are turned by a Hadamard matrix first; see `qidbayes.measure.quantize.rotation`.
    activations
        Whether the inputs of quantized linears are rounded too as the model is evaluated, token by token, in the
        format of the weights; see `qidbayes.measure.quantize.activations`. Calibration sees them as they are.
    """

    act_order: bool = field(default=_SETTINGS["act_order"].default, kw_only=True)
    static_groups: bool = field(default=_SETTINGS["static_groups"].default, kw_only=True)
    damping: float = field(default=_SETTINGS["damping"].default, kw_only=True)
    true_sequential: bool = field(default=_SETTINGS["true_sequential"].default, kw_only=True)
    block_size: int = field(default=_SETTINGS["block_size"].default, kw_only=True)
    rotate: bool = field(default=_SETTINGS["rotate"].default, kw_only=True)
    activations: bool = field(default=_SETTINGS["activations"].default, kw_only=True)

    if TYPE_CHECKING:  # fields of one kind, and properties of another

        @property
        def method(self) -> str:
            """Its name in `METHODS`."""

        @property
        def bits(self) -> int:
            """Width of a weight."""

        @property
        def group_size(self) -> int | None:
            """Inputs that share a scale; None where a whole output channel does."""

    def __post_init__(self) -> None:
        """Check the settings."""
        given = METHODS[self.method].given
        check_settings(self.method, {name: value for name, value in vars(self).items() if name not in given})

    @property
    def grids_alike(self) -> tuple[str, bool, int]:
        """What settings whose grids are fitted together have in common; it sorts."""
        raise NotImplementedError

    def fitter(self, weight: Tensor, sizes: Sequence[int]) -> Fitter:
        """Return what fits a matrix's grids.

        Parameters
        ----------
        weight
            `[out, in]`, before any of it is rounded.
        sizes
            The rows of each linear that it holds.
        """
        raise NotImplementedError

    def check_fit(self, linears: Mapping[str, nn.Linear]) -> None:
        """Refuse linears whose inputs do not divide into groups; see `Quantizer.check_fit`."""
        check_groups_fit(linears, self.group_size)

    def stored_bits(self, linear: nn.Linear) -> int:
        """Return the bits that one linear's codes and scales take."""
        raise NotImplementedError

    @torch.no_grad()
    def quantize(self, model: PreTrainedModel, calibration: Tensor) -> QuantizationReport:
        """Quantize the decoder stack in place, layer by layer; see `Quantizer.quantize`."""
        linears = stack_linears(model)
        self.check_fit(linears)
        stack, layers = decoder_layers(model)
        inputs = enter_stack(model, calibration, sequences_at_once(model, calibration.shape[1]))
        hidden = inputs.hidden
        tokens: dict[str, int] = {}
        for index, (layer, calls) in enumerate(zip(layers, inputs.calls, strict=True)):
            groups = input_groups(layer, hidden[0], calls[0])
            for stage in in_stages(layer, groups) if self.true_sequential else [groups]:
                moments = second_moments(layer, stage)
                replay_until(layer, hidden, calls, {group[0]: moments[group].add for group in stage})
                for group in stage:
                    names = [f"{stack}.{index}.{name}" for name in group]
                    members = [linears[name] for name in names]
                    moment = moments.pop(group)
                    tokens |= dict.fromkeys(names, moment.tokens) if moment.routed else {}
                    # Rows do not interact, so linears with one input are solved as one matrix.
                    weight = torch.cat([m.weight.float() for m in members])
                    sizes = [m.out_features for m in members]
                    _assign(members, self._solve_named(names[0], weight, moment.value(), sizes, model.dtype))
            hidden = replay(layer, hidden, calls)
        return self.report(linears, tokens)

    def solve(
        self,
        weight: Tensor,
        hessian: Tensor,
        factorize: Factorizer = factorize,
        sizes: Sequence[int] | None = None,
    ) -> Tensor:
        """Quantize one matrix; returns it dequantized, `[out, in]`.

        Parameters
        ----------
        weight
            `[out, in]`.
        hessian
            `[in, in]`, the inputs' second moment up to a factor. Its dtype is the one the solve runs in.
        factorize
            `factorize`, with which gptqmodel's answer comes out to the bit, or `factorize_fast`, with which models are
            quantized.
        sizes
            The rows of each linear that the matrix holds; one linear's, if not given.

        Raises
        ------
        MeasureError
            If the Hessian is not finite, or cannot be factorized at any damping up to 1.

        Examples
        --------
        >>> weight = torch.tensor([[0.3, -1.0, 0.9, 0.2]])
        >>> inputs = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 1.0, 1.0, 1.0]])
        >>> GPTQ(bits=2, group_size=None).solve(weight, inputs.T @ inputs)
        tensor([[ 0.0000, -0.6667,  0.6667,  0.0000]])
        """
        prepared = self.prepare(weight, hessian.clone(), factorize, sizes)
        weight, spread = prepared.weight, prepared.spread
        columns = weight.shape[1]
        group_size = self.group_size or columns
        quantized = torch.empty_like(weight)
        for start in range(0, columns, self.block_size):
            stop = min(start + self.block_size, columns)
            block = weight[:, start:stop].clone()
            errors = torch.empty_like(block)
            block_spread = spread[start:stop, start:stop]
            for i in range(stop - start):
                column = start + i
                if prepared.grids is not None:
                    grid = prepared.grids[prepared.group_of[column]]
                elif column % group_size == 0:
                    grid = prepared.fitter.fit(weight[:, column : column + group_size])
                rounded = grid.nearest(block[:, i : i + 1])
                error = (block[:, i : i + 1] - rounded) / block_spread[i, i]
                block[:, i:] -= error @ block_spread[i : i + 1, i:]
                quantized[:, column : column + 1] = rounded
                errors[:, i : i + 1] = error
            weight[:, stop:].addmm_(errors, spread[start:stop, stop:], alpha=-1)
        return prepared.put_back(quantized)

    def prepare(
        self,
        weight: Tensor,
        hessian: Tensor,
        factorize: Factorizer = factorize,
        sizes: Sequence[int] | None = None,
    ) -> Prepared:
        """Do everything that comes before the first column is rounded.

        Parameters
        ----------
        weight, hessian
            As `solve` takes them; the Hessian is used up.
        factorize
            As `solve` takes it; it may use the Hessian up.
        sizes
            As `solve` takes them.

        Raises
        ------
        MeasureError
            As `solve` does.
        """
        columns = hessian.shape[0]
        group_size = self.group_size or columns
        weight = weight.to(hessian.dtype, copy=True)
        rotation = Rotation(columns) if self.rotate else None
        if rotation:
            weight, hessian = rotation.turned(weight), rotation.moment(hessian)
        used = hessian.diagonal().clone()
        dead = used == 0
        # Other codes put a 1 there, which is small beside their sums over tokens and large beside a mean. Damping is a
        # share of the diagonal's mean, so it is the live entries' mean here: then a Hessian's unit does not matter.
        mean = used.sum() / (~dead).sum()
        hessian.diagonal().copy_(torch.where(dead, torch.where(mean.isnan(), 1, mean), used))
        weight.masked_fill_(dead, 0)
        fitter = self.fitter(weight, sizes or [len(weight)])
        grids, group_of, order = None, [], None
        if self.static_groups:
            grids = [fitter.fit(part) for part in torch.split(weight, group_size, dim=1)]
            group_of = [column // group_size for column in range(columns)]
        if self.act_order:
            order = torch.argsort(used, descending=True, stable=True)  # dead ones last
            weight, hessian = weight[:, order], hessian[order][:, order]
            group_of = [group_of[column] for column in order.tolist()] if group_of else []
        try:
            spread = factorize(hessian, self.damping)
        except MeasureError:
            if torch.isfinite(hessian).all():
                raise
            raise NotFiniteError("calibration activations are not finite") from None
        return Prepared(weight, spread, order, rotation, fitter, grids, group_of)

    def report(self, linears: Mapping[str, nn.Linear], tokens: Mapping[str, int]) -> QuantizationReport:
        """Say how quantizing these linears went, whose experts have seen so many tokens."""
        n_weights = sum(linear.weight.numel() for linear in linears.values())
        stored = sum(map(self.stored_bits, linears.values()))
        if self._needs_group_index:
            stored += sum(_GROUP_INDEX_BITS * linear.in_features for linear in linears.values())
        few = too_few(linears, tokens)
        return QuantizationReport(self.method, self.bits, self.group_size, stored / n_weights, n_weights, tokens, few)

    def _solve_named(
        self, name: str, weight: Tensor, hessian: Tensor, sizes: Sequence[int], dtype: torch.dtype
    ) -> Tensor:
        try:
            return self.solve(weight, hessian, factorize_fast, sizes)
        except MeasureError as error:
            raise of_linear(name, error, dtype) from error

    @property
    def _needs_group_index(self) -> bool:
        return self.act_order and not self.static_groups and self.group_size is not None


@dataclass(frozen=True)
class GPTQ(GPTQKind):
    """GPTQ onto uniform integer grids; see `GPTQKind` for the settings that are not of the grid.

    Attributes
    ----------
    bits
        Width of a weight, 2 to 8.
    group_size
        Inputs that share a scale; None for one scale per output channel.
    symmetric
        Whether grids are centred on zero; if not, each group stores a zero point.
    """

    method: ClassVar[str] = "gptq"

    bits: int
    group_size: int | None = _SETTINGS["group_size"].default
    symmetric: bool = _SETTINGS["symmetric"].default

    @property
    def grids_alike(self) -> tuple[str, bool, int]:
        """Grids that differ in bits alone are fitted together."""
        return "", self.symmetric, self.group_size or 0

    def fitter(self, weight: Tensor, sizes: Sequence[int]) -> Fitter:  # noqa: ARG002 (each row has its own)
        """Minimum–maximum grids of each row."""
        return _IntegerFitter(self.bits, self.symmetric)

    def stored_bits(self, linear: nn.Linear) -> int:
        """Return the bits that one linear's codes, scales and zero points take."""
        return stored_bits([linear], self.bits, self.group_size, self.symmetric)


@dataclass(frozen=True)
class _IntegerFitter:
    bits: int
    symmetric: bool

    def fit(self, weights: Tensor) -> Grid:
        return fit_grid(weights, self.bits, self.symmetric)


@dataclass(frozen=True)
class GPTQFloats(GPTQKind):
    """GPTQ onto a floating-point format's grid; see `GPTQKind` for the settings that are not of the grid.

    What a matrix shares (the scale of `fp8-tensor`, the second level of `nvfp4`) is fitted before any error is spread,
    each group's own scale when its first column is reached, as with integers.

    Attributes
    ----------
    kind
        As `qidbayes.measure.quantize.floats.Floats` has it.
    """

    kind: str

    def __post_init__(self) -> None:
        """Check the settings."""
        format_of(self.kind)
        super().__post_init__()

    @property
    def method(self) -> str:
        """`gptq-` and the format's name."""
        return f"gptq-{self.kind}"

    @property
    def bits(self) -> int:
        """4, 6 or 8."""
        return format_of(self.kind).element.bits

    @property
    def group_size(self) -> int | None:
        """As the format has it."""
        return format_of(self.kind).group_size

    @property
    def grids_alike(self) -> tuple[str, bool, int]:
        """Each matrix has scales of its own: none are."""
        return self.kind, True, 0

    def check_fit(self, linears: Mapping[str, nn.Linear]) -> None:
        """Refuse linears whose inputs do not divide into groups; see `Quantizer.check_fit`."""
        check_format_fits(self.kind, linears)

    def fitter(self, weight: Tensor, sizes: Sequence[int]) -> Fitter:
        """Fit as round-to-nearest does."""
        return FloatScales(format_of(self.kind), weight, sizes)

    def stored_bits(self, linear: nn.Linear) -> int:
        """Return the bits that one linear takes."""
        return format_of(self.kind).stored_bits(linear.out_features, linear.in_features)


def _assign(linears: list[nn.Linear], weight: Tensor) -> None:
    for linear, part in zip(linears, torch.split(weight, [m.out_features for m in linears]), strict=True):
        linear.weight.copy_(part)
