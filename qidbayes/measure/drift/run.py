"""A plan's drift: every checkpoint beside the one before it, then the table. Two are in memory at a time."""

import gc
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from qidbayes.measure.decoder.layers import restoring_weights, stack_linears
from qidbayes.measure.decoder.memory import model_bytes, room
from qidbayes.measure.drift.weights import Matrix, WeightsSeen
from qidbayes.measure.errors import MeasureError, copied, is_panic
from qidbayes.measure.inputs.checkpoint import Tokenizer, fetch, load_model, load_tokenizer
from qidbayes.measure.inputs.fingerprint import versions
from qidbayes.measure.inputs.windows import default_begin
from qidbayes.measure.plan.methods import METHODS, PREQUANTIZED
from qidbayes.measure.plan.plan import Checkpoint, Plan, Quantization, digest
from qidbayes.measure.quantize import Quantizer, quantizer_from_settings
from qidbayes.measure.run.checkpoint_run import check_windows
from qidbayes.measure.run.context import RunContext
from qidbayes.measure.run.outcome import Outcome, finish
from qidbayes.measure.run.progress import Reporter
from qidbayes.measure.run.quiet import quietly
from qidbayes.measure.run.rows import failure_of
from qidbayes.measure.run.sweep import sweep
from qidbayes.measure.storage.drift import DriftStore, quantization_of, run_before
from qidbayes.measure.storage.results import Row, Store
from qidbayes.table.drift import ALL, DRIFT_COLUMNS

type Weights = Mapping[str, Tensor]
"""Of a model's quantized linears, by their full names, in main memory."""


def measure_drift(
    plan: Plan,
    folder: Path | str,
    reporter: Reporter | None = None,
    checkpoints: Sequence[Checkpoint] | None = None,
) -> Outcome:
    """Measure how far training and rounding move the weights of a plan's checkpoints.

    Parameters
    ----------
    plan
        From `load_plan`. Files that others have quantized are left out; evaluation sets are not read.
    folder
        Where the table, `drift.parquet`, grows; it may be the one that the plan's losses are measured in. Killed and
        called again, a run goes on after its last whole checkpoint.
    reporter
        Told what happens.
    checkpoints
        Those of the plan that this run is to measure; all if None.

    Raises
    ------
    InputError
        If a quantizer's settings or a local text cannot be used. What goes wrong later becomes a row.
    """
    run = DriftRun(plan, folder, reporter or Reporter())
    mine = plan.checkpoints if checkpoints is None else checkpoints
    in_turn = sorted(mine, key=lambda c: (c.model, c.tokens))
    held = [checkpoint for checkpoint in in_turn if not run.carry_out(checkpoint)]
    held = [checkpoint for checkpoint in held if not run.carry_out(checkpoint, patient=True)]
    return finish(run.store, plan, mine, versions(), held)


