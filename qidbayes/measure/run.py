"""A plan, carried out: every checkpoint in turn, then the table."""

from dataclasses import dataclass
from pathlib import Path

from qidbayes.measure.fingerprint import versions
from qidbayes.measure.plan import PREQUANTIZED, Plan
from qidbayes.measure.progress import Reporter
from qidbayes.measure.quantize import quantizer_from_settings
from qidbayes.measure.store import Row, Store
from qidbayes.measure.work import Shared, measure_checkpoint


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes
    ----------
    table
        Where the table is; None if nothing has been measured.
    rows
        Its rows.
    failed
        The failed ones among them, as `model@revision, method, dataset: error`.
    elsewhere
        Checkpoints that another run in the same folder holds.
    """

    table: Path | None
    rows: int
    failed: tuple[str, ...]
    elsewhere: tuple[str, ...]


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
    for quantization in plan.quantizations:
        if quantization.method != PREQUANTIZED:
            quantizer_from_settings(quantization.for_quantizer())  # so that a mistake shows before the first download
    shared = Shared(plan, Store(folder), reporter or Reporter())
    elsewhere = []
    for checkpoint in plan.checkpoints:
        with shared.store.claim(checkpoint) as mine:
            if mine:
                measure_checkpoint(shared, checkpoint)
            else:
                elsewhere.append(str(checkpoint))
                shared.reporter.done(plan.rows_of(checkpoint))
    metadata = {"plan": plan.suite, "plan_hash": plan.hash, "device": shared.device_name, **versions()}
    rows = shared.store.assemble(plan, metadata)
    failed = tuple(_describe(row) for row in rows if row["status"] != "ok")
    return Outcome(folder / "table.parquet" if rows else None, len(rows), failed, tuple(elsewhere))


def _describe(row: Row) -> str:
    where = f"{row['model']}@{row['revision']}, {row['method']} {row['bits']:g} bits, {row['dataset']}"
    return f"{where}: {row['error']}"
