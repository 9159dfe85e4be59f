"""Floating-point formats (FP8, MXFP4, MXFP6, NVFP4): every weight to the nearest value of its grid, with no data."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from qidbayes.errors import InputError
from qidbayes.measure.quantize.float_grid import FORMATS, FloatFormat, FloatScales
from qidbayes.measure.quantize.grid import check_groups_fit
from qidbayes.measure.quantize.matrix import MatrixQuantizer
from qidbayes.measure.quantize.rotation import round_turned


@dataclass(frozen=True)
class Floats(MatrixQuantizer):
    """Round to nearest on a floating-point format's grid.

    Attributes
    ----------
    kind
        `fp8` (E4M3, a scale for each output channel), `fp8-tensor`, `fp8-block` (128 × 128), `mxfp4`, `mxfp6` (E2M3),
        `mxfp6-e3m2` or `nvfp4`; see `qidbayes.measure.quantize.float_grid.FORMATS`.
    rotate
        Whether inputs are turned by a Hadamard matrix first; see `qidbayes.measure.quantize.rotation`.
    activations
        Whether the inputs of quantized linears are rounded too as the model is evaluated, token by token, in the
        format of the weights; see `qidbayes.measure.quantize.activations`. Calibration sees them as they are.
    """

    kind: str
    rotate: bool = False
    activations: bool = False

    def __post_init__(self) -> None:
        """Check the format."""
        format_of(self.kind)

    @property
    def method(self) -> str:
        """The format's name."""
        return self.kind

    @property
    def bits(self) -> int:
        """4, 6 or 8."""
        return format_of(self.kind).element.bits

    @property
    def group_size(self) -> int | None:
        """Weights that share a scale along the input dimension; None where a whole row does."""
        return format_of(self.kind).group_size

    def check_fit(self, linears: Mapping[str, nn.Linear]) -> None:
        """Refuse linears whose inputs do not divide into groups; see `Quantizer.check_fit`."""
        check_format_fits(self.kind, linears)

    def round_linear(self, linear: nn.Linear) -> tuple[Tensor, int]:
        """See `MatrixQuantizer.round_linear`."""
        weight = linear.weight.detach().float()
        rounded = round_turned(weight, self.rotate, lambda turned: round_to_format(turned, self.kind))
        return rounded, format_of(self.kind).stored_bits(linear.out_features, linear.in_features)


def round_to_format(weight: Tensor, kind: str) -> Tensor:
    """Round a `[out, in]` matrix to a format's grid, worked out in its own type: float32, as a rule.

    Examples
    --------
    >>> import torch
    >>> round_to_format(torch.tensor([[6.0, 2.4, 0.3, -0.1] * 8]), "mxfp4")[0, :4]
    tensor([6.0000, 2.0000, 0.5000, -0.0000])
    """
    form = format_of(kind)
    rows, columns = weight.shape
    size = form.group_size or columns
    grouped = nn.functional.pad(weight, (0, -columns % size)).reshape(rows, -1, size)
    grid = FloatScales(form, weight, [rows]).fit(grouped)
    return grid.nearest(grouped).reshape(rows, -1)[:, :columns]


def format_of(kind: str) -> FloatFormat:
    """Return a format by its name.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    if kind not in FORMATS:
        raise InputError(f"format {kind!r} is not known; give one of {', '.join(FORMATS)}")
    return FORMATS[kind]


def check_format_fits(kind: str, linears: Mapping[str, nn.Linear]) -> None:
    """Raise InputError for the first linear that does not divide into groups; blocks of a matrix may end early."""
    form = format_of(kind)
    if form.scale != "block":
        check_groups_fit(linears, form.group_size)
