"""The catalogue of quantization methods: which there are, what each takes, and what it needs to be measured.

A new method is an entry here and a file in `qidbayes.measure.quantize`. Plans, quantizers, the sweep, the cost model
and the table in docs/quantizers.md go by these entries; nothing here needs torch.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from qidbayes.errors import InputError

CHANNEL = "channel"
"""How TOML, which has no null, says one group per output channel; None in Python."""

PREQUANTIZED = "prequantized"
"""The method of files that somebody else has quantized."""


@dataclass(frozen=True)
class Setting:
    """What one setting of a method may be.

    Attributes
    ----------
    kind
        `bool`, `int` or `float`.
    default
        What it is where nothing is said; `...` if it must be given.
    least, most
        Its bounds, which are accepted themselves.
    above
        A bound that is not accepted itself.
    channel
        Whether None, in TOML "channel", is accepted too.
    """

    kind: type[bool] | type[int] | type[float]
    default: Any = ...
    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    channel: bool = False

    @property
    def accepts(self) -> str:
        """What is accepted, in words.

        Examples
        --------
        >>> METHODS["gptq"].settings["bits"].accepts
        'a whole number from 2 to 8'
        """
        if self.kind is bool:
            return "true or false"
        said = "a whole number" if self.kind is int else "a number"
        if self.above > -math.inf:
            said += f" above {self.above:g} and at most {self.most:g}"
        elif self.most < math.inf:
            said += f" from {self.least:g} to {self.most:g}"
        elif self.least > -math.inf:
            said += f" of at least {self.least:g}"
        return f'{said}, or "{CHANNEL}" (None in Python) for one group per output channel' if self.channel else said

    def takes(self, value: object) -> bool:
        """Whether a value is accepted, as Python writes it."""
        if value is None:
            return self.channel
        # A bool is an int to Python; `bits = true` is a mistake all the same.
        if isinstance(value, bool) or self.kind is bool:
            return isinstance(value, bool) and self.kind is bool
        numbers = int if self.kind is int else (int, float)
        return isinstance(value, numbers) and self.least <= value <= self.most and value > self.above


@dataclass(frozen=True)
class Method:
    """One quantization method.

    Attributes
    ----------
    settings
        What it takes, by name.
    module, quantizer
        The file of `qidbayes.measure.quantize` that holds it, and the class there; empty for files that somebody else
        has quantized.
    given
        What the class is given besides the settings.
    fixed
        The width and the group size of a format that has one of each; None for a method that takes both.
    calibrated
        Whether it needs text to quantize with.
    swept
        Whether the sweep (`qidbayes.measure.run.sweep`) can measure it beside others in one pass. What is swept and
        needs text is GPTQ's kind: it is solved from the second moments of its inputs.
    """

    settings: Mapping[str, Setting]
    module: str = ""
    quantizer: str = ""
    given: Mapping[str, object] = field(default_factory=dict)
    fixed: tuple[int, int | None] | None = None
    calibrated: bool = False
    swept: bool = False


_GROUP_SIZE = Setting(int, 128, least=1, channel=True)
_UNIFORM = {"bits": Setting(int, least=2, most=8), "group_size": _GROUP_SIZE}  # of uniform integer grids
_NESTED = {"nested": Setting(bool, False)}
_INPUTS = {"rotate": Setting(bool, False), "activations": Setting(bool, False)}
_GPTQ = {
    "act_order": Setting(bool, False),
    "static_groups": Setting(bool, False),
    "damping": Setting(float, 0.01, above=0, most=1),
    "true_sequential": Setting(bool, True),
    "block_size": Setting(int, 128, least=1),
    **_INPUTS,
}
_FLOATS: Mapping[str, tuple[int, int | None]] = {
    "fp8": (8, None),
    "fp8-tensor": (8, None),
    "fp8-block": (8, 128),
    "mxfp4": (4, 32),
    "mxfp6": (6, 32),
    "mxfp6-e3m2": (6, 32),
    "nvfp4": (4, 16),
}
"""Width and group size of floating-point formats; `qidbayes.measure.quantize.float_grid` has the rest of them."""

METHODS: Mapping[str, Method] = {
    "gptq": Method(
        _UNIFORM | {"symmetric": Setting(bool, True)} | _GPTQ,
        "gptq",
        "GPTQ",
        calibrated=True,
        swept=True,
    ),
    "awq": Method(
        _UNIFORM
        | {"symmetric": Setting(bool, False), "clip": Setting(bool, True), "batch_size": Setting(int, 8, least=1)},
        "awq",
        "AWQ",
        calibrated=True,
    ),
    "rtn": Method(_UNIFORM | {"symmetric": Setting(bool, True)} | _INPUTS, "rtn", "RTN", swept=True),
    "hqq": Method({"bits": Setting(int, least=1, most=8), "group_size": _GROUP_SIZE}, "hqq", "HQQ", swept=True),
    **{kind: Method(_INPUTS, "floats", "Floats", {"kind": kind}, fixed, swept=True) for kind, fixed in _FLOATS.items()},
    **{
        f"gptq-{kind}": Method(_GPTQ, "gptq", "GPTQFloats", {"kind": kind}, fixed, calibrated=True, swept=True)
        for kind, fixed in _FLOATS.items()
    },
    "bnb-nf4": Method(_NESTED, "bitsandbytes", "BitsAndBytes", {"kind": "nf4"}, fixed=(4, 64), swept=True),
    "bnb-fp4": Method(_NESTED, "bitsandbytes", "BitsAndBytes", {"kind": "fp4"}, fixed=(4, 64), swept=True),
    "bnb-int8": Method({}, "bitsandbytes", "BitsAndBytes", {"kind": "int8"}, fixed=(8, None), swept=True),
    PREQUANTIZED: Method({"bits": Setting(int, least=1, most=32), "group_size": _GROUP_SIZE}),
}


def check_settings(method: str, values: Mapping[str, object]) -> None:
    """Refuse settings that a method does not take.

    Parameters
    ----------
    method
        Its name.
    values
        Settings by name, as Python writes them; those that are left out have their defaults.

    Raises
    ------
    InputError
        Naming the method, the setting and what is accepted.

    Examples
    --------
    >>> check_settings("gptq", {"bits": 4, "damping": 0})
    Traceback (most recent call last):
    ...
    qidbayes.errors.InputError: gptq: damping = 0 is not accepted; give a number above 0 and at most 1
    """
    settings = METHODS[method].settings
    for name, value in values.items():
        if name not in settings:
            raise InputError(f"{method}: no option {name!r}; accepted: {', '.join(settings) or 'none'}")
        if not settings[name].takes(value):
            raise InputError(f"{method}: {name} = {value!r} is not accepted; give {settings[name].accepts}")
