"""Which format a checkpoint is in, from what its configuration declares."""

from collections.abc import Mapping
from typing import Any, Literal

from qidbayes.errors import InputError
from qidbayes.measure.prequantized.awq import AWQFormat
from qidbayes.measure.prequantized.bitsandbytes import FourBitFormat, Int8Format
from qidbayes.measure.prequantized.formats import Format
from qidbayes.measure.prequantized.gptq import GPTQFormat

_GPTQ_VERSIONS: Mapping[str, Literal[1, 2]] = {"gptq": 1, "gptq_v2": 2}
_AUTO_ROUND = {"auto_round:auto_gptq": "gptq", "auto_round": "gptq_v2", "auto_round:gptqmodel": "gptq_v2"}
_AUTO_ROUND_AWQ = "auto_round:auto_awq"


def format_from_config(config: Mapping[str, Any]) -> Format:
    """Tell the format from a `quantization_config` (or AutoGPTQ's older `quantize_config.json`).

    Raises
    ------
    InputError
        If the method, its packing or a setting is not one that can be read.

    Examples
    --------
    >>> format_from_config({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"})
    FourBitFormat(kind='nf4')
    >>> format_from_config({"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm"})
    AWQFormat(group_size=128, method='awq')
    """
    method = config.get("quant_method", "gptq" if "damp_percent" in config else None)  # the oldest files name no method
    if method == "gptq":
        packing = str(config.get("checkpoint_format") or config.get("format") or "gptq")
        if packing not in _GPTQ_VERSIONS:
            raise InputError(f"checkpoint_format = {packing!r} cannot be read; accepted: {', '.join(_GPTQ_VERSIONS)}")
        return _gptq(config, _GPTQ_VERSIONS[packing], _overrides(config, "dynamic"), method)
    if method in ("auto-round", "intel/auto-round"):
        return _auto_round(config)
    if method == "awq":
        packing = str(config.get("version") or config.get("format") or "gemm").lower()
        if packing != "gemm" or _whole(config, "bits") != 4:
            raise InputError(f"AWQ version = {packing!r}, bits = {config.get('bits')!r}; accepted: gemm with 4 bits")
        return AWQFormat(_group_size(config))
    if method == "bitsandbytes":
        if config.get("load_in_8bit"):
            return Int8Format()
        kind = config.get("bnb_4bit_quant_type")
        if config.get("load_in_4bit") and kind in ("nf4", "fp4"):
            return FourBitFormat(kind)
        raise InputError(f"bnb_4bit_quant_type = {kind!r} cannot be read; accepted: nf4, fp4, or load_in_8bit = true")
    if method == "compressed-tensors":
        from qidbayes.measure.prequantized.compressed import schemes_from_config

        return schemes_from_config(config)
    raise InputError(
        f"quant_method = {method!r} cannot be read; accepted: gptq, awq, bitsandbytes, auto-round, compressed-tensors"
    )


def _gptq(
    config: Mapping[str, Any], version: Literal[1, 2], overrides: list[Mapping[str, Any]], method: str
) -> GPTQFormat:
    shared = {key: config.get(key) for key in ("bits", "group_size")}
    mixed = any({**shared, **settings}[key] != shared[key] for settings in overrides for key in shared)
    symmetric = config.get("sym") is True and all(settings.get("sym", True) is True for settings in overrides)
    return GPTQFormat(_whole(config, "bits"), _group_size(config), version, symmetric, mixed, method)


def _auto_round(config: Mapping[str, Any]) -> Format:
    """AutoRound writes GPTQ's packing, with zero points less one or as they are, and AWQ's."""
    packing = str(config.get("packing_format") or config.get("backend"))
    overrides = _overrides(config, "extra_config")
    if packing == _AUTO_ROUND_AWQ:
        if _whole(config, "bits") != 4 or any(settings.get("bits", 4) not in (4, 16) for settings in overrides):
            raise InputError(f"packing_format = {packing!r} with other widths than 4 bits cannot be read")
        return AWQFormat(_group_size(config), "auto-round")
    if packing not in _AUTO_ROUND:
        accepted = ", ".join((*_AUTO_ROUND, _AUTO_ROUND_AWQ))
        raise InputError(f"packing_format = {packing!r} cannot be read; accepted: {accepted}")
    if config.get("data_type", "int") != "int":
        raise InputError(f"data_type = {config['data_type']!r} cannot be read; accepted: int")
    return _gptq(config, _GPTQ_VERSIONS[_AUTO_ROUND[packing]], overrides, "auto-round")


def _overrides(config: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """The settings that some layers have instead of the others'; which layers, their tensors tell by their shapes."""
    found = config.get(key) or {}
    if not isinstance(found, Mapping):
        raise InputError(f"{key} = {found!r}, expected patterns of layers and their settings")
    settings = {pattern: said for pattern, said in found.items() if not str(pattern).startswith("-:")}  # left alone
    for pattern, said in settings.items():
        if not isinstance(said, Mapping):
            raise InputError(f"{key}: {pattern!r} = {said!r}, expected settings such as {{'bits': 4}}")
    return list(settings.values())


def _whole(config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(f"{key} = {value!r}, expected a whole number")
    return value


def _group_size(config: Mapping[str, Any]) -> int | None:
    size = _whole(config, "group_size")
    if size != -1 and size < 1:
        raise InputError(f"group_size = {size}, expected a positive number, or -1 for one group per output channel")
    return None if size == -1 else size
