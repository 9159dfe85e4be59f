"""Round to nearest: every weight to the closest value of its group's grid, with no data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from qidbayes.measure.decoder.layers import stack_linears
from qidbayes.measure.plan.methods import METHODS, check_settings
from qidbayes.measure.quantize.grid import check_groups_fit, round_to_grid, stored_bits
from qidbayes.measure.quantize.report import QuantizationReport, round_all
from qidbayes.measure.quantize.rotation import Rotation

_SETTINGS = METHODS["rtn"].settings


@dataclass(frozen=True)
class RTN:
    """Round to nearest.

    Attributes
    ----------
    bits
        Width of a weight, 2 to 8.
    group_size
        Inputs that share a scale; None for one scale per output channel.
    symmetric
        Whether grids are centred on zero; if not, each group stores a zero point.
    rotate
        Whether inputs are turned by a Hadamard matrix first; see `qidbayes.measure.quantize.rotation`.
    activations
        Whether the inputs of quantized linears are rounded too as the model is evaluated, token by token, in the
        format of the weights; see `qidbayes.measure.quantize.activations`. Calibration sees them as they are.
    """

    method: ClassVar[str] = "rtn"

    bits: int
    group_size: int | None = _SETTINGS["group_size"].default
    symmetric: bool = _SETTINGS["symmetric"].default
    rotate: bool = _SETTINGS["rotate"].default
    activations: bool = _SETTINGS["activations"].default

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self.method, vars(self))

    def check_fit(self, linears: Mapping[str, nn.Linear]) -> None:
        """Refuse linears whose inputs do not divide into groups; see `Quantizer.check_fit`."""
        check_groups_fit(linears, self.group_size)

    @torch.no_grad()
    def quantize(self, model: PreTrainedModel, calibration: Tensor) -> QuantizationReport:  # noqa: ARG002 (needs no data)
        """Round every linear of the decoder stack in place; see `Quantizer.quantize`."""
        linears = stack_linears(model)
        self.check_fit(linears)
        return round_all(self, linears)

    def round_linear(self, linear: nn.Linear) -> tuple[Tensor, int]:
        """Round one linear; see `MatrixQuantizer.round_linear`."""
        weight = linear.weight.detach().float()
        turn = Rotation(linear.in_features) if self.rotate else None
        rounded = round_to_grid(turn.turned(weight) if turn else weight, self.bits, self.group_size, self.symmetric)
        return turn.back(rounded) if turn else rounded, stored_bits(
            [linear], self.bits, self.group_size, self.symmetric
        )
