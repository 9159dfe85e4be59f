"""What every quantizer is and what it answers with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor, nn
from transformers import PreTrainedModel

from qidbayes.measure.inputs.experts import expert_of


@dataclass(frozen=True)
class QuantizationReport:
    """How quantizing one model went.

    Attributes
    ----------
    method, bits, group_size
        The quantizer's own.
    bits_per_weight
        Stored bits over quantized weights: codes, float16 scales, zero points and whatever else dequantizing needs.
    n_weights
        Quantized weights: those of the decoder stack's linears. Embeddings, norms, biases and heads stay as they are.
    expert_tokens
        Experts' linears and the calibration tokens that each has seen; none where the method needs no data.
    too_few
        Experts that have seen fewer tokens than one of their linears has inputs, and how many.
    """

    method: str
    bits: float
    group_size: int | None
    bits_per_weight: float
    n_weights: int
    expert_tokens: Mapping[str, int] = field(default_factory=dict)
    too_few: Mapping[str, int] = field(default_factory=dict)

    @property
    def columns(self) -> dict[str, float | None]:
        """What the table has of it."""
        found: dict[str, float | None] = {"bits_per_weight": self.bits_per_weight}
        if self.expert_tokens:
            found["expert_tokens"] = min(self.expert_tokens.values())
            found["experts_undersampled"] = len(self.too_few)
        return found


class Quantizer(Protocol):
    """A quantization method with its settings; every one is a frozen dataclass."""

    @property
    def method(self) -> str:
        """Its name in `qidbayes.measure.plan.methods.METHODS`."""

    @property
    def bits(self) -> float:
        """Nominal width of a weight, in bits."""

    @property
    def group_size(self) -> int | None:
        """Weights that share a scale along the input dimension; None where a whole output channel does."""

    def check_fit(self, linears: Mapping[str, nn.Linear]) -> None:
        """Refuse what `quantize` would, before anything is changed.

        Parameters
        ----------
        linears
            Of the decoder stack, by name (`qidbayes.measure.decoder.layers.stack_linears`).

        Raises
        ------
        InputError
            If the settings do not fit them (groups that do not divide a row, say), or a library is not installed.
        """

    def quantize(self, model: PreTrainedModel, calibration: Tensor) -> QuantizationReport:
        """Replace the weights of the decoder stack's linears by their dequantized values, in place.

        Parameters
        ----------
        model
            Any decoder of transformers, on any device, with float32, bfloat16 or float16 weights.
        calibration
            `[n, length]` token ids. Methods that need no data ignore them.

        Raises
        ------
        InputError
            If the settings do not fit the model; nothing has been changed then.
        MeasureError
            If the numbers do not allow it (activations that are not finite, say). The model is then half quantized:
            put its weights back (`qidbayes.measure.decoder.layers.restoring_weights`) before using it again.
        """


def too_few(linears: Mapping[str, nn.Linear], expert_tokens: Mapping[str, int]) -> dict[str, int]:
    """Return what `QuantizationReport` calls so.

    Parameters
    ----------
    linears
        By name.
    expert_tokens
        As `QuantizationReport` has it.
    """
    return {expert_of(name): n for name, n in expert_tokens.items() if n < linears[name].in_features}
