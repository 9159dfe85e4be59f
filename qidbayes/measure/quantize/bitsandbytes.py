"""The formats of bitsandbytes: NF4 and FP4 in blocks, int8 by rows. Its own kernels do the rounding."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from qidbayes.errors import InputError
from qidbayes.measure.plan.methods import METHODS
from qidbayes.measure.quantize.matrix import MatrixQuantizer

if TYPE_CHECKING:
    from bitsandbytes.functional import QuantState


@dataclass(frozen=True)
class BitsAndBytes(MatrixQuantizer):
    """A format of bitsandbytes.

    For `int8` only the weights are rounded (row by row, by the largest magnitude). The library's int8 kernel rounds
    activations too, outliers apart; that part is arithmetic, not the model's storage, and is left out here.

    Attributes
    ----------
    kind
        `nf4` (QLoRA's normal-float), `fp4` or `int8`.
    nested
        Whether the blocks' scales are themselves stored in 8 bits ("double quantization"); for nf4 and fp4.
    """

    kind: Literal["nf4", "fp4", "int8"]
    nested: bool = False

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.kind not in ("nf4", "fp4", "int8"):
            raise InputError(f"bitsandbytes: kind = {self.kind!r} is not accepted; give nf4, fp4 or int8")
        if self.nested and self.kind == "int8":
            raise InputError("bitsandbytes: nested = true is for nf4 and fp4; int8 has no blocks")

    @property
    def method(self) -> str:
        """`bnb-nf4`, `bnb-fp4` or `bnb-int8`."""
        return f"bnb-{self.kind}"

    @property
    def bits(self) -> int:
        """4, or 8 for int8."""
        return self._fixed[0]

    @property
    def group_size(self) -> int | None:
        """64: consecutive weights in a block; None for int8, whose scale is a row's."""
        return self._fixed[1]

    @property
    def _fixed(self) -> tuple[int, int | None]:
        fixed = METHODS[self.method].fixed
        assert fixed is not None
        return fixed

    def check_fit(self, linears: Mapping[str, nn.Linear]) -> None:  # noqa: ARG002 (blocks run on across rows: all fit)
        """Refuse to go on without the library; see `Quantizer.check_fit`."""
        library(self.method)

    def round_linear(self, linear: nn.Linear) -> tuple[Tensor, int]:
        """See `MatrixQuantizer.round_linear`."""
        bnb = library(self.method)
        weight = linear.weight.detach()
        if self.kind == "int8":
            # The library rounds float16 only, which is also what it does to a bfloat16 model on loading.
            codes, row_scale, _ = bnb.int8_vectorwise_quant(weight.half())
            return bnb.int8_vectorwise_dequant(codes, row_scale), 8 * codes.numel() + _bits(row_scale)
        # As one row: blocks run on across rows, but the library's CPU kernel (0.50.2) dequantizes rows whose length is
        # no multiple of the block wrongly (relative error .25 where .09 is right).
        packed, state = bnb.quantize_4bit(
            weight.reshape(1, -1), blocksize=self.group_size, quant_type=self.kind, compress_statistics=self.nested
        )
        return bnb.dequantize_4bit(packed, state).view_as(weight), 4 * weight.numel() + _scale_bits(state)


def library(method: str) -> Any:
    """Return bitsandbytes, whose import takes seconds.

    Raises
    ------
    InputError
        If it is not installed.
    """
    try:
        import bitsandbytes.functional as bnb
    except ImportError as error:
        raise InputError(f"{method} needs bitsandbytes; install qidbayes[measure]") from error
    return bnb


def _bits(tensor: Tensor) -> int:
    return 8 * tensor.numel() * tensor.element_size()


def _scale_bits(state: "QuantState") -> int:
    if not state.nested:
        return _bits(state.absmax)
    return _bits(state.absmax) + _bits(state.state2.absmax) + _bits(state.offset)
