"""What training and rounding do to one checkpoint's weights, taken in layer by layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from qidbayes.measure.drift.spread import Spread
from qidbayes.measure.errors import MeasureError
from qidbayes.measure.run.sweep import RoundedLayer
from qidbayes.table.drift import ALL, PERCENTILES

type Numbers = dict[str, float | int | None]
"""Of one row: what `DRIFT_COLUMNS` calls them."""


@dataclass
class Matrix:
    """One weight matrix, or all of them, at one checkpoint; lengths are in units of each matrix's scale.

    Attributes
    ----------
    own
        Of the weights themselves, in their own units.
    change
        Since the checkpoint before; nothing in it for the first.
    rounding
        By each quantizer; nothing in it for one that has failed.
    farther
        By each quantizer: the weights that it moves farther than training did.
    output
        By each quantizer: `output_error` times the number of weights; None where the inputs are not known.
    """

    own: Spread
    change: Spread
    rounding: list[Spread]
    farther: list[int]
    output: list[float | None]

    @classmethod
    def empty(cls, quantizers: int) -> "Matrix":
        """Return one that holds nothing yet."""
        return cls(Spread(), Spread(), [Spread() for _ in range(quantizers)], [0] * quantizers, [None] * quantizers)

    def join(self, other: "Matrix") -> None:
        """Take in another matrix."""
        self.own.join(other.own)
        self.change.join(other.change)
        for number, rounding in enumerate(other.rounding):
            self.rounding[number].join(rounding)
            self.farther[number] += other.farther[number]
            more = other.output[number]
            if more is not None:
                self.output[number] = (self.output[number] or 0.0) + more

    def numbers(self, quantizer: int | None) -> Numbers:
        """Return what a row says: of one quantizer, or of training alone."""
        found: Numbers = {"n_weights": self.own.n, "weight_scale": self.own.rms}
        found |= _described("weight_change", self.change)
        if quantizer is None or not self.rounding[quantizer].n:
            return found
        rounding, output = self.rounding[quantizer], self.output[quantizer]
        found |= _described("rounding_error", rounding)
        if self.change.n:
            found["moved_farther"] = self.farther[quantizer] / self.own.n
        if output is not None:
            found["output_error"] = output / self.own.n
            found["curvature"] = output / self.own.n / rounding.rms**2 if rounding.rms else None
        return found


@dataclass
class WeightsSeen:
    """A `Watch` of the sweep: what every matrix of a checkpoint went through.

    Attributes
    ----------
    before
        The weights of the checkpoint before, by the linears' full names, in main memory; None for the first.
    apart
        For each quantizer that the sweep does not know: its weights, likewise. They come after the sweep's own.
    swept
        How many quantizers the sweep has.
    matrices
        What has been seen, by the linears' full names.
    """

    before: Mapping[str, Tensor] | None
    apart: Sequence[Mapping[str, Tensor]]
    swept: int
    matrices: dict[str, Matrix] = field(default_factory=dict)

    def __call__(self, layer: RoundedLayer) -> None:
        """Take in a layer.

        Raises
        ------
        MeasureError
            If a matrix is nothing but zeros, or the checkpoint before has none of its name and shape.
        """
        for short, weight in layer.weights.items():
            name, own = layer.prefix + short, weight.float()
            seen = self.matrices[name] = Matrix.empty(self.swept + len(self.apart))
            seen.own.add(own)
            scale, change = seen.own.rms, None
            if not scale:
                raise MeasureError(f"{name}: all its weights are 0, so no change can be relative to them")
            if self.before is not None:
                then = self.before.get(name)
                if then is None or then.shape != own.shape:
                    raise MeasureError(f"{name}: the checkpoint before has no such matrix")
                change = (own - then.to(own.device).float()).abs() / scale
                seen.change.add(change)
            rounded = [None if of_one is None else of_one[short] for of_one in layer.rounded]
            rounded += [of_one[name].to(own.device) for of_one in self.apart]
            moment = layer.moments.get(short)
            power = None if moment is None else _through(own, moment)
            for number, quantized in enumerate(rounded):
                if quantized is None:
                    continue
                error = quantized.float() - own
                moved = error.abs() / scale
                seen.rounding[number].add(moved)
                if change is not None:
                    seen.farther[number] = int((moved > change).sum())
                if moment is not None and power:
                    seen.output[number] = _through(error, moment) / power * own.numel()

    def rows(self) -> list[tuple[str, Matrix]]:
        """Return all matrices together, and each by its name."""
        whole = Matrix.empty(self.swept + len(self.apart))
        for matrix in self.matrices.values():
            whole.join(matrix)
        return [(ALL, whole), *self.matrices.items()]


def _through(weight: Tensor, moment: Tensor) -> float:
    """The mean square of a linear's outputs, summed over them: tr(W M Wᵀ)."""
    return float(((weight @ moment) * weight).double().sum())


def _described(name: str, spread: Spread) -> Numbers:
    if not spread.n:
        return {}
    found: Numbers = {name: spread.rms}
    return found | {f"{name}_p{p:02d}": spread.percentile(p) for p in PERCENTILES}
