"""Quantized files against the 16-bit model that they claim to be made of.

Two figures hold a matrix W and what the files make of it, V.

- The relative error |V − W| / |W| may be some times that of rounding W to nearest on the width and groups of the file.
  GPTQ moves weights on purpose, to make up for the rounding of others: on the shipped tiny models at 2 to 8 bits its
  error was up to 3.2 times as large. A matrix that has nothing to do with W is off by √(|W|² + |V|²) / |W|.
- The mean shift is the mean of (V − W) / step, with the steps of the file's own grid. It is 0 but for what symmetric
  grids cut off at their upper end, −1/(2·group size). It is ±1 where zero points are off by one.

Everything that is not quantized must be what it is in the original.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from qidbayes.measure.decoder.layers import NEARLY_ALL, decoder_layers, stack_linears
from qidbayes.measure.errors import MeasureError
from qidbayes.measure.inputs.language_model import ends, language_model
from qidbayes.measure.prequantized.formats import Grid, Steps, Stored
from qidbayes.measure.prequantized.model import Prequantized
from qidbayes.measure.quantize.grid import round_to_grid

_MARGIN = 8.0  # times the error of rounding to nearest; right files have been seen at 3.2
_UNRELATED = 0.93  # of the error of a matrix that has nothing to do with the original; right files at 2 bits: up to .83
_SHIFT = 0.4  # steps; right files: -.14 to .02
_KEPT = 0.01  # relative error of what is not quantized: bfloat16 is off by .002 on average
_ROUNDS = 3  # of fitting AWQ's scales


@torch.no_grad()
def check_against_original(read: Prequantized, theirs: PreTrainedModel, original: PreTrainedModel) -> None:
    """Hold a quantized checkpoint against its original, matrix by matrix.

    AWQ multiplies a matrix's inputs by scales and divides what comes before it by them, so that files hold other
    matrices than the original's. The scales of inputs and outputs that fit best are then taken out first; what they are
    is not held against anything, and neither are the tensors within the decoder stack that are not quantized. Where a
    format does not say whether that was done (compressed-tensors), it was if the stack's norms are not the original's.

    Parameters
    ----------
    read, theirs
        From `load_prequantized`.
    original
        The 16-bit model, on the same device.

    Raises
    ------
    MeasureError
        If a matrix cannot be the original's, rounded, or something else than the decoder stack was quantized; it names
        the matrix with its relative error and its mean shift.
    """
    linears, others = stack_linears(original), stack_linears(theirs)
    if linears.keys() != others.keys():
        odd = min(linears.keys() ^ others.keys())
        raise MeasureError(f"{odd} is in one of the quantized files and their original only: they are of another model")
    stored = dict(_by_linear(read, theirs))
    _check_what_is_quantized(read, theirs, stored)
    quantized = {f"{name}.weight" for name in stored}
    scaled = read.format.rescaled
    if scaled is None:
        scaled = any(_changes(theirs, original, quantized, within=True))
    for name, one in stored.items():
        _check_matrix(name, linears[name].weight, others[name].weight, one, scaled)
    quantized |= _check_ends(read, theirs, original)
    for name, change in _changes(theirs, original, quantized, within=None if not scaled else False):
        raise MeasureError(
            f"{name}, which is not quantized, differs between the quantized files and their original: relative "
            f"error {change:.3g} (at most {_KEPT}); they are of another checkpoint"
        )


def _check_matrix(name: str, weight: Tensor, rounded: Tensor, stored: Stored, scaled: bool) -> None:
    weight, rounded = weight.float(), rounded.float()
    if weight.shape != rounded.shape:
        raise MeasureError(f"{name} is {_size(rounded)} in the quantized files, {_size(weight)} in their original")
    if scaled:
        weight = _scaled_to(weight, rounded)
    step = stored.steps
    found = compare(weight, rounded, Steps(step.size.to(weight.device), step.group_of.to(weight.device)))
    allowed = allowed_error(weight, rounded, stored.grid)
    if not (found.relative_error <= allowed and abs(found.mean_shift) <= _SHIFT):
        raise MeasureError(
            f"{name} of the quantized files is not the original's, rounded to {stored.grid.bits} bits: relative "
            f"error {found.relative_error:.3g} (at most {allowed:.3g}), mean shift {found.mean_shift:.3g} grid "
            f"steps (at most {_SHIFT}); they are of another checkpoint, or their zero points are off"
        )


def _check_ends(read: Prequantized, theirs: PreTrainedModel, original: PreTrainedModel) -> set[str]:
    """Hold a quantized embedding and head against the original's; returns their names, those of tied ones too."""
    known = dict(original.named_parameters(remove_duplicate=False))
    tensors = dict(theirs.named_parameters(remove_duplicate=False))
    found: set[str] = set()
    for name, stored in read.ends.items():
        rounded = tensors[f"{name}.weight"]
        aliases = {alias for alias, tensor in tensors.items() if tensor is rounded}
        for alias in sorted(aliases & known.keys()):
            _check_matrix(alias.removesuffix(".weight"), known[alias], rounded, stored, scaled=False)
        found |= aliases
    return found


