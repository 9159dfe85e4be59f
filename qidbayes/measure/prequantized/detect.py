"""Which format a checkpoint is in, from what its configuration declares."""

from collections.abc import Mapping
from typing import Any, Literal

from qidbayes.errors import InputError
from qidbayes.measure.prequantized.awq import AWQFormat
from qidbayes.measure.prequantized.bitsandbytes import FourBitFormat, Int8Format
from qidbayes.measure.prequantized.formats import Format
from qidbayes.measure.prequantized.gptq import GPTQFormat

_GPTQ_VERSIONS = {"gptq": 1, "gptq_v2": 2}


def format_from_config(config: Mapping[str, Any]) -> Format:
    """Tell the format from a `quantization_config` (or AutoGPTQ's older `quantize_config.json`).

    Raises
    ------
    InputError
        If the method, its packing or a setting is not one that can be read.

    Examples
    --------
    >>> format_from_config({"quant_method": "gptq", "bits": 4, "group_size": 128})
    GPTQFormat(bits=4, group_size=128, version=1, symmetric=False)
    >>> format_from_config({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"})
    FourBitFormat(kind='nf4')
    """
    method = config.get("quant_method", "gptq" if "damp_percent" in config else None)  # the oldest files name no method
    if method == "gptq":
        packing = config.get("checkpoint_format") or config.get("format") or "gptq"
        if packing not in _GPTQ_VERSIONS:
            raise InputError(f"checkpoint_format = {packing!r} cannot be read; accepted: {', '.join(_GPTQ_VERSIONS)}")
        _refuse_mixed(config)
        version: Literal[1, 2] = 1 if packing == "gptq" else 2
        return GPTQFormat(_whole(config, "bits"), _group_size(config), version, config.get("sym") is True)
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
    raise InputError(f"quant_method = {method!r} cannot be read; accepted: gptq, awq, bitsandbytes")


def _refuse_mixed(config: Mapping[str, Any]) -> None:
    """Refuse GPTQModel's `dynamic` where it gives some layers another format: one row of a table has one width."""
    dynamic = config.get("dynamic") or {}
    if not isinstance(dynamic, Mapping):
        raise InputError(f"dynamic = {dynamic!r}, expected patterns of layers and their settings")
    for pattern, settings in dynamic.items():
        if str(pattern).startswith("-:"):
            continue  # layers that were left alone
        if not isinstance(settings, Mapping):
            raise InputError(f"dynamic: {pattern!r} = {settings!r}, expected settings such as {{'bits': 4}}")
        for key in ("bits", "group_size"):
            if settings.get(key, config.get(key)) != config.get(key):
                raise InputError(
                    f"dynamic gives the layers {pattern!r} {key} = {settings[key]!r} where the others have "
                    f"{config.get(key)!r}; only files with one width and one group size can be read"
                )


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
