"""One checkpoint's work: load once, sweep what can be, the rest one by one on the same windows; a failure is a row."""

import shutil
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from qidbayes.errors import InputError
from qidbayes.measure.decoder.batches import in_order
from qidbayes.measure.decoder.blocks import going_on, in_blocks, in_random_order
from qidbayes.measure.decoder.compare import Compared, Reference, compare_windows
from qidbayes.measure.decoder.evaluate import check_finite, window_losses
from qidbayes.measure.decoder.layers import restoring_weights, stack_linears
from qidbayes.measure.decoder.memory import model_bytes, room
from qidbayes.measure.decoder.probe import check_stack
from qidbayes.measure.errors import MeasureError, copied
from qidbayes.measure.inputs.active import active_parameters
from qidbayes.measure.inputs.checkpoint import Tokenizer, fetch, load_model, load_tokenizer, weights_digest
from qidbayes.measure.inputs.experts import expert_of
from qidbayes.measure.inputs.windows import Windows, default_begin
from qidbayes.measure.plan.methods import METHODS, PREQUANTIZED
from qidbayes.measure.plan.plan import Checkpoint, Quantization, TextSet
from qidbayes.measure.prequantized import Prequantized, check_against_original, load_prequantized, put_back_ends
from qidbayes.measure.quantize import QuantizationReport, Quantizer, quantizer_from_settings
from qidbayes.measure.quantize.activations import rounding_inputs
from qidbayes.measure.run.context import RunContext
from qidbayes.measure.run.quiet import quietly
from qidbayes.measure.run.rows import Baseline, Cell, CheckpointRows
from qidbayes.measure.run.sweep import sweep
from qidbayes.measure.storage.results import Row, cell_of
from qidbayes.methods import OF_FILES

_BITS_APART = 0.05  # of a GGUF file's bits a weight, as a share: QiD halves with half a bit more


def measure_checkpoint(context: RunContext, checkpoint: Checkpoint) -> None:
    """Bring a checkpoint's rows in the store up to the plan; the caller holds the claim on it."""
    stored = {cell_of(row): row for row in context.store.read(checkpoint)}
    run = CheckpointRun(context, checkpoint, stored)
    try:
        with quietly():
            run.carry_out()
    finally:
        shutil.rmtree(context.store.downloads(checkpoint), ignore_errors=True)
    made = {cell_of(row): row for row in run.rows.made if not _was_only_not_found(row, stored.get(cell_of(row)))}
    if made:
        context.store.write(checkpoint, made.values())


def _was_only_not_found(row: Row, stored: Row | None) -> bool:
    """Whether a checkpoint could not even be looked up (it was moved, say) of which the same has been measured."""
    return row["fingerprint"] is None and stored is not None and _measured_as(stored, "asked", row["asked"])


def _measured_as(stored: Row, name: str, value: object) -> bool:
    return stored["status"] == "ok" and stored[name] == value


