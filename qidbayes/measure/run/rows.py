"""The rows that a checkpoint gives: what was measured, and what went wrong."""

import math
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from qidbayes.measure.decoder.compare import Compared
from qidbayes.measure.decoder.evaluate import paired_difference
from qidbayes.measure.errors import is_panic
from qidbayes.measure.inputs.fingerprint import versions
from qidbayes.measure.inputs.windows import Windows
from qidbayes.measure.plan.plan import Checkpoint, Quantization, TextSet
from qidbayes.measure.run.context import RunContext
from qidbayes.measure.storage.results import Row, cell_of, labels

_ERROR_LENGTH = 500  # characters of an error that a row keeps


@dataclass(frozen=True)
class Cell:
    """A row to be: one quantization, or None for 16 bits, on one set."""

    quantization: Quantization | None
    texts: TextSet


@dataclass(frozen=True)
class Baseline:
    """One set's windows, the bytes of text that they predict, and what the 16-bit model loses on them."""

    windows: Windows
    n_bytes: int
    losses: Tensor

    @property
    def n_tokens(self) -> int:
        """Tokens that the windows predict."""
        return self.tokens_of(len(self.windows.tokens))

    def tokens_of(self, windows: int) -> int:
        """Return the tokens that so many windows predict."""
        return windows * (self.windows.tokens.shape[1] - 1)

    def per_byte(self, loss: float) -> float | None:
        """Return a loss in nats/token as nats/byte; None where the tokens stand for no text."""
        return loss * self.n_tokens / self.n_bytes if self.n_bytes else None


class CheckpointRows:
    """A checkpoint's rows as they come about.

    Parameters
    ----------
    context, checkpoint
        The run's, and whose rows they are.

    Attributes
    ----------
    commit, weights, active
        What the checkpoint was pinned to, the digest of its weights and the parameters that one token uses, once they
        are known.
    fingerprints
        Of each cell, once it is known.
    made
        The rows so far.
    """

    def __init__(self, context: RunContext, checkpoint: Checkpoint) -> None:
        self._context, self._checkpoint = context, checkpoint
        self.commit = ""
        self.weights: str | None = None
        self.active: int | None = None
        self.fingerprints: dict[Cell, str] = {}
        self.made: list[Row] = []

    def unsettled(self, cells: Sequence[Cell]) -> list[Cell]:
        """Return the cells that have no row yet."""
        settled = {cell_of(row) for row in self.made}
        return [cell for cell in cells if cell_of(self.of(cell)) not in settled]

    def of(self, cell: Cell) -> Row:
        """Return what a cell's row says that is not measured."""
        quantization, version = cell.quantization, versions()["qidbayes"]
        method, bits, group_size, settings = quantization.cell if quantization else ("none", 16.0, None, "")
        return {
            **labels(self._context.plan, self._checkpoint, version, self.commit, quantization),
            "method": method,
            "bits": bits,
            "group_size": group_size,
            "settings": settings,
            "bits_activation": _bits_activation(quantization),
            "dataset": cell.texts.name,
            "seq_len": self._context.plan.evaluation.seq_len,
            "device": self._context.device_name,
            "commit": self.commit or None,
            "version": version,
            "n_params_active": self.active,
            "weights": self.weights,
            "fingerprint": self.fingerprints.get(cell),
            "asked": self._context.fingerprints.asked(self._checkpoint, quantization, cell.texts),
        }

    def keep_quantized(
        self, cell: Cell, baseline: Baseline, orders: Sequence[Compared], **values: float | None
    ) -> None:
        """Add the row of a quantized model, paired with the 16-bit one window by window.

        Of several orders of calibration the means count, and their spread is the quantizer's own error. Where fewer
        windows were evaluated than in 16 bits, QiD is the difference on those. The loss is that of the 16-bit model on
        all, and QiD: so the losses of a checkpoint can be compared, however many windows each has seen.
        """
        found = Compared.mean(orders)
        difference = paired_difference(found.losses, baseline.losses[: len(found.losses)])
        kld, agreement = (paired_difference(x, torch.zeros_like(x)) for x in (found.kld, found.top_agreement))
        loss = float(baseline.losses.mean()) + difference.mean
        self.keep(
            cell,
            baseline,
            n_eval_tokens=baseline.tokens_of(len(found.losses)),
            loss=loss,
            qid=difference.mean,
            qid_se=difference.standard_error,
            qid_se_quantizer=_error_between([float(some.losses.mean()) for some in orders]),
            kld=kld.mean,
            kld_se=kld.standard_error,
            kld_se_quantizer=_error_between([float(some.kld.mean()) for some in orders]),
            top_agreement=agreement.mean,
            top_agreement_se=agreement.standard_error,
            nats_per_byte=baseline.per_byte(loss),
            peak_memory_gib=torch.cuda.max_memory_allocated() / 2**30 if self._context.device.type == "cuda" else None,
            **values,
        )

    def keep(self, cell: Cell, baseline: Baseline, **values: float | None) -> None:
        """Add a row of what was measured."""
        windows, loss = baseline.windows, float(baseline.losses.mean())
        measured: Row = {
            "status": "ok",
            "n_eval_tokens": baseline.n_tokens,
            "loss_16bit": loss,
            "nats_per_byte_16bit": baseline.per_byte(loss),
            "windows_hash": windows.hash,
            "per_reference_token": windows.per_reference_token,
        }
        self.made.append(self.of(cell) | measured | values)
        self._context.reporter.done(1)

    @contextmanager
    def failing(self, cells: Sequence[Cell]) -> Iterator[None]:
        """Whatever goes wrong in the block becomes the rows of the cells that have none yet; the run goes on."""
        try:
            yield
        except BaseException as error:  # a broken download, a NaN, a bug in a kernel: all of it is a finding
            if not isinstance(error, Exception) and not is_panic(error):
                raise
            failure = failure_of(error)
            settled = {cell_of(row) for row in self.made}
            rows = [row for row in map(self.of, cells) if cell_of(row) not in settled]
            self.made += [row | failure for row in rows]
            self._context.reporter.done(len(rows))


def failure_of(error: BaseException) -> Row:
    """Return what a row says of what went wrong; after a want of memory, what the GPU's cache holds is let go."""
    out_of_memory = isinstance(error, MemoryError | torch.OutOfMemoryError)
    if out_of_memory and torch.cuda.is_available():
        torch.cuda.empty_cache()
    told = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return {"status": "out-of-memory" if out_of_memory else "failed", "error": told[:_ERROR_LENGTH]}


def _bits_activation(quantization: Quantization | None) -> float | None:
    asked = quantization is not None and dict(quantization.settings).get("activations", False)
    return float(quantization.bits) if quantization and asked else None


def _error_between(values: Sequence[float]) -> float | None:
    """The standard error of the mean of several runs of a quantizer; None of one, which tells nothing of it."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
