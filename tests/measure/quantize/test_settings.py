import pytest

from qidbayes.errors import InputError
from qidbayes.measure.quantize import AWQ, GPTQ, RTN, BitsAndBytes, Quantizer, quantizer_from_settings


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"method": "gptq", "bits": 4}, GPTQ(4)),
        (
            {"method": "gptq", "bits": 2, "group_size": 64, "symmetric": False, "act_order": True, "damping": 0.05},
            GPTQ(2, 64, symmetric=False, act_order=True, damping=0.05),
        ),
        ({"method": "gptq", "bits": 3, "damping": 1}, GPTQ(3, damping=1)),
        ({"method": "rtn", "bits": 8, "group_size": "channel"}, RTN(8, None)),
        ({"method": "awq", "bits": 4, "clip": False}, AWQ(4, clip=False)),
        ({"method": "bnb-nf4"}, BitsAndBytes("nf4")),
        ({"method": "bnb-fp4", "nested": True}, BitsAndBytes("fp4", nested=True)),
        ({"method": "bnb-int8"}, BitsAndBytes("int8")),
    ],
)
def test_settings_become_a_quantizer(settings: dict[str, object], expected: Quantizer) -> None:
    quantizer = quantizer_from_settings(settings)
    assert quantizer == expected
    assert quantizer.method == settings["method"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"method = None is not a quantizer; give one of gptq, awq, rtn, hqq, fp8, .*, gptq-nvfp4, bnb-nf4"),
        ({"method": "quip"}, "'quip' is not a quantizer"),
        ({"method": ["gptq"]}, "is not a quantizer"),
        ({"method": "gptq"}, "gptq: the option 'bits' is missing; give a whole number"),
        ({"method": "gptq", "bits": "4"}, "bits = '4' is not accepted; give a whole number"),
        ({"method": "gptq", "bits": True}, "bits = True is not accepted"),
        ({"method": "gptq", "bits": 4.0}, "bits = 4.0 is not accepted"),
        ({"method": "rtn", "bits": 1}, "bits = 1 is not accepted; give a whole number from 2 to 8"),
        ({"method": "rtn", "bits": 16}, "from 2 to 8"),
        ({"method": "rtn", "bits": 4, "group_size": 0}, "group_size = 0 is not accepted"),
        ({"method": "rtn", "bits": 4, "group_size": "row"}, 'a whole number of at least 1, or "channel"'),
        ({"method": "rtn", "bits": 4, "damping": 0.1}, "no option 'damping'; accepted: bits, group_size, symmetric"),
        ({"method": "awq", "bits": 4, "symmetric": 1}, "give true or false"),
        ({"method": "awq", "bits": 4, "batch_size": 0}, "batch_size"),
        ({"method": "nvfp4", "group_size": 32}, "no option 'group_size'; accepted: rotate"),
        ({"method": "bnb-nf4", "bits": 4}, "no option 'bits'; accepted: nested"),
        ({"method": "bnb-int8", "nested": True}, "no option 'nested'; accepted: none"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        quantizer_from_settings(settings)


def test_an_unknown_kind_of_bitsandbytes_is_named() -> None:
    with pytest.raises(InputError, match="int8 has no blocks"):
        BitsAndBytes("int8", nested=True)
    with pytest.raises(InputError, match="give nf4, fp4 or int8"):
        BitsAndBytes("int4")  # type: ignore[arg-type]
