"""Figures of a fit, one a file. Each is returned as a matplotlib `Figure`; `save` writes it."""

from qidbayes.plots.backtest import backtest
from qidbayes.plots.loss_16bit import loss_16bit
from qidbayes.plots.projection import projection
from qidbayes.plots.qid import qid
from qidbayes.plots.save import save
from qidbayes.plots.tokens_to_threshold import tokens_to_threshold

__all__ = ["backtest", "loss_16bit", "projection", "qid", "save", "tokens_to_threshold"]
