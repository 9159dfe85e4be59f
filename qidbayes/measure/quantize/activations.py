"""Inputs of quantized linears, rounded as the model is evaluated: W8A8 and W4A4."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from qidbayes.measure.quantize.float_grid import FORMATS, FloatScales
from qidbayes.measure.quantize.grid import round_to_grid
from qidbayes.measure.quantize.rotation import round_turned


@runtime_checkable
class RoundsInputs(Protocol):
    """A quantizer that may round inputs in the format of its weights."""

    @property
    def activations(self) -> bool:
        """Whether it does."""

    @property
    def rotate(self) -> bool:
        """Whether inputs are turned first."""

    @property
    def bits(self) -> float:
        """Width of a weight, and of an input."""


@contextmanager
def rounding_inputs(quantizer: object, linears: Iterable[nn.Linear]) -> Iterator[None]:
    """Have linears see rounded inputs within this context, if the quantizer rounds any.

    Parameters
    ----------
    quantizer
        Its `activations` say whether.
    linears
        Those that it has quantized.
    """
    if not (isinstance(quantizer, RoundsInputs) and quantizer.activations):
        yield
        return

    def hook(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (_rounded(quantizer, args[0]), *args[1:])

    with ExitStack() as stack:
        for linear in linears:
            stack.callback(linear.register_forward_pre_hook(hook).remove)
        yield


def _rounded(quantizer: RoundsInputs, x: Tensor) -> Tensor:
    rows = x.reshape(-1, x.shape[-1]).float()
    kind, bits = getattr(quantizer, "kind", None), int(quantizer.bits)
    rounded = round_turned(rows, quantizer.rotate, lambda turned: round_tokens(turned, kind, bits))
    return rounded.to(x.dtype).reshape(x.shape)


def round_tokens(rows: Tensor, kind: str | None, bits: int) -> Tensor:
    """Round inputs `[tokens, in]`, each token with scales of its own.

    Parameters
    ----------
    rows
        In float32.
    kind
        The format: integers of `bits` with one scale a token if None; `fp8` and `fp8-tensor` have one as well,
        `fp8-block` one for each 128 inputs, MX and NVFP4 one for each group, NVFP4's second level being a token's.

    Examples
    --------
    >>> import torch
    >>> round_tokens(torch.tensor([[1.0, -0.26, 0.1]]), None, bits=2)
    tensor([[0.6667, 0.0000, 0.0000]])
    """
    if kind is None:
        return round_to_grid(rows, bits, None, symmetric=True)
    form = FORMATS[kind]
    if form.scale in ("tensor", "block"):
        form = replace(form, scale="row")
    columns = rows.shape[1]
    size = form.group_size or columns
    padded = nn.functional.pad(rows, (0, -columns % size))
    grouped = padded.reshape(len(rows), padded.shape[1] // size, size)  # also without tokens
    grid = FloatScales(form, rows, None).fit(grouped)
    return grid.nearest(grouped).flatten(1)[:, :columns]
