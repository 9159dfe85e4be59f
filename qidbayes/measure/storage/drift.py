"""What has been measured of drift: one Parquet file per checkpoint, written whole or not at all."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import polars as pl

from qidbayes.errors import InputError
from qidbayes.measure.plan.plan import Checkpoint, Plan
from qidbayes.measure.storage.backend import backend_at
from qidbayes.measure.storage.results import Row, file_name, labels
from qidbayes.table.drift import DRIFT_COLUMNS
from qidbayes.table.parquet import UnreadableError, from_parquet, to_parquet

# What a checkpoint's rows need besides the table's columns to be taken up again.
_SCHEMA = DRIFT_COLUMNS | {"fingerprint": pl.String, "commit": pl.String, "version": pl.String}


def quantization_of(row: Mapping[str, object]) -> tuple[object, ...]:
    """Return what tells the quantizations of one checkpoint apart."""
    return row["method"], row["bits"], row["group_size"]


def run_before(plan: Plan, checkpoint: Checkpoint) -> Checkpoint | None:
    """Return the checkpoint of the same model with the most tokens below this one's; None for its first."""
    earlier = [c for c in plan.checkpoints if c.model == checkpoint.model and c.tokens < checkpoint.tokens]
    return max(earlier, key=lambda c: c.tokens, default=None)


class DriftStore:
    """What a run of `qidbayes measure --drift` keeps, beside what a run that measures losses does.

    Parameters
    ----------
    where
        A folder, made where it is missing, or the address of an object store.
    """

    def __init__(self, where: Path | str) -> None:
        self._backend = backend_at(where)
        self.table = self._backend.where("drift.parquet")

    def claim(self, checkpoint: Checkpoint, *, patient: bool = False) -> AbstractContextManager[bool]:
        """Hold a checkpoint while the block runs; see `Store.claim`."""
        return self._backend.claim(f"drift/{file_name(str(checkpoint))}", patient=patient)

    def read(self, checkpoint: Checkpoint) -> list[Row]:
        """Return a checkpoint's rows; none if it has not been measured.

        Raises
        ------
        InputError
            If its file is damaged, or was written by another version.
        """
        return self._rows(checkpoint, self._backend.read(_part(checkpoint)))

    def _rows(self, checkpoint: Checkpoint, content: bytes | None) -> list[Row]:
        if content is None:
            return []
        try:
            return from_parquet(content, digested=True).frame.select(list(_SCHEMA)).to_dicts()
        except (UnreadableError, pl.exceptions.PolarsError) as error:
            where = self._backend.where(_part(checkpoint))
            raise InputError(f"{where}: not a file this version wrote ({error}); remove it to measure again") from error

    def write(self, checkpoint: Checkpoint, rows: Iterable[Row]) -> None:
        """Put rows in the place of those that a checkpoint had for the same quantizations; its others stay."""
        made = list(rows)
        renewed = {quantization_of(row) for row in made}

        def merge(content: bytes | None, beside: Path) -> None:
            kept = [row for row in self._rows(checkpoint, content) if quantization_of(row) not in renewed]
            beside.write_bytes(to_parquet(pl.DataFrame(kept + made, schema=_SCHEMA, orient="row")))

        self._backend.update(_part(checkpoint), merge)

    def assemble(self, plan: Plan, metadata: Mapping[str, str]) -> list[Row]:
        """Write `drift.parquet` from the plan's measured checkpoints, in the plan's order, and return its rows."""
        rows: list[Row] = []

        def write(_: bytes | None, beside: Path) -> None:
            rows[:] = [row for checkpoint in plan.checkpoints for row in self._planned(plan, checkpoint)]
            frame = pl.DataFrame(rows, schema=_SCHEMA, orient="row").select(list(DRIFT_COLUMNS))
            beside.write_bytes(to_parquet(frame, metadata))

        if any(self._backend.read(_part(checkpoint)) is not None for checkpoint in plan.checkpoints):
            self._backend.update("drift.parquet", write)
        return rows

    def _planned(self, plan: Plan, checkpoint: Checkpoint) -> list[Row]:
        """A checkpoint's rows that the plan asks for, in its order, with what the plan says of it now."""
        measured = self.read(checkpoint)
        before = run_before(plan, checkpoint)
        told = {"revision_before": before and before.revision, "tokens_before": before and before.tokens}
        wanted: dict[tuple[object, ...], None] = {("none", 16.0, None): None}
        wanted |= {(q.name, float(q.bits), q.group_size): None for q in plan.quantizations_of(checkpoint)}
        return [
            {**row, **labels(plan, checkpoint, row["version"], row["commit"], None), **told}
            for cell in wanted
            for row in measured
            if quantization_of(row) == cell
        ]


def _part(checkpoint: Checkpoint) -> str:
    return f"drift/{file_name(str(checkpoint))}.parquet"
