"""AWQ (Lin et al., arXiv:2306.00978): inputs that carry more are scaled up before rounding, and down again after."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from qidbayes.measure.decoder.hessian import second_moments
from qidbayes.measure.decoder.layers import Tap, decoder_layers, enter_stack, input_groups, replay, stack_linears
from qidbayes.measure.errors import MeasureError, NotFiniteError
from qidbayes.measure.plan.methods import METHODS, check_settings
from qidbayes.measure.quantize.grid import (
    SCALE_BITS,
    check_groups_fit,
    fit_grid,
    round_to_grid,
    stored_bits,
)
from qidbayes.measure.quantize.report import QuantizationReport, too_few

_EXPONENTS = 20  # the paper's grid for alpha in [0, 1), and its reference code's
_CLIPS = tuple(1 - 0.05 * step for step in range(10))  # down to just above half, as in that code


_SETTINGS = METHODS["awq"].settings


@dataclass(frozen=True)
class AWQ:
    """Activation-aware weight quantization as `Q(W·s)/s`, for linears that share an input together.

    The scales s are powers of the inputs' mean magnitude; the power is the one whose rounding changes the linears'
    outputs least. Folding s into the operation before, as deployed models do, holds for a norm but not through GELU;
    applied to the weight itself it leaves every architecture's function alone, and is what a kernel would compute.
    Calibration runs on the unquantized model, as the paper's does.

    Attributes
    ----------
    bits
        Width of a weight, 2 to 8.
    group_size
        Inputs that share a scale; None for one scale per output channel.
    symmetric
        Whether grids are centred on zero; if not, each group stores a zero point.
    clip
        Whether each group's range is then narrowed, to as little as 55%, where that changes its output less.
    batch_size
        Calibration sequences in a forward pass; changes the order of sums and nothing else.
    """

    method: ClassVar[str] = "awq"

    bits: int
    group_size: int | None = _SETTINGS["group_size"].default
    symmetric: bool = _SETTINGS["symmetric"].default
    clip: bool = _SETTINGS["clip"].default
    batch_size: int = _SETTINGS["batch_size"].default

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self.method, vars(self))

    def check_fit(self, linears: Mapping[str, nn.Linear]) -> None:
        """Refuse linears whose inputs do not divide into groups; see `Quantizer.check_fit`."""
        check_groups_fit(linears, self.group_size)

    @torch.no_grad()
    def quantize(self, model: PreTrainedModel, calibration: Tensor) -> QuantizationReport:
        """Quantize the decoder stack in place, layer by layer; see `Quantizer.quantize`."""
        linears = stack_linears(model)
        self.check_fit(linears)
        stack, layers = decoder_layers(model)
        inputs = enter_stack(model, calibration, self.batch_size)
        hidden = inputs.hidden
        input_scale_bits = 0
        tokens: dict[str, int] = {}
        for index, (layer, calls) in enumerate(zip(layers, inputs.calls, strict=True)):
            groups = input_groups(layer, hidden[0], calls[0])
            moments = second_moments(layer, groups)
            magnitudes = {group: _Magnitude() for group in groups}
            hidden = replay(layer, hidden, calls, {g[0]: _both(moments[g].add, magnitudes[g].add) for g in groups})
            for group in groups:
                members = [linears[f"{stack}.{index}.{name}"] for name in group]
                if moments[group].routed:
                    tokens |= {f"{stack}.{index}.{name}": moments[group].tokens for name in group}
                moment = moments[group].value()
                if not torch.isfinite(moment).all():
                    where = f"{stack}.{index}.{group[0]}"
                    raise NotFiniteError(f"{where}: calibration activations are not finite", model.dtype)
                weight = torch.cat([m.weight.float() for m in members])
                solved = self.solve(weight, moment, magnitudes[group].value())
                for member, part in zip(members, torch.split(solved, [m.out_features for m in members]), strict=True):
                    member.weight.copy_(part)
                input_scale_bits += SCALE_BITS * members[0].in_features
        n_weights = sum(linear.weight.numel() for linear in linears.values())
        stored = stored_bits(linears.values(), self.bits, self.group_size, self.symmetric) + input_scale_bits
        return QuantizationReport(
            self.method,
            self.bits,
            self.group_size,
            stored / n_weights,
            n_weights,
            expert_tokens=tokens,
            too_few=too_few(linears, tokens),
        )

    def solve(self, weight: Tensor, moment: Tensor, magnitude: Tensor) -> Tensor:
        """Quantize one matrix; returns it dequantized.

        Parameters
        ----------
        weight
            `[out, in]`, the rows of all linears that share the input.
        moment
            `[in, in]`, the input's second moment: it gives the squared change of the output exactly.
        magnitude
            `[in]`, the input's mean absolute value.

        Examples
        --------
        The first input is loud, so its weight keeps the most of its value:

        >>> inputs = torch.tensor([[8.0, 0.1, 0.1, 0.1], [-8.0, 0.1, -0.1, 0.1]])
        >>> weight = torch.tensor([[0.3, -1.0, 0.9, 0.2]])
        >>> change = AWQ(bits=3, group_size=None).solve(weight, inputs.T @ inputs / 2, inputs.abs().mean(0)) - weight
        >>> bool((inputs @ change.T).abs().max() < 0.1)
        True
        """
        best, best_error, best_scale = weight, torch.inf, torch.ones_like(magnitude)
        for step in range(_EXPONENTS):
            scale = magnitude.clamp(min=1e-4) ** (step / _EXPONENTS)
            scale = scale / (scale.max() * scale.min()).sqrt()
            rounded = round_to_grid(weight * scale, self.bits, self.group_size, self.symmetric) / scale
            change = rounded - weight
            error = float(((change @ moment) * change).sum())
            if error < best_error:
                best, best_error, best_scale = rounded, error, scale
        return self._clipped(weight, moment, best_scale) if self.clip else best

    def _clipped(self, weight: Tensor, moment: Tensor, scale: Tensor) -> Tensor:
        """Round with each group's range narrowed as far as lowers that group's own output error."""
        rows, columns = weight.shape
        size = self.group_size or columns
        scaled = (weight * scale).reshape(rows, -1, size)
        within = (moment / torch.outer(scale, scale)).reshape(columns // size, size, columns // size, size)
        within = torch.diagonal(within, dim1=0, dim2=2).permute(2, 0, 1)  # [group, size, size]
        widest = scaled.abs().amax(-1, keepdim=True)
        best = scaled
        best_error = torch.full_like(widest, torch.inf)
        for clip in _CLIPS:
            limit = clip * widest
            narrowed = torch.maximum(torch.minimum(scaled, limit), -limit)
            rounded = fit_grid(narrowed, self.bits, self.symmetric).nearest(narrowed)
            change = rounded - scaled
            error = (torch.einsum("rgi,gij->rgj", change, within) * change).sum(-1, keepdim=True)
            best = torch.where(error < best_error, rounded, best)
            best_error = torch.minimum(error, best_error)
        return best.reshape(rows, columns) / scale


class _Magnitude:
    """The mean of |x| over a linear's inputs, `[in_features]` in float32."""

    def __init__(self) -> None:
        self._sum: Tensor | None = None
        self._count = 0

    def add(self, x: Tensor) -> None:
        rows = x.reshape(-1, x.shape[-1]).float().abs()
        self._sum = rows.sum(0) if self._sum is None else self._sum + rows.sum(0)
        self._count += rows.shape[0]

    def value(self) -> Tensor:
        if self._sum is None:
            raise MeasureError("no calibration token reached this linear")
        # An expert that no token was given to: all alike, as in `SecondMoment`.
        return self._sum / self._count if self._count else torch.ones_like(self._sum)


def _both(first: Tap, second: Tap) -> Tap:
    def tap(x: Tensor) -> None:
        first(x)
        second(x)

    return tap
