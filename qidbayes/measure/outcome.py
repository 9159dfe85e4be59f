"""How a run ended. Needs no torch: a run in several processes is put together by one that never loads a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qidbayes.measure.plan import Plan
from qidbayes.measure.store import Row, Store


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


def conclude(store: Store, plan: Plan, metadata: Mapping[str, str], elsewhere: Sequence[str]) -> Outcome:
    """Write the table from what the store holds and say how it went.

    Parameters
    ----------
    store, plan
        The run's.
    metadata
        What decided the numbers: the device, and packages with their versions.
    elsewhere
        Checkpoints that another run holds.
    """
    rows = store.assemble(plan, {"plan": plan.suite, "plan_hash": plan.hash, **metadata})
    failed = tuple(_describe(row) for row in rows if row["status"] != "ok")
    return Outcome(store.folder / "table.parquet" if rows else None, len(rows), failed, tuple(elsewhere))


def _describe(row: Row) -> str:
    where = f"{row['model']}@{row['revision']}, {row['method']} {row['bits']:g} bits, {row['dataset']}"
    return f"{where}: {row['error']}"
