"""Whether a quantizer can do anything with a model, asked before any of it is changed."""

from transformers import PreTrainedModel

from qidbayes.measure.decoder.layers import stack_linears
from qidbayes.measure.quantize.bitsandbytes import BitsAndBytes, library
from qidbayes.measure.quantize.grid import check_groups_fit
from qidbayes.measure.quantize.report import Quantizer


def check_fit(quantizer: Quantizer, model: PreTrainedModel) -> None:
    """Refuse what `quantizer.quantize(model, …)` would.

    Raises
    ------
    InputError
        If the model's stack holds matrices that are not linears, a row does not divide into the quantizer's groups, or
        a library that it needs is not installed.
    """
    linears = stack_linears(model)
    if isinstance(quantizer, BitsAndBytes):
        library(quantizer.method)  # its blocks run on across rows, so that every size fits
    else:
        check_groups_fit(linears, quantizer.group_size)