class DriftRun:
    """What it takes to measure a plan's checkpoints one after another in this process.

    Parameters
    ----------
    plan, folder, reporter
        As `measure_drift` takes them.
    """

    def __init__(self, plan: Plan, folder: Path | str, reporter: Reporter) -> None:
        for quantization in plan.quantizations:
            if quantization.method != PREQUANTIZED:
                quantizer_from_settings(quantization.for_quantizer())
        self._context = RunContext(plan, Store(folder), reporter)
        self.store = DriftStore(folder)
        self._last: tuple[Checkpoint, Weights] | None = None
        self._order: list[Quantization] = []

    def carry_out(self, checkpoint: Checkpoint, *, patient: bool = False) -> bool:
        """Measure a checkpoint; returns False if another run holds it."""
        with self.store.claim(checkpoint, patient=patient) as mine:
            if mine:
                try:
                    with quietly():
                        self._measure(checkpoint)
                finally:
                    shutil.rmtree(self._context.store.downloads(checkpoint), ignore_errors=True)
        return mine

    def _measure(self, checkpoint: Checkpoint) -> None:
        context, plan = self._context, self._context.plan
        context.reporter.checkpoint(checkpoint)
        before = run_before(plan, checkpoint)
        asked = [None, *(q for q in plan.quantizations_of(checkpoint) if q.method != PREQUANTIZED)]
        rows: list[Row] = []
        todo, fingerprints, commit = list(asked), dict[Quantization | None, str](), ""
        try:
            commit = context.pins.pin(checkpoint.source, checkpoint.revision)
            fingerprints = self._fingerprints(checkpoint, before, asked, commit)
            stored = self.store.read(checkpoint)
            done = {quantization_of(row): row["fingerprint"] for row in stored if row["status"] == "ok"}
            todo = [q for q in asked if done.get(_named(q)) != fingerprints[q]]
            context.reporter.done(len(asked) - len(todo))
            if not todo:
                return
            then = self._before(before)
            context.reporter.step("loading")
            folder = fetch(checkpoint.source, commit, context.store.downloads(checkpoint))
            model = load_model(folder, checkpoint, plan.dtype, torch.device("cpu"))
            apart = checkpoint.tokenizer
            tokenizer = context.tokenizer(apart) if apart else load_tokenizer(folder)
            found, errors = self._seen(model, tokenizer, [q for q in todo if q], then)
            self._last = checkpoint, _weights(model)
            if before is not None:
                _refuse_a_copy(checkpoint, before, found)
            rows = self._rows(todo, found.rows(), errors)
        except BaseException as error:  # a broken download, a NaN, a bug in a kernel: all of it is a finding
            if not isinstance(error, Exception) and not is_panic(error):
                raise
            rows = [self._row(q, ALL) | failure_of(error) for q in todo]
        of_run: Row = {"commit": commit or None, "version": versions()["qidbayes"]}
        names: dict[tuple[object, ...], str | None] = {_named(q): fingerprints.get(q) for q in todo}
        placed: Row = {"suite": plan.suite, "model": checkpoint.model, "revision": checkpoint.revision}
        self.store.write(
            checkpoint, [row | placed | of_run | {"fingerprint": names[quantization_of(row)]} for row in rows]
        )
        context.reporter.done(len(todo))

    def _fingerprints(
        self, checkpoint: Checkpoint, before: Checkpoint | None, asked: Sequence[Quantization | None], commit: str
    ) -> dict[Quantization | None, str]:
        pins, (texts, *_) = self._context.pins, self._context.plan.evaluation.datasets
        tokenizer = pins.pin(checkpoint.tokenizer, "main") if checkpoint.tokenizer else commit
        earlier = pins.pin(before.source, before.revision) if before else None
        of = self._context.fingerprints.of
        return {q: digest([of(commit, tokenizer, q, None, texts), earlier]) for q in asked}

    def _before(self, checkpoint: Checkpoint | None) -> Weights | None:
        """The weights of the checkpoint before: as they were left there, or read again."""
        if checkpoint is None or (self._last and self._last[0] == checkpoint):
            return self._last[1] if checkpoint and self._last else None
        self._last = None  # no third checkpoint in memory
        gc.collect()
        context = self._context
        context.reporter.step(f"loading {checkpoint.revision}")
        commit = context.pins.pin(checkpoint.source, checkpoint.revision)
        try:
            folder = fetch(checkpoint.source, commit, context.store.downloads(checkpoint))
            model = load_model(folder, checkpoint, context.plan.dtype, torch.device("cpu"))
        finally:
            shutil.rmtree(context.store.downloads(checkpoint), ignore_errors=True)
        return _weights(model)

    def _seen(
        self, model: PreTrainedModel, tokenizer: Tokenizer, asked: Sequence[Quantization], before: Weights | None
    ) -> tuple[WeightsSeen, dict[Quantization, BaseException]]:
        """Return how far each quantizer moves the weights, the sweep's first, and the errors of those that failed."""
        context, device = self._context, self._context.device
        fits = model_bytes(model) <= room(device) // 2
        if fits:
            nn.Module.to(model, device)
        calibration = torch.empty(0, 0, dtype=torch.long)
        if context.plan.calibration:
            begin = context.plan.begin or default_begin(tokenizer.tokenizer, model.config)
            windows = context.calibration_windows(tokenizer, begin)
            check_windows(model, windows, "[calibration]: ")
            calibration = windows[:, :-1].to(device)
        errors: dict[Quantization, BaseException] = {}
        swept: dict[Quantization, Quantizer] = {}
        apart: dict[Quantization, Weights] = {}
        for quantization in asked:
            try:
                quantizer = quantizer_from_settings(quantization.for_quantizer())
                quantizer.check_fit(stack_linears(model))
                if METHODS[quantization.method].swept:
                    swept[quantization] = quantizer
                    continue
                context.reporter.step(str(quantization))
                apart[quantization] = _quantized(model, quantizer, calibration, fits)
            except Exception as error:  # noqa: BLE001 (of this quantization alone; the others go on)
                errors[quantization] = error
        seen = WeightsSeen(before, list(apart.values()), len(swept))
        passed = sweep(model, list(swept.values()), calibration, [], device, context.reporter.step, watch=seen)
        for quantization, variant in zip(swept, passed.variants, strict=True):
            if variant.error:
                errors[quantization] = variant.error
        self._order = [*swept, *apart]
        return seen, errors

    def _rows(
        self,
        todo: Sequence[Quantization | None],
        matrices: Sequence[tuple[str, Matrix]],
        errors: Mapping[Quantization, BaseException],
    ) -> list[Row]:
        rows: list[Row] = []
        for quantization in todo:
            if quantization is not None and quantization in errors:
                rows.append(self._row(quantization, ALL) | failure_of(errors[quantization]))
                continue
            index = None if quantization is None else self._order.index(quantization)
            rows += [
                self._row(quantization, name) | {"status": "ok", **matrix.numbers(index)} for name, matrix in matrices
            ]
        return rows

    def _row(self, quantization: Quantization | None, matrix: str) -> Row:
        method, bits, group_size = _named(quantization)
        empty: Row = dict.fromkeys(DRIFT_COLUMNS)
        named: Row = {"method": method, "bits": bits, "group_size": group_size, "matrix": matrix}
        return empty | named | {"device": self._context.device_name}


def _refuse_a_copy(checkpoint: Checkpoint, before: Checkpoint, found: WeightsSeen) -> None:
    """Hubs have been seen to serve one file for many revisions."""
    if not any(matrix.change.rms for matrix in found.matrices.values()):
        raise MeasureError(copied(checkpoint, before))


def _quantized(model: PreTrainedModel, quantizer: Quantizer, calibration: Tensor, fits: bool) -> Weights:
    """The weights that a quantizer which the sweep does not know makes of a model; the model is left as it is."""
    if not fits:
        raise MeasureError("this needs the whole model on the GPU, which has no room for it")
    with restoring_weights(model):
        quantizer.quantize(model, calibration)
        return _weights(model)


def _named(quantization: Quantization | None) -> tuple[str, float, int | None]:
    if quantization is None:
        return "none", 16.0, None
    return quantization.name, float(quantization.bits), quantization.group_size


def _weights(model: PreTrainedModel) -> dict[str, Tensor]:
    return {name: linear.weight.detach().to("cpu", copy=True) for name, linear in stack_linears(model).items()}
