"""How a run ended. Needs no torch: a run in several processes is put together by one that never loads a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from qidbayes.measure.plan.plan import Checkpoint, Plan
from qidbayes.measure.storage.results import Row


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes
    ----------
    table
        Where the table is: a path or an address; None if nothing has been measured.
    rows
        Its rows.
    failed
        The failed ones among those that this run was to measure, as `model@revision, method, dataset: error`.
    elsewhere
        Checkpoints that another run in the same folder holds.
    missing
        Checkpoints of the plan that the table has nothing of: other runs' or shards', or those that were lost.
    lost
        Checkpoints whose workers died again and again, with the last reason.
    """

    table: str | None
    rows: int
    failed: tuple[str, ...]
    elsewhere: tuple[str, ...]
    missing: int
    lost: tuple[str, ...] = ()


class Assembles(Protocol):
    """Keeps what is measured, and writes a table of it."""

    table: str

    def assemble(self, plan: Plan, metadata: Mapping[str, str]) -> list[Row]:
        """Write the table, and return its rows."""


def finish(
    store: Assembles,
    plan: Plan,
    checkpoints: Sequence[Checkpoint],
    metadata: Mapping[str, str],
    elsewhere: Sequence[Checkpoint],
    lost: Sequence[str] = (),
) -> Outcome:
    """Write the table from what the store holds and say how it went.

    Whoever ends last has seen what all have measured, so that no run has to wait for the others.

    Parameters
    ----------
    store, plan
        The run's.
    checkpoints
        Those it was to measure.
    metadata
        What decided the numbers: packages with their versions.
    elsewhere, lost
        As `Outcome` has them.
    """
    rows = store.assemble(plan, {"plan": plan.suite, "plan_hash": plan.hash, **metadata})
    mine = {(checkpoint.model, checkpoint.revision) for checkpoint in checkpoints}
    failed = [row for row in rows if row["status"] != "ok" and (row["model"], row["revision"]) in mine]
    measured = {(row["model"], row["revision"]) for row in rows}
    return Outcome(
        store.table if rows else None,
        len(rows),
        tuple(map(describe, failed)),
        tuple(map(str, elsewhere)),
        sum((checkpoint.model, checkpoint.revision) not in measured for checkpoint in plan.checkpoints),
        tuple(lost),
    )


def describe(row: Row) -> str:
    """Return a failed row in words, as `Outcome.failed` has it."""
    of = f", {row['dataset']}" if "dataset" in row else ""
    return f"{row['model']}@{row['revision']}, {row['method']} {row['bits']:g} bits{of}: {row['error']}"
