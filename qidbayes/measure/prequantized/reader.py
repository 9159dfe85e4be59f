"""Read a quantized checkpoint's folder into plain 16- or 32-bit weights. Safetensors only: pickles run code."""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import AutoConfig, PreTrainedModel

from qidbayes.errors import InputError
from qidbayes.measure.inputs.language_model import auto_class
from qidbayes.measure.inputs.unused import refuse_unused
from qidbayes.measure.prequantized.detect import format_from_config
from qidbayes.measure.prequantized.formats import Format, Steps

_INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Prequantized:
    """A quantized checkpoint, dequantized.

    Attributes
    ----------
    format
        What it was stored as.
    bits_per_weight
        Bits of the quantized linears' tensors, as stored, over the weights they stand for.
    n_weights
        Quantized weights.
    weights
        A state dict for the 16-bit architecture.
    steps
        By the name of each quantized linear: how far apart the values of its grid are.
    """

    format: Format
    bits_per_weight: float
    n_weights: int
    weights: dict[str, Tensor]
    steps: dict[str, Steps]


def read_prequantized(folder: str | PathLike[str], dtype: torch.dtype = torch.float16) -> Prequantized:
    """Read AutoGPTQ, GPTQModel (GPTQ v1 and v2), AutoAWQ (gemm) or bitsandbytes files and dequantize them.

    Parameters
    ----------
    folder
        Holds `config.json` with a `quantization_config` (or AutoGPTQ's `quantize_config.json`) and safetensors.
    dtype
        What floating-point tensors are returned in.

    Raises
    ------
    InputError
        If the folder is not such a checkpoint, or a tensor is missing or malformed; it names file and tensor.
    """
    folder = Path(folder)
    kind = _read_format(folder)
    with ExitStack() as stack:
        files = {path: stack.enter_context(_open(path)) for path in _safetensors(folder)}
        where = {name: path for path, file in files.items() for name in file.keys()}  # noqa: SIM118 (not a dict)

        def load(name: str) -> Tensor:
            try:
                tensor: Tensor = files[where[name]].get_tensor(name)
            except SafetensorError as error:
                raise InputError(f"{where[name]}: {name} cannot be read ({error})") from error
            return tensor

        modules = dict(_quantized_modules(where, kind))
        if not modules:
            raise InputError(f"{folder}: no tensor is called …{kind.marker}, which {kind.method} files are made of")
        weights: dict[str, Tensor] = {}
        steps: dict[str, Steps] = {}
        stored = n_weights = 0
        for module, names in modules.items():
            parts = {part: load(name) for part, name in names.items()}
            try:
                weight = kind.dequantize(parts)
            except InputError as error:
                raise InputError(f"{where[names[kind.marker]]}: {module}.{error}") from error
            stored += sum(8 * part.numel() * part.element_size() for part in parts.values())
            n_weights += weight.numel()
            weights[f"{module}.weight"] = weight.to(dtype)
            steps[module] = kind.steps(parts)
        taken = {name for names in modules.values() for name in names.values()}
        for name in where.keys() - taken:
            tensor = load(name)
            weights[name] = tensor.to(dtype) if tensor.is_floating_point() else tensor
    return Prequantized(kind, stored / n_weights, n_weights, weights, steps)


def load_prequantized(
    folder: str | PathLike[str], dtype: torch.dtype = torch.float16
) -> tuple[PreTrainedModel, Prequantized]:
    """Read a quantized checkpoint into a plain model of its architecture; see `read_prequantized`.

    Raises
    ------
    InputError
        As `read_prequantized`, and if the architecture is unknown or its weights are not all in the files.
    MeasureError
        If the files hold weights that the architecture does not use.
    """
    read = read_prequantized(folder, dtype)
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: config.json cannot be used ({error})") from error
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    # The class itself takes a state dict, and renames what older checkpoints call otherwise.
    try:
        with torch.device("meta"):
            architecture = type(auto_class(config).from_config(config))
        model, info = architecture.from_pretrained(
            None, config=config, state_dict=dict(read.weights), dtype=dtype, output_loading_info=True
        )
    except Exception as error:  # it says what does not fit by whatever its checks happen to raise
        raise InputError(f"{folder}: no model can be made of these files ({error})") from error
    lacking = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if lacking:
        raise InputError(f"{folder}: {lacking[0]} is missing ({len(lacking)} tensors of {type(model).__name__} are)")
    refuse_unused(str(folder), info["unexpected_keys"], read.weights.get)
    return model.eval(), read


def _read_format(folder: Path) -> Format:
    for path, key in ((folder / "config.json", "quantization_config"), (folder / "quantize_config.json", None)):
        if not path.is_file():
            continue
        content = _read_json(path)
        declared = content if key is None else content.get(key)
        if isinstance(declared, Mapping):
            try:
                return format_from_config(declared)
            except InputError as error:
                raise InputError(f"{path}: {error}") from error
    raise InputError(f"{folder}: no quantization_config in config.json and no quantize_config.json")


def _safetensors(folder: Path) -> list[Path]:
    index = folder / _INDEX
    if index.is_file():
        shards = _read_json(index).get("weight_map")
        if not isinstance(shards, Mapping):
            raise InputError(f"{index}: no weight_map")
        names = sorted({str(shard) for shard in shards.values()})
        outside = [name for name in names if Path(name).name != name]
        if outside:
            raise InputError(f"{index}: {outside[0]!r} is not the name of a file beside it")
        return [folder / name for name in names]
    found = sorted(folder.glob("*.safetensors"))
    if len(found) != 1:
        said = "has no safetensors (pickled weights are not read)" if not found else "has several and no index"
        raise InputError(f"{folder}: {said}; expected one .safetensors file or {_INDEX}")
    return found


def _open(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({error})") from error


def _quantized_modules(names: Mapping[str, Path], kind: Format) -> Iterator[tuple[str, dict[str, str]]]:
    """Each quantized linear, with the full names of its tensors by part."""
    for name in sorted(names):
        if name.endswith(f".{kind.marker}"):
            module = name.removesuffix(f".{kind.marker}")
            full = {part: f"{module}.{part}" for part in kind.parts}
            yield module, {part: name for part, name in full.items() if name in names}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable JSON ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds {type(content).__name__}, expected a JSON object")
    return content