class CheckpointRun:
    """One checkpoint's measurement, from what is left to measure to its rows."""

    def __init__(self, context: RunContext, checkpoint: Checkpoint, stored: dict[tuple[object, ...], Row]) -> None:
        self._context = context
        self._plan = context.plan
        self._checkpoint = checkpoint
        self._stored = stored
        self._begin = ""
        self._named: set[Quantization] = set()  # whose experts with too few tokens have been named
        self.rows = CheckpointRows(context, checkpoint)

    def carry_out(self) -> None:
        """Measure; what goes wrong is a row."""
        checkpoint, report = self._checkpoint, self._context.reporter
        report.checkpoint(checkpoint)
        todo = self._cells_to_measure()
        if not todo:
            return
        with self.rows.failing(todo):
            report.step("loading")
            folder = fetch(checkpoint.source, self.rows.commit, self._context.store.downloads(checkpoint))
            self._refuse_a_copy(folder, todo)
            apart = checkpoint.tokenizer
            tokenizer = self._context.tokenizer(apart) if apart else load_tokenizer(folder)
            model = load_model(folder, checkpoint, self._plan.dtype, torch.device("cpu"))
            self._measure(model, tokenizer, todo)
            self._refuse_a_copy(folder, todo)  # again: it may have been measured beside this one

    def _cells_to_measure(self) -> list[Cell]:
        """The cells that the store does not hold as they would be measured now."""
        sets = self._plan.evaluation.datasets
        planned = [None, *self._plan.quantizations_of(self._checkpoint)]
        cells = [Cell(quantization, texts) for quantization in planned for texts in sets]
        with self.rows.failing(cells):
            self.rows.commit = self._context.pins.pin(self._checkpoint.source, self._checkpoint.revision)
            tokenizer = self._checkpoint.tokenizer
            tokenizer_commit = self._context.pins.pin(tokenizer, "main") if tokenizer else self.rows.commit
            todo = []
            for cell in cells:
                with self.rows.failing([cell]):
                    quantization, files = cell.quantization, None
                    if quantization is not None and quantization.method == PREQUANTIZED:
                        source = quantization.files_of(self._checkpoint)
                        files = "/".join(filter(None, (self._context.pins.pin(source, "main"), source.file)))
                    fingerprint = self._context.fingerprints.of(
                        self.rows.commit, tokenizer_commit, quantization, files, cell.texts
                    )
                    self.rows.fingerprints[cell] = fingerprint
                    row = self.rows.of(cell)
                    stored = self._stored.get(cell_of(row))
                    if stored is not None and _measured_as(stored, "fingerprint", fingerprint):
                        self._context.reporter.done(1)
                        if stored["asked"] != row["asked"]:  # of another source, where the same was
                            self.rows.made.append(stored | {"asked": row["asked"]})
                    else:
                        todo.append(cell)
            return todo
        return []

    def _refuse_a_copy(self, folder: Path, todo: Sequence[Cell]) -> None:
        """Hubs have been seen to serve one file for many revisions; D would then be a label and nothing more."""
        weights = weights_digest(folder)
        other = self._context.store.with_weights(self._plan, weights, self._checkpoint.tokens)
        if other is not None:
            refused = {cell_of(self.rows.of(cell)) for cell in todo}
            self.rows.made = [row for row in self.rows.made if cell_of(row) not in refused]
            raise MeasureError(copied(self._checkpoint, other))
        self.rows.weights = weights

    def _measure(self, model: PreTrainedModel, tokenizer: Tokenizer, todo: Sequence[Cell]) -> None:
        fits = model_bytes(model) <= room(self._context.device) // 2
        if fits:
            nn.Module.to(model, self._context.device)
        self._begin = self._plan.begin or default_begin(tokenizer.tokenizer, model.config)
        self.rows.active = active_parameters(model)
        windows: dict[TextSet, Windows] = {}
        for texts in dict.fromkeys(cell.texts for cell in todo):
            with self.rows.failing([cell for cell in todo if cell.texts == texts]):
                windows[texts] = self._windows(model, tokenizer, texts)
        quantizers = self._quantizers(model, tokenizer, todo)
        self._sweep(model, tokenizer, self.rows.unsettled(todo), windows, quantizers)
        left = self.rows.unsettled(todo)
        with self.rows.failing(left):
            if left and not fits:
                raise MeasureError("this needs the whole model on the GPU, which has no room for it")
            self._one_by_one(model, tokenizer, left, windows)

    def _quantizers(
        self, model: PreTrainedModel, tokenizer: Tokenizer, todo: Sequence[Cell]
    ) -> dict[Quantization, Quantizer]:
        """The quantizers of what is asked for; what cannot be quantized becomes rows, and no affair of the others'."""
        made: dict[Quantization, Quantizer] = {}
        asked = [q for q in dict.fromkeys(cell.quantization for cell in todo) if q and q.method != PREQUANTIZED]
        for quantization in asked:
            with self.rows.failing([cell for cell in todo if cell.quantization == quantization]):
                quantizer = quantizer_from_settings(quantization.for_quantizer())
                quantizer.check_fit(stack_linears(model))
                made[quantization] = quantizer
        calibrated = [quantization for quantization in made if METHODS[quantization.method].calibrated]
        with self.rows.failing([cell for cell in todo if cell.quantization in calibrated]):
            if calibrated:
                check_windows(model, self._calibration_windows(tokenizer), "[calibration]: ")
        return made

    def _sweep(
        self,
        model: PreTrainedModel,
        tokenizer: Tokenizer,
        todo: Sequence[Cell],
        windows: dict[TextSet, Windows],
        quantizers: dict[Quantization, Quantizer],
    ) -> None:
        """Measure all quantizations that the sweep knows in one pass; where that fails, none."""
        asked = [q for q in dict.fromkeys(cell.quantization for cell in todo) if q and METHODS[q.method].swept]
        if not asked:
            return
        cuda = self._context.device.type == "cuda"
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        try:
            found = sweep(
                model,
                [quantizers[q] for q in asked],
                self._calibration(tokenizer, asked),
                [one.tokens for one in windows.values()],
                self._context.device,
                self._context.reporter.step,
                self._plan.calibration.orders if self._plan.calibration else 1,
                until=self._plan.evaluation.until,
            )
        except Exception as error:  # noqa: BLE001 (whatever it is, measuring one by one tells which cells it is about)
            log = self._context.store.log(
                self._checkpoint, f"{self._checkpoint}, the sweep:\n{traceback.format_exc()}\n"
            )
            text = f"{self._checkpoint}: the sweep failed, so quantizations are measured one by one: {error}"
            warnings.warn(f"{text} (its traceback is in {log})", stacklevel=2)
            if cuda:
                torch.cuda.empty_cache()
            return
        for quantization, variant in zip(asked, found.variants, strict=True):
            self._name_too_few(quantization, variant.report)
        passed = [len(one.losses) for v in found.variants for order in v.orders for one in order]
        per_window = found.seconds_evaluate / (sum(map(len, found.baseline)) + sum(passed))
        for texts, baseline, number in zip(windows, found.baseline, range(len(windows)), strict=True):
            with self.rows.failing(
                [c for c in todo if c.texts == texts and (not c.quantization or c.quantization in asked)]
            ):
                check_finite(baseline, model.dtype)
                original = self._original(tokenizer, windows[texts], baseline)
                if Cell(None, texts) in todo:
                    self.rows.keep(Cell(None, texts), original, seconds_evaluate=per_window * len(baseline))
                for quantization, variant in zip(asked, found.variants, strict=True):
                    cell = Cell(quantization, texts)
                    if cell not in todo:
                        continue
                    with self.rows.failing([cell]):
                        if variant.error or variant.report is None:
                            raise variant.error or MeasureError("nothing was measured")
                        for compared in variant.orders:
                            check_finite(compared[number].losses, model.dtype)
                        orders = [compared[number] for compared in variant.orders]
                        self.rows.keep_quantized(
                            cell,
                            original,
                            orders,
                            **variant.report.columns,
                            seconds_quantize=found.seconds_quantize / len(asked),
                            seconds_evaluate=per_window * sum(len(one.losses) for one in orders),
                        )

    def _one_by_one(
        self, model: PreTrainedModel, tokenizer: Tokenizer, todo: Sequence[Cell], windows: dict[TextSet, Windows]
    ) -> None:
        """The plain path: the whole model, once for each quantization."""
        baselines: dict[TextSet, Baseline] = {}
        for texts in dict.fromkeys(cell.texts for cell in todo):
            with self.rows.failing([cell for cell in todo if cell.texts == texts]):
                baselines[texts] = self._baseline(model, tokenizer, windows[texts], texts, Cell(None, texts) in todo)
        references: dict[TextSet, list[Reference]] = {}
        for quantization in dict.fromkeys(cell.quantization for cell in todo):
            cells = [cell for cell in todo if cell.quantization == quantization and cell.texts in baselines]
            if quantization is not None and cells:
                with self.rows.failing(cells):
                    check_stack(model)
                    for texts in {cell.texts for cell in cells} - references.keys():
                        self._context.reporter.step(f"16 bits on {texts.name}")
                        blocks = in_blocks(windows[texts].tokens, self._plan.evaluation.until)
                        references[texts] = [Reference(model, block) for block in blocks]
                    beside = {cell: (baselines[cell.texts], references[cell.texts]) for cell in cells}
                    self._quantized(model, tokenizer, quantization, beside)

    def _windows(self, model: PreTrainedModel, tokenizer: Tokenizer, texts: TextSet) -> Windows:
        evaluation = self._plan.evaluation
        self._context.reporter.step(f"reading {texts.name}")
        reference = evaluation.reference_tokenizer
        windows = self._context.windows.windows(
            texts, tokenizer, evaluation.seq_len, evaluation.windows, self._plan.seed,
            self._context.tokenizer(reference) if reference else None, self._begin,
        )  # fmt: skip
        check_windows(model, windows.tokens)
        # Documents lie in a row, and whoever may stop early must not have seen the first of them alone.
        return windows if evaluation.until is None else replace(windows, tokens=in_random_order(windows.tokens))

    def _baseline(
        self, model: PreTrainedModel, tokenizer: Tokenizer, windows: Windows, texts: TextSet, is_row: bool
    ) -> Baseline:
        began = time.perf_counter()
        losses = window_losses(model, windows.tokens, partial(self._context.reporter.step, f"16 bits on {texts.name}"))
        seconds = time.perf_counter() - began
        baseline = self._original(tokenizer, windows, losses)
        if is_row:
            self.rows.keep(Cell(None, texts), baseline, seconds_evaluate=seconds)
        return baseline

    def _original(self, tokenizer: Tokenizer, windows: Windows, losses: Tensor) -> Baseline:
        return Baseline(windows, self._context.predicted_bytes(tokenizer, windows), losses)

    def _quantized(
        self,
        model: PreTrainedModel,
        tokenizer: Tokenizer,
        quantization: Quantization,
        beside: dict[Cell, tuple[Baseline, list[Reference]]],
    ) -> None:
        report = self._context.reporter
        report.step(str(quantization))
        calibration = self._calibration(tokenizer, [quantization])
        cuda = self._context.device.type == "cuda"
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        orders = self._plan.calibration.orders if self._plan.calibration and len(calibration) else 1
        found: dict[Cell, list[Compared]] = {cell: [] for cell in beside}
        seconds_quantize, seconds_evaluate = 0.0, dict.fromkeys(beside, 0.0)
        for number in range(orders):
            began = time.perf_counter()
            with self._quantizing(model, quantization, in_order(calibration, number)) as (quantized, columns):
                if cuda:
                    torch.cuda.synchronize()
                seconds_quantize += time.perf_counter() - began
                for cell in self.rows.unsettled(list(beside)):
                    with self.rows.failing([cell]):
                        began = time.perf_counter()
                        say = partial(report.step, f"{quantization} on {cell.texts.name}")
                        found[cell].append(self._compared(quantized, *beside[cell], found[cell], say))
                        seconds_evaluate[cell] += time.perf_counter() - began
        for cell in self.rows.unsettled(list(beside)):
            with self.rows.failing([cell]):
                self.rows.keep_quantized(
                    cell,
                    beside[cell][0],
                    found[cell],
                    **columns,
                    seconds_quantize=seconds_quantize,
                    seconds_evaluate=seconds_evaluate[cell],
                )

    def _compared(
        self,
        model: PreTrainedModel,
        baseline: Baseline,
        blocks: Sequence[Reference],
        before: Sequence[Compared],
        report: Callable[[float], None],
    ) -> Compared:
        """What a quantized model gives on the blocks that it wants, or on those that its first order wanted."""
        made: list[Compared] = []
        for block in blocks:
            made.append(compare_windows(model, block, report))
            seen = Compared.joined(made)
            ends = len(seen.losses) == len(before[0].losses) if before else False
            if ends or (not before and not going_on([seen.losses], [baseline.losses], self._plan.evaluation.until)):
                break
        return Compared.joined(made)

    def _calibration(self, tokenizer: Tokenizer, quantizations: Sequence[Quantization]) -> Tensor:
        """The calibration tokens, `[n, length]`; none where no method needs any."""
        if not any(METHODS[quantization.method].calibrated for quantization in quantizations):
            return torch.empty(0, 0, dtype=torch.long)
        return self._calibration_windows(tokenizer)[:, :-1].to(self._context.device)

    def _calibration_windows(self, tokenizer: Tokenizer) -> Tensor:
        return self._context.calibration_windows(tokenizer, self._begin)

    @contextmanager
    def _quantizing(
        self, model: PreTrainedModel, quantization: Quantization, calibration: Tensor
    ) -> Iterator[tuple[PreTrainedModel, dict[str, float | None]]]:
        """The quantized model, and what the table has of how it was made; afterwards the 16-bit model is as it was."""
        if quantization.method != PREQUANTIZED:
            with restoring_weights(model):
                quantizer = quantizer_from_settings(quantization.for_quantizer())
                done = quantizer.quantize(model, calibration)
                self._name_too_few(quantization, done)
                with rounding_inputs(quantizer, stack_linears(model).values()):
                    yield model, done.columns
            return
        source = quantization.files_of(self._checkpoint)
        folder = fetch(source, self._context.pins.pin(source, "main"), self._context.store.downloads(self._checkpoint))
        theirs, read = load_prequantized(folder, model.dtype, model.config)
        _check_width(source.whole_name, quantization, read)
        nn.Module.to(theirs, self._context.device)
        check_against_original(read, theirs, model)
        put_back_ends(read, theirs, model)
        yield theirs, {"bits_per_weight": read.bits_per_weight}

    def _name_too_few(self, quantization: Quantization, report: QuantizationReport | None) -> None:
        """Name the experts that calibration has told too little of: all of them in the log, the first time one here."""
        if report is None or not report.too_few or quantization in self._named:
            return
        experts = {expert_of(name) for name in report.expert_tokens}
        text = f"{self._checkpoint}, {quantization}: {len(report.too_few)} of {len(experts)} experts saw fewer "
        text += "calibration tokens than they have inputs"
        named = ", ".join(f"{name} ({tokens})" for name, tokens in report.too_few.items())
        log = self._context.store.log(self._checkpoint, f"{text}: {named}\n")
        if not self._named:
            worst, tokens = min(report.too_few.items(), key=lambda one: one[1])
            warnings.warn(f"{text}, {worst} only {tokens}; all are named in {log}", stacklevel=2)
        self._named.add(quantization)


