"""Round to nearest: every weight to the closest value of its group's grid, with no data."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from qidbayes.measure.plan.methods import METHODS, check_settings
from qidbayes.measure.quantize.grid import round_to_grid, stored_bits
from qidbayes.measure.quantize.matrix import MatrixQuantizer
from qidbayes.measure.quantize.rotation import round_turned

_SETTINGS = METHODS["rtn"].settings


@dataclass(frozen=True)
class RTN(MatrixQuantizer):
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

    def round_linear(self, linear: nn.Linear) -> tuple[Tensor, int]:
        """See `MatrixQuantizer.round_linear`."""
        weight = linear.weight.detach().float()
        settings = self.bits, self.group_size, self.symmetric
        rounded = round_turned(weight, self.rotate, lambda turned: round_to_grid(turned, *settings))
        return rounded, stored_bits([linear], *settings)
