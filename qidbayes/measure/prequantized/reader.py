"""Read a quantized checkpoint into plain 16- or 32-bit weights. Safetensors and GGUF only: pickles run code."""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from qidbayes.errors import InputError
from qidbayes.measure.prequantized.detect import format_from_config
from qidbayes.measure.prequantized.formats import Format, Stored
from qidbayes.measure.prequantized.model import Prequantized, assemble

_INDEX = "model.safetensors.index.json"


def read_prequantized(path: str | PathLike[str], dtype: torch.dtype = torch.float16) -> Prequantized:
    """Read quantized files of any of these formats and dequantize them.

    AutoGPTQ's and GPTQModel's (GPTQ v1 and v2), AutoAWQ's (gemm), AutoRound's, bitsandbytes', compressed-tensors' (as
    llmcompressor writes them), and GGUF.

    Parameters
    ----------
    path
        A GGUF file, a folder with one and no safetensors, or a folder with `config.json`, whose `quantization_config`
        says what the safetensors beside it are (or AutoGPTQ's `quantize_config.json`).
    dtype
        What floating-point tensors are returned in.

    Raises
    ------
    InputError
        If it is not such a checkpoint, or a tensor is missing or malformed; it names file and tensor.
    MeasureError
        If a GGUF file holds tensors that its architecture does not use.
    """
    path = Path(path)
    file = gguf_file(path)
    if file is not None:
        from qidbayes.measure.prequantized.gguf import read_gguf

        return _quantized(read_gguf(file, dtype), file)
    return _read_folder(path, dtype)


def _quantized(read: Prequantized, file: Path) -> Prequantized:
    if not read.matrices:
        raise InputError(f"{file}: none of its matrices is quantized")
    return read


def gguf_file(path: Path) -> Path | None:
    """Return the GGUF file that a path is or holds; None if its weights are safetensors.

    Raises
    ------
    InputError
        If a folder holds several and no safetensors.
    """
    if not path.is_dir():
        return path if path.suffix == ".gguf" else None
    found = sorted(path.glob("*.gguf"))
    if not found or any(path.glob("*.safetensors")):
        return None
    if len(found) > 1:
        raise InputError(f"{path}: has {len(found)} GGUF files; name one of them with file, such as {found[0].name}")
    return found[0]


def _read_folder(folder: Path, dtype: torch.dtype) -> Prequantized:
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
        matrices: dict[str, Stored] = {}
        for module, names in modules.items():
            parts = {part: load(name) for part, name in names.items()}
            try:
                one = kind.of_linear(parts)
                weight = one.dequantize(parts)
            except InputError as error:
                raise InputError(f"{where[names[kind.marker]]}: {module}.{error}") from error
            kept = [part for name, part in parts.items() if name not in kind.runtime]
            size = sum(8 * part.numel() * part.element_size() for part in kept)
            matrices[module] = Stored(one, (weight.shape[0], weight.shape[1]), size, one.steps(parts))
            weights[f"{module}.weight"] = weight.to(dtype)
        taken = {name for names in modules.values() for name in names.values()}
        for name in where.keys() - taken:
            if name.rpartition(".")[2] not in kind.runtime:
                tensor = load(name)
                weights[name] = tensor.to(dtype) if tensor.is_floating_point() else tensor
    return Prequantized(matrices, weights)


def load_prequantized(
    path: str | PathLike[str], dtype: torch.dtype = torch.float16, original: PreTrainedConfig | None = None
) -> tuple[PreTrainedModel, Prequantized]:
    """Read a quantized checkpoint into a plain model of its architecture.

    Parameters
    ----------
    path, dtype
        As `read_prequantized` takes them.
    original
        The configuration of what was quantized. GGUF's metadata lack some of its settings, so its own are then used;
        other files have a configuration beside them.

    Raises
    ------
    InputError
        As `read_prequantized`, and if the architecture is unknown or its weights are not all in the files.
    MeasureError
        If the files hold weights that the architecture does not use.
    """
    path = Path(path)
    file = gguf_file(path)
    if file is not None:
        from qidbayes.measure.prequantized.gguf import load_gguf

        model, read = load_gguf(file, dtype, original)
        return model, _quantized(read, file)
    read = read_prequantized(path, dtype)
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: config.json cannot be used ({error})") from error
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    return assemble(str(path), config, read.weights, dtype), read


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
