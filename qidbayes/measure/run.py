"""A plan, carried out: every checkpoint in turn, then the table."""

from pathlib import Path

from qidbayes.measure.fingerprint import versions
from qidbayes.measure.outcome import Outcome, conclude
from qidbayes.measure.plan import PREQUANTIZED, Checkpoint, Plan
from qidbayes.measure.progress import Reporter
from qidbayes.measure.quantize import quantizer_from_settings
from qidbayes.measure.store import Store
from qidbayes.measure.work import Shared, measure_checkpoint


def measure(plan: Plan, folder: Path, reporter: Reporter | None = None) -> Outcome:
    """Measure what the plan asks for and the folder does not hold yet.

    Parameters
    ----------
    plan
        From `load_plan`.
    folder
        Where the table grows; killed and called again, a run goes on after its last whole checkpoint.
    reporter
        Told what happens.

    Raises
    ------
    InputError
        If a quantizer's settings or a local text cannot be used. What goes wrong later becomes a row.
    """
    run = Run(plan, folder, reporter or Reporter())
    elsewhere = [str(checkpoint) for checkpoint in plan.checkpoints if not run.carry_out(checkpoint)]
    return conclude(run.shared.store, plan, run.metadata, elsewhere)


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

    def __init__(self, plan: Plan, folder: Path, reporter: Reporter) -> None:
        for quantization in plan.quantizations:
            if quantization.method != PREQUANTIZED:
                quantizer_from_settings(quantization.for_quantizer())
        self.shared = Shared(plan, Store(folder), reporter)
        self.metadata = {"device": self.shared.device_name, **versions()}

    def carry_out(self, checkpoint: Checkpoint) -> bool:
        """Measure a checkpoint; returns False if another run holds it."""
        with self.shared.store.claim(checkpoint) as mine:
            if mine:
                measure_checkpoint(self.shared, checkpoint)
            else:
                self.shared.reporter.done(self.shared.plan.rows_of(checkpoint))
        return mine