def _check_width(where: str, quantization: Quantization, read: Prequantized) -> None:
    """Refuse files of another width or group size than the plan says; those of GGUF mix types, so their mean counts."""
    if (read.format.method == OF_FILES) != (quantization.name == OF_FILES):
        raise MeasureError(f"{where}: stored as {read.format.method}; the plan says {quantization.name}")
    if quantization.name == OF_FILES:
        if abs(read.bits_per_weight / quantization.bits - 1) > _BITS_APART:
            stored = f"{read.bits_per_weight:.2f} bits a weight"
            hint = f"; if that is the file you mean, give bits = {read.bits_per_weight:.1f}"
            raise MeasureError(f"{where}: stored with {stored}; the plan says {quantization}{hint}")
    elif read.format.bits != quantization.bits or read.format.group_size != quantization.group_size:
        stored = f"{read.format.bits} bits, group size {read.format.group_size or 'channel'}"
        raise MeasureError(f"{where}: stored with {stored}; the plan says {quantization}")


def check_windows(model: PreTrainedModel, windows: Tensor, where: str = "") -> None:
    """Refuse windows `[n, length]` that the model was not made for; on a GPU they would end the CUDA context."""
    embedding = model.get_input_embeddings()
    rows = next(embedding.parameters()).shape[0]
    if int(windows.max()) >= rows:
        raise InputError(f"{where}the tokenizer gives ids up to {int(windows.max())}, the model embeds {rows} tokens")
    longest = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)
    if longest is not None and windows.shape[1] - 1 > longest:
        raise InputError(
            f"{where}seq_len = {windows.shape[1] - 1}, the model was made for {longest}; give at most that"
        )
