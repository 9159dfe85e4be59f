"""A quantizer from a table of a plan."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from qidbayes.errors import InputError
from qidbayes.measure.plan.methods import CHANNEL, METHODS, check_settings
from qidbayes.measure.quantize.report import Quantizer


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
    RTN(bits=3, group_size=None, symmetric=True, rotate=False, activations=False)
    >>> quantizer_from_settings({"method": "bnb-nf4"}).bits
    4
    """
    options = dict(settings)
    name = options.pop("method", None)
    method = METHODS.get(name) if isinstance(name, str) else None
    if method is None or not method.quantizer:
        known = ", ".join(name for name, method in METHODS.items() if method.quantizer)
        raise InputError(f"method = {name!r} is not a quantizer; give one of {known}")
    assert isinstance(name, str)
    options |= {
        option: None
        for option, setting in method.settings.items()
        if setting.channel and options.get(option) == CHANNEL
    }
    check_settings(name, options)
    for option, setting in method.settings.items():
        if option not in options and setting.default is ...:
            raise InputError(f"{name}: the option {option!r} is missing; give {setting.accepts}")
    made: Any = getattr(import_module(f"qidbayes.measure.quantize.{method.module}"), method.quantizer)
    quantizer: Quantizer = made(**method.given, **options)
    return quantizer
