"""compressed-tensors, as llmcompressor and others write them: dequantized by that library, linear by linear."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from qidbayes.errors import InputError
from qidbayes.measure.prequantized.formats import Steps
from qidbayes.measure.prequantized.packing import require

if TYPE_CHECKING:
    from compressed_tensors.quantization import QuantizationScheme

_FLOATS = (torch.float16, torch.bfloat16, torch.float32)
_MX = ("mxfp4-pack-quantized", "mxfp6-pack-quantized", "mxfp8-quantized")  # scales are exponents in bytes
_WHOLE = ("int-quantized", "float-quantized", "naive-quantized", "mxfp8-quantized")  # a weight is an element
_ACCEPTED = (*_WHOLE, "pack-quantized", "nvfp4-pack-quantized", *_MX[:2])


@dataclass(frozen=True)
class SchemeFormat:
    """What one of a checkpoint's schemes makes of a linear.

    Attributes
    ----------
    packing
        How weights are stored, by the library's word.
    type
        `int` or `float`.
    bits
        Width of a weight.
    strategy
        What shares a scale: `tensor`, `channel`, `group`, `tensor_group` or `block`.
    group_size
        Inputs that share a scale; None for all of a row.
    rows
        Outputs that share a scale, of blocks; else 1.
    symmetric
        Whether there are no zero points.
    says
        The scheme as the configuration has it, for the library.
    """

    method: ClassVar[str] = "compressed-tensors"
    rescaled: ClassVar[None] = None  # AWQ and SmoothQuant do, and nothing tells
    marker: ClassVar[str] = "weight_scale"
    runtime: ClassVar[frozenset[str]] = frozenset(
        f"{what}_{said}"
        for what in ("input", "output", "k", "v", "q")
        for said in ("scale", "zero_point", "global_scale")
    )
    parts: ClassVar[frozenset[str]] = runtime | {
        "weight", "weight_packed", "weight_scale", "weight_shape", "weight_zero_point", "weight_global_scale",
        "weight_g_idx",
    }  # fmt: skip

    packing: str
    type: str
    bits: int
    strategy: str
    group_size: int | None
    rows: int
    symmetric: bool
    says: str

    def of_linear(self, parts: Mapping[str, Tensor]) -> "SchemeFormat":  # noqa: ARG002 (of the protocol)
        """Every linear of this scheme has it."""
        return self

    def dequantize(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Dequantize one linear; see `Format.dequantize`."""
        from compressed_tensors.compressors import BaseCompressor
        from compressed_tensors.quantization import QuantizationScheme

        said = {name: tensor for name, tensor in parts.items() if name not in self.runtime}
        shape = self._check(said)
        if self.packing not in _MX and said["weight_scale"].dtype in _FLOATS:
            # The library's weights are of the scales' type: in float32 they are what is stored, not rounded again.
            said["weight_scale"] = said["weight_scale"].float()
        scheme = QuantizationScheme.model_validate_json(self.says)
        try:
            compressor = BaseCompressor.get_value_from_registry(self.packing)
            weight: Tensor = compressor.decompress(said, scheme)["weight"].float()
        except Exception as error:  # it says what does not fit by whatever its checks happen to raise
            raise InputError(f"{self.marker}: compressed-tensors cannot decompress it ({error})") from error
        if weight.shape != shape:
            raise InputError(f"{self.marker} gives a weight of shape {list(weight.shape)}, expected {list(shape)}")
        return weight

    def _check(self, parts: Mapping[str, Tensor]) -> tuple[int, int]:
        """Check the tensors' types and shapes; returns `[out, in]`."""
        if "weight_g_idx" in parts:
            raise InputError("weight_g_idx: groups by activation order are no longer read by compressed-tensors")
        if self.packing in _WHOLE:
            dtypes = (torch.int8,) if self.type == "int" else (torch.float8_e4m3fn,)
            n_out, n_in = require(parts, "weight", (None, None), *dtypes).shape
        elif self.packing == "pack-quantized":
            packed = require(parts, "weight_packed", (None, None), torch.int32)
            n_out, n_in = map(int, require(parts, "weight_shape", (2,), torch.int64, torch.int32).tolist())
            if packed.shape != (n_out, -(-n_in * self.bits // 32)):
                raise InputError(f"weight_shape says [{n_out}, {n_in}], weight_packed is {list(packed.shape)}")
        else:
            packed = require(parts, "weight_packed", (None, None), torch.uint8)
            n_out, n_in = packed.shape[0], packed.shape[1] * 8 // self.bits
        if not n_out or not n_in:
            raise InputError(f"weight has the shape [{n_out}, {n_in}]")
        groups = self._scales(n_out, n_in)
        kinds = (torch.uint8,) if self.packing in _MX else (*_FLOATS, torch.float8_e4m3fn)
        scale = parts["weight_scale"]
        if not (self.strategy == "tensor" and scale.numel() == 1):
            require(parts, "weight_scale", groups, *kinds)
        if self.strategy == "tensor_group":
            require(parts, "weight_global_scale", (1,), torch.float32)
        if not self.symmetric:
            packed_zeros = self.packing == "pack-quantized" and self.strategy in ("group", "channel")
            rows = -(-groups[0] * self.bits // 32) if packed_zeros else groups[0]
            zeros = require(parts, "weight_zero_point", (None, None), torch.int32, torch.int8)
            if zeros.shape != (rows, groups[1]) and self.strategy != "tensor":
                raise InputError(f"weight_zero_point has shape {list(zeros.shape)}, expected [{rows}, {groups[1]}]")
        return n_out, n_in

    def _scales(self, n_out: int, n_in: int) -> tuple[int, int]:
        if self.strategy == "block":
            return math.ceil(n_out / self.rows), math.ceil(n_in / (self.group_size or n_in))
        if self.group_size and n_in % self.group_size:
            raise InputError(f"weight has {n_in} inputs, which groups of {self.group_size} do not divide")
        return n_out, n_in // (self.group_size or n_in)

    def steps(self, parts: Mapping[str, Tensor]) -> Steps:
        """The linear's grid steps, told from its values; see `Format.steps`."""
        return Steps.of_values(self.dequantize(parts), self.bits, self.group_size)


@dataclass(frozen=True)
class CompressedFormat:
    """A checkpoint's schemes. Which of them a linear has, its tensors tell: the first one that they fit.

    The configuration says it by patterns of names. Those are not needed, and a pattern can take for ever to match.
    """

    method: ClassVar[str] = SchemeFormat.method
    rescaled: ClassVar[None] = None
    marker: ClassVar[str] = SchemeFormat.marker
    runtime: ClassVar[frozenset[str]] = SchemeFormat.runtime
    parts: ClassVar[frozenset[str]] = SchemeFormat.parts

    schemes: tuple[SchemeFormat, ...]

    @property
    def bits(self) -> int:
        """The first scheme's width."""
        return self.schemes[0].bits

    @property
    def group_size(self) -> int | None:
        """The first scheme's."""
        return self.schemes[0].group_size

    def of_linear(self, parts: Mapping[str, Tensor]) -> SchemeFormat:
        """Return the scheme that a linear's tensors fit."""
        why: list[str] = []
        fits: list[SchemeFormat] = []
        for scheme in self.schemes:
            try:
                scheme._check({name: tensor for name, tensor in parts.items() if name not in self.runtime})
            except InputError as error:
                why.append(str(error))
            else:
                fits.append(scheme)
        if not fits:
            raise InputError(why[0])
        if len({(one.packing, one.type, one.bits, one.strategy, one.symmetric) for one in fits}) > 1:
            raise InputError(f"{self.marker} fits {len(fits)} schemes of config_groups, which differ")
        return fits[0]

    def dequantize(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Dequantize one linear; see `Format.dequantize`."""
        return self.of_linear(parts).dequantize(parts)

    def steps(self, parts: Mapping[str, Tensor]) -> Steps:
        """The linear's grid steps; see `Format.steps`."""
        return self.of_linear(parts).steps(parts)


def schemes_from_config(config: Mapping[str, Any]) -> CompressedFormat:
    """Read the schemes of a `quantization_config` whose method is compressed-tensors.

    Raises
    ------
    InputError
        If the library is missing or does not know the configuration, or weights are transformed or sparse as well.
    """
    try:
        from compressed_tensors.compressors.format import infer_module_format
        from compressed_tensors.quantization import QuantizationConfig, QuantizationScheme
    except ImportError as error:
        raise InputError(
            f"reading compressed-tensors needs a package ({error}); pip install 'qidbayes[measure]'"
        ) from error
    for key in ("transform_config", "sparsity_config"):
        if config.get(key):
            raise InputError(f"{key} = {str(config[key])[:80]} cannot be read; only plain quantization is")
    try:
        read = QuantizationConfig.model_validate(dict(config))
        schemes = [scheme for scheme in read.config_groups.values() if isinstance(scheme, QuantizationScheme)]
        named = [
            (
                str(
                    getattr(scheme.format, "value", scheme.format)
                    or (read.format if read.format in _ACCEPTED else infer_module_format(torch.nn.Linear, scheme).value)
                ),
                scheme,
            )
            for scheme in schemes
            if scheme.weights is not None
        ]
    except Exception as error:  # pydantic's and the library's own, of several classes
        raise InputError(f"compressed-tensors does not know this quantization_config ({error})") from error
    if not named:
        raise InputError("config_groups quantize no weights")
    return CompressedFormat(tuple(_scheme(packing, scheme) for packing, scheme in named))


def _scheme(packing: str, scheme: "QuantizationScheme") -> SchemeFormat:
    weights = scheme.weights
    assert weights is not None
    if packing not in _ACCEPTED:
        raise InputError(f"format = {packing!r} cannot be read; accepted: {', '.join(_ACCEPTED)}")
    strategy, kind = str(weights.strategy), str(weights.type)
    if strategy not in ("tensor", "channel", "group", "tensor_group", "block"):
        raise InputError(f"strategy = {strategy!r} of weights cannot be read")
    widths = {"nvfp4-pack-quantized": (4,), _MX[0]: (4,), _MX[1]: (6,), _MX[2]: (8,)}
    accepted = widths.get(packing, tuple(range(1, 9)) if kind == "int" else (8,))
    if weights.num_bits not in accepted:
        raise InputError(f"num_bits = {weights.num_bits} of {packing} cannot be read; accepted: {accepted}")
    rows, columns = weights.block_structure or (1, None)
    group_size = columns or (weights.group_size if weights.group_size and weights.group_size > 0 else None)
    said = scheme.model_dump_json()
    return SchemeFormat(packing, kind, weights.num_bits, strategy, group_size, rows, bool(weights.symmetric), said)
