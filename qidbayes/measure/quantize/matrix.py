"""What methods that round each matrix by itself, with no data, have in common."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from qidbayes.measure.decoder.layers import stack_linears
from qidbayes.measure.quantize.grid import check_groups_fit
from qidbayes.measure.quantize.report import QuantizationReport


class MatrixQuantizer:
    """A `Quantizer` that needs no data: what one of them does is `round_linear`."""

    if TYPE_CHECKING:  # fields of one kind, and properties of another

        @property
        def method(self) -> str:
            """Its name in `METHODS`."""

        @property
        def bits(self) -> int:
            """Width of a weight."""

        @property
        def group_size(self) -> int | None:
            """Weights that share a scale along the input dimension; None where a whole row does."""

    def round_linear(self, linear: nn.Linear) -> tuple[Tensor, int]:
        """Return a linear's weight, rounded, and the bits that it is stored in. The linear is left as it is."""
        raise NotImplementedError

    def check_fit(self, linears: Mapping[str, nn.Linear]) -> None:
        """Refuse linears whose inputs do not divide into groups; see `Quantizer.check_fit`."""
        check_groups_fit(linears, self.group_size)

    @torch.no_grad()
    def quantize(self, model: PreTrainedModel, calibration: Tensor) -> QuantizationReport:  # noqa: ARG002 (needs no data)
        """Round every linear of the decoder stack in place; see `Quantizer.quantize`."""
        linears = stack_linears(model)
        self.check_fit(linears)
        stored = 0
        for linear in linears.values():
            rounded, bits = self.round_linear(linear)
            linear.weight.copy_(rounded)
            stored += bits
        return self.report(linears, stored)

    def report(self, linears: Mapping[str, nn.Linear], stored: int) -> QuantizationReport:
        """Say how quantizing these linears went, which are stored in so many bits."""
        n_weights = sum(linear.weight.numel() for linear in linears.values())
        return QuantizationReport(self.method, self.bits, self.group_size, stored / n_weights, n_weights)
