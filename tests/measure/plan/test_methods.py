"""The catalogue of methods against the quantizers themselves and the table in the documentation."""

import re
from dataclasses import MISSING, fields
from importlib import import_module
from pathlib import Path

import pytest

from qidbayes.measure.plan.methods import METHODS, PREQUANTIZED, Setting
from qidbayes.measure.quantize import quantizer_from_settings
from qidbayes.measure.quantize.gptq import GPTQKind
from qidbayes.measure.quantize.matrix import MatrixQuantizer

ROOT = Path(__file__).parents[3]
QUANTIZERS = sorted(set(METHODS) - {PREQUANTIZED})


@pytest.mark.parametrize("name", QUANTIZERS)
def test_an_entry_is_its_quantizers(name: str) -> None:
    method = METHODS[name]
    made = getattr(import_module(f"qidbayes.measure.quantize.{method.module}"), method.quantizer)
    taken = {f.name: f.default for f in fields(made) if f.name not in method.given}
    if name == "bnb-int8":  # which has no blocks to nest; the class refuses it
        assert taken.pop("nested") is False
    assert {option: ... if value is MISSING else value for option, value in taken.items()} == {
        option: setting.default for option, setting in method.settings.items()
    }
    quantizer = quantizer_from_settings({"method": name, **({} if method.fixed else {"bits": 4})})
    assert quantizer.method == name
    assert (quantizer.bits, quantizer.group_size) == (method.fixed or (4, 128))
    # What the sweep moves past a layer it rounds matrix by matrix, or solves as GPTQ.
    assert method.swept == (isinstance(quantizer, MatrixQuantizer | GPTQKind))


def test_the_documentation_has_every_method_with_its_settings_and_defaults() -> None:
    rows = re.findall(
        r"^\| (`[^|]*) \|[^|]*\| ([^|]*) \| (yes|no) \|$", (ROOT / "docs/quantizers.md").read_text(), re.M
    )
    said = {
        name: (dict(re.findall(r"`(\w+)` \(([^,)]*)", settings)), calibrated == "yes")
        for names, settings, calibrated in rows
        for name in re.findall(r"`([^`]+)`", names)
    }
    assert said == {
        name: (
            {
                option: str(setting.default).lower()
                for option, setting in METHODS[name].settings.items()
                if option not in ("bits", "group_size")
            },
            METHODS[name].calibrated,
        )
        for name in QUANTIZERS
    }


@pytest.mark.parametrize(
    ("setting", "good", "bad"),
    [
        (Setting(bool, False), [True, False], [0, 1, "true", None]),
        (Setting(int, least=2, most=8), [2, 8], [1, 9, 2.0, True, "2", None]),
        (Setting(int, least=1, channel=True), [1, 2**40, None], [0, -1, "channel"]),
        (Setting(float, above=0, most=1), [1, 0.01, 1.0], [0, 0.0, 1.01, float("nan"), float("inf"), True, "1"]),
    ],
)
def test_what_a_setting_takes(setting: Setting, good: list[object], bad: list[object]) -> None:
    assert [setting.takes(value) for value in good + bad] == [True] * len(good) + [False] * len(bad)
