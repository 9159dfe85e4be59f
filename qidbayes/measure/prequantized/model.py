"""What was read of a quantized checkpoint, and the plain model that it makes."""

from collections import Counter
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from qidbayes.errors import InputError
from qidbayes.measure.inputs.language_model import auto_class
from qidbayes.measure.inputs.unused import refuse_unused
from qidbayes.measure.prequantized.formats import Grid, Stored


@dataclass(frozen=True)
class Prequantized:
    """A quantized checkpoint, dequantized.

    Attributes
    ----------
    matrices
        How each quantized linear is stored, by its name.
    weights
        A state dict for the 16-bit architecture.
    ends
        How the embedding and the head are stored, where a format quantizes them as well (GGUF).
    """

    matrices: dict[str, Stored]
    weights: dict[str, Tensor]
    ends: dict[str, Stored] = field(default_factory=dict)

    @property
    def format(self) -> Grid:
        """What most of the quantized weights were rounded to; files may mix widths."""
        count: Counter[Grid] = Counter()
        for one in self.matrices.values():
            count[one.grid] += one.n_weights
        return count.most_common(1)[0][0]

    @property
    def n_weights(self) -> int:
        """Quantized weights, embedding and head left out."""
        return sum(one.n_weights for one in self.matrices.values())

    @property
    def bits_per_weight(self) -> float:
        """Bits of the quantized linears' tensors, as stored, over the weights they stand for."""
        return sum(one.size for one in self.matrices.values()) / self.n_weights


def assemble(whose: str, config: PreTrainedConfig, weights: dict[str, Tensor], dtype: torch.dtype) -> PreTrainedModel:
    """Make the model that a configuration describes, of a state dict.

    Raises
    ------
    InputError
        If the architecture is unknown, or not all of its weights are there.
    MeasureError
        If there are weights that it does not use.
    """
    # The class itself takes a state dict, and renames what older checkpoints call otherwise.
    try:
        with torch.device("meta"):
            architecture = type(auto_class(config).from_config(config))
        model, info = architecture.from_pretrained(
            None, config=config, state_dict=dict(weights), dtype=dtype, output_loading_info=True
        )
    except Exception as error:  # it says what does not fit by whatever its checks happen to raise
        raise InputError(f"{whose}: no model can be made of these files ({error})") from error
    lacking = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if lacking:
        raise InputError(f"{whose}: {lacking[0]} is missing ({len(lacking)} tensors of {type(model).__name__} are)")
    refuse_unused(whose, info["unexpected_keys"], weights.get)
    made: PreTrainedModel = model.eval()
    return made
