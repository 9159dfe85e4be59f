"""A plan, carried out: every checkpoint in turn, then the table."""

import functools
from collections.abc import Sequence
from pathlib import Path

from qidbayes.measure.inputs.fingerprint import versions
from qidbayes.measure.inputs.texts import local_documents
from qidbayes.measure.plan.methods import PREQUANTIZED
from qidbayes.measure.plan.plan import Checkpoint, Plan
from qidbayes.measure.quantize import quantizer_from_settings
from qidbayes.measure.run.checkpoint_run import measure_checkpoint
from qidbayes.measure.run.context import RunContext
from qidbayes.measure.run.outcome import Outcome, finish
from qidbayes.measure.run.progress import Reporter
from qidbayes.measure.storage.results import Store


def measure(
    plan: Plan,
    folder: Path | str,
    reporter: Reporter | None = None,
    checkpoints: Sequence[Checkpoint] | None = None,
) -> Outcome:
    """Measure what the plan asks for and the folder does not hold yet.

    Parameters
    ----------
    plan
        From `load_plan`.
    folder
        Where the table grows, or the address of an object store; killed and called again, a run goes on after its last
        whole checkpoint.
    reporter
        Told what happens.
    checkpoints
        Those of the plan that this run is to measure, such as `shard_of` returns; all if None. The table holds
        whatever has been measured of the plan.

    Raises
    ------
    InputError
        If a quantizer's settings or a local text cannot be used. What goes wrong later becomes a row.
    """
    run = Run(plan, folder, reporter or Reporter())
    mine = plan.checkpoints if checkpoints is None else checkpoints
    held = [checkpoint for checkpoint in mine if not run.carry_out(checkpoint)]
    # By now their holders may be done, or gone.
    held = [checkpoint for checkpoint in held if not run.carry_out(checkpoint, patient=True)]
    for checkpoint in held:
        run.context.reporter.done(plan.rows_of(checkpoint))
    return finish(run.context.store, plan, mine, versions(), held)


class Run:
    """What it takes to measure a plan's checkpoints one by one in this process.

    Parameters
    ----------
    plan, folder, reporter
        As `measure` takes them.

    Raises
    ------
    InputError
        If a quantizer's settings or a local text cannot be used: before the first download.
    """

    def __init__(self, plan: Plan, folder: Path | str, reporter: Reporter) -> None:
        for quantization in plan.quantizations:
            if quantization.method != PREQUANTIZED:
                quantizer_from_settings(quantization.for_quantizer())
        calibration = [plan.calibration.dataset] if plan.calibration else []
        for texts in (*plan.evaluation.datasets, *calibration):
            if texts.path is not None:
                local_documents(texts.path, texts.column)
        self.context = RunContext(plan, Store(folder), reporter)

    def carry_out(self, checkpoint: Checkpoint, *, patient: bool = False) -> bool:
        """Measure a checkpoint; returns False if another run holds it (`Store.claim`)."""
        with self.context.store.claim(checkpoint, patient=patient) as mine:
            if mine:
                measure_checkpoint(self.context, checkpoint)
        return mine


@functools.cache
def silent_run(plan: Plan, folder: Path | str) -> Run:
    """Return this process's run of a plan, for a worker that is handed checkpoints one by one."""
    return Run(plan, folder, Reporter())
