"""Quantized checkpoints that people already have, read into plain weights. One file a format."""

from qidbayes.measure.prequantized.detect import format_from_config
from qidbayes.measure.prequantized.model import Prequantized
from qidbayes.measure.prequantized.original import check_against_original, put_back_ends
from qidbayes.measure.prequantized.reader import load_prequantized, read_prequantized

__all__ = [
    "Prequantized",
    "check_against_original",
    "format_from_config",
    "load_prequantized",
    "put_back_ends",
    "read_prequantized",
]