@torch.no_grad()
def put_back_ends(read: Prequantized, theirs: PreTrainedModel, original: PreTrainedModel) -> None:
    """Give the original's embedding and head to a model whose files have them quantized: a row means the stack alone.

    Parameters
    ----------
    read, theirs, original
        As `check_against_original` has accepted them.
    """
    for name in read.ends:
        theirs.get_parameter(f"{name}.weight").copy_(original.get_parameter(f"{name}.weight"))


@dataclass(frozen=True)
class Difference:
    """How a dequantized matrix differs from its original: |V − W| / |W|, and the mean of (V − W) / step."""

    relative_error: float
    mean_shift: float


def compare(weight: Tensor, rounded: Tensor, steps: Steps) -> Difference:
    """Compare two matrices, `[out, in]` in float32.

    Examples
    --------
    >>> weight = torch.tensor([[3.0, 4.0]])
    >>> compare(weight, weight + 0.5, Steps(torch.ones(1, 1), torch.zeros(2, dtype=torch.long)))
    Difference(relative_error=0.1414213478565216, mean_shift=0.5)
    """
    change, step = rounded - weight, steps.of_weights()
    shifts = (change / step)[step != 0].double()
    size = weight.norm().clamp(min=torch.finfo(weight.dtype).tiny)
    return Difference(float(change.norm() / size), float(shifts.mean()) if len(shifts) else 0.0)


def allowed_error(weight: Tensor, rounded: Tensor, kind: Grid) -> float:
    """Return the largest relative error that a right file may have."""
    size = weight.norm()
    if size == 0:
        return 0.0
    group_size = kind.group_size if kind.group_size and weight.shape[1] % kind.group_size == 0 else None
    nearest = (round_to_grid(weight, max(kind.bits, 2), group_size, symmetric=True) - weight).norm() / size
    unrelated = (size.square() + rounded.norm().square()).sqrt() / size
    return float(torch.minimum(_MARGIN * nearest, _UNRELATED * unrelated))


def _scaled_to(weight: Tensor, rounded: Tensor) -> Tensor:
    """Return `a · weight · b` with the scales of outputs and inputs that bring it closest to `rounded`."""
    for _ in range(_ROUNDS):
        for axis in (0, 1):
            size = weight.square().sum(axis, keepdim=True)
            scale = (weight * rounded).sum(axis, keepdim=True) / size
            weight = weight * torch.where(size > 0, scale, 1.0)
    return weight


def _by_linear(read: Prequantized, model: PreTrainedModel) -> Iterator[tuple[str, Stored]]:
    """What is stored by the names of the model's linears; those of multimodal files may begin otherwise."""
    stack, _ = decoder_layers(model)
    for name, linear in stack_linears(model).items():
        tail = f".{stack.rpartition('.')[2]}{name.removeprefix(stack)}"
        alike = [
            module
            for module, stored in read.matrices.items()
            if f".{module}".endswith(tail) and stored.shape == linear.weight.shape
        ]
        found = [m for m in alike if m == name] or [m for m in alike if "language_model" in m or len(alike) == 1]
        if found:
            yield name, read.matrices[found[0]]


def _check_what_is_quantized(read: Prequantized, model: PreTrainedModel, found: Mapping[str, Stored]) -> None:
    """Refuse files of which a part is left alone that rows of other methods have quantized, or the other way round."""
    linears = stack_linears(model)
    left = [name for name in linears if name not in found]
    total = sum(linear.weight.numel() for linear in linears.values())
    quantized = sum(linears[name].weight.numel() for name in found)
    if quantized < NEARLY_ALL * total:
        raise MeasureError(
            f"the quantized files leave {left[0]} as it was ({len(left)} such): {quantized / total:.1%} of the decoder "
            f"stack's weights are quantized, and a row of the table means nearly all ({NEARLY_ALL:.0%})"
        )
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    inside = {id(stored) for stored in found.values()}
    for module, stored in read.matrices.items():
        if id(stored) not in inside and head is not None and stored.shape == head.weight.shape:
            raise MeasureError(f"the quantized files have {module} quantized too: a row means the decoder stack alone")


def _changes(
    theirs: PreTrainedModel, original: PreTrainedModel, quantized: Collection[str], within: bool | None
) -> Iterator[tuple[str, float]]:
    """What is not quantized and differs, with its relative error: within the decoder stack, outside it, or (None) both.

    Raises
    ------
    MeasureError
        If a tensor has another shape in the original.
    """
    known = dict(_tensors(original))
    stack, _ = decoder_layers(theirs)
    for name, tensor in _tensors(theirs):
        if name in quantized or name not in known or within not in (None, name.startswith(f"{stack}.")):
            continue
        ours, kept = known[name].float(), tensor.float()
        if ours.shape != kept.shape:
            raise MeasureError(f"{name} is {_size(kept)} in the quantized files, {_size(ours)} in their original")
        change = float((kept - ours).norm() / ours.norm().clamp(min=torch.finfo(ours.dtype).tiny))
        if not change <= _KEPT:
            yield name, change


def _tensors(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """Parameters and rotary frequencies of the language model by their full names; tied ones by each name."""
    parts = (language_model(model), *ends(model))
    wanted = {id(tensor) for part in parts for tensor in chain(part.parameters(), part.buffers())}
    for name, tensor in chain(model.named_parameters(remove_duplicate=False), model.named_buffers()):
        if id(tensor) in wanted and (isinstance(tensor, nn.Parameter) or name.endswith("inv_freq")):
            yield name, tensor


def _size(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape))
