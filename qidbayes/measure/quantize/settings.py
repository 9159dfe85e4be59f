"""A quantizer from a table of a plan."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, get_type_hints

from qidbayes.errors import InputError
from qidbayes.measure.quantize.awq import AWQ
from qidbayes.measure.quantize.bitsandbytes import BitsAndBytes
from qidbayes.measure.quantize.gptq import GPTQ
from qidbayes.measure.quantize.report import Quantizer
from qidbayes.measure.quantize.rtn import RTN

# By the method's name: its class, and what the name already says.
_METHODS: dict[str, tuple[Any, dict[str, object]]] = {
    "gptq": (GPTQ, {}),
    "awq": (AWQ, {}),
    "rtn": (RTN, {}),
    "bnb-nf4": (BitsAndBytes, {"kind": "nf4"}),
    "bnb-fp4": (BitsAndBytes, {"kind": "fp4"}),
    "bnb-int8": (BitsAndBytes, {"kind": "int8"}),
}
_SAID = {int: "a whole number", float: "a number", bool: "true or false", int | None: 'a whole number or "channel"'}


def quantizer_from_settings(settings: Mapping[str, object]) -> Quantizer:
    """Build a quantizer from `method` and its options, as a plan's TOML table gives them.

    `group_size = "channel"` asks for one group per output channel, which Python writes as None and TOML cannot.

    Raises
    ------
    InputError
        If the method or an option is unknown, missing or of the wrong kind; the message names it and what is accepted.

    Examples
    --------
    >>> quantizer_from_settings({"method": "rtn", "bits": 3, "group_size": "channel"})
    RTN(bits=3, group_size=None, symmetric=True)
    >>> quantizer_from_settings({"method": "bnb-nf4"}).bits
    4
    """
    options = dict(settings)
    method = options.pop("method", None)
    if not isinstance(method, str) or method not in _METHODS:
        raise InputError(f"method = {method!r} is not a quantizer; give one of {', '.join(_METHODS)}")
    cls, implied = _METHODS[method]
    kinds = get_type_hints(cls)
    asked = [f for f in fields(cls) if f.name not in implied]
    for name in options:
        if name not in {f.name for f in asked}:
            raise InputError(f"{method}: no option {name!r}; accepted: {', '.join(f.name for f in asked) or 'none'}")
    for field in asked:
        if field.name not in options and field.default is MISSING:
            raise InputError(f"{method}: the option {field.name!r} is missing; give {_SAID[kinds[field.name]]}")
    return cls(**implied, **{name: _typed(method, name, value, kinds[name]) for name, value in options.items()})  # type: ignore[no-any-return]


def _typed(method: str, name: str, value: object, kind: Any) -> object:
    if kind == int | None and value == "channel":
        return None
    wanted: Any = {float: (int, float), int | None: int}.get(kind, kind)
    # A bool is an int to Python; `bits = true` is a mistake all the same.
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool):
        raise InputError(f"{method}: {name} = {value!r} is not accepted; give {_SAID[kind]}")
    return value
