"""Quantizers: real methods, simulated in memory. One file a method, all behind `Quantizer`."""

from qidbayes.measure.quantize.awq import AWQ
from qidbayes.measure.quantize.bitsandbytes import BitsAndBytes
from qidbayes.measure.quantize.floats import Floats
from qidbayes.measure.quantize.gptq import GPTQ, GPTQFloats
from qidbayes.measure.quantize.hqq import HQQ
from qidbayes.measure.quantize.report import QuantizationReport, Quantizer
from qidbayes.measure.quantize.rtn import RTN
from qidbayes.measure.quantize.settings import quantizer_from_settings

__all__ = [
    "AWQ",
    "GPTQ",
    "HQQ",
    "RTN",
    "BitsAndBytes",
    "Floats",
    "GPTQFloats",
    "QuantizationReport",
    "Quantizer",
    "quantizer_from_settings",
]
