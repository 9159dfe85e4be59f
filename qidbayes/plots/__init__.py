"""Figures of a fit, one a file but for those that differ in their slice alone (`factors`).

Each is returned as a matplotlib `Figure`; `save` writes it.
"""

from qidbayes.plots.backtest import backtest
from qidbayes.plots.factors import datasets, methods, qid_by_bits, qid_by_size, qid_by_tokens
from qidbayes.plots.loss import loss
from qidbayes.plots.loss_16bit import loss_16bit
from qidbayes.plots.loss_quantized import loss_quantized
from qidbayes.plots.native_low_bit import native_low_bit
from qidbayes.plots.predicted_against_measured import predicted_against_measured
from qidbayes.plots.projection import projection
from qidbayes.plots.qid import qid
from qidbayes.plots.qid_map import qid_map
from qidbayes.plots.save import save
from qidbayes.plots.tokens_by_year import tokens_by_year
from qidbayes.plots.tokens_to_threshold import tokens_to_threshold
from qidbayes.plots.weight_change import weight_change

__all__ = [
    "backtest",
    "datasets",
    "loss",
    "loss_16bit",
    "loss_quantized",
    "methods",
    "native_low_bit",
    "predicted_against_measured",
    "projection",
    "qid",
    "qid_by_bits",
    "qid_by_size",
    "qid_by_tokens",
    "qid_map",
    "save",
    "tokens_by_year",
    "tokens_to_threshold",
    "weight_change",
]
