"""What has been measured: one Parquet file per checkpoint, written whole or not at all."""

import io
import json
import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import polars as pl

from qidbayes.errors import InputError
from qidbayes.measure.place import place_at
from qidbayes.measure.plan import Checkpoint, Plan, digest
from qidbayes.table import write_table
from qidbayes.table.columns import COLUMNS

# What a cell needs besides the table's columns to be taken up again.
_OWN: dict[str, type[pl.DataType]] = {
    "fingerprint": pl.String,  # of everything that could change the numbers
    "weights": pl.String,  # the digest of the checkpoint's weights
    "windows_hash": pl.String,  # of the token ids evaluated
    "per_reference_token": pl.Float64,  # tokens per token of the reference tokenizer
}
_SCHEMA: dict[str, type[pl.DataType]] = {column.name: column.dtype for column in COLUMNS} | _OWN
_READERS = 16  # an object store answers each in some 20 ms, and has no objection to many at once
_CELL = ("method", "bits", "group_size", "dataset")  # tells the cells of one checkpoint apart

type Row = dict[str, object]
"""A row of the table, with the store's own columns."""


def file_name(name: str) -> str:
    """Return a name that can stand in a file's, readable and still one of a kind.

    Examples
    --------
    >>> file_name("EleutherAI/pythia-160m@step98000")
    'EleutherAI-pythia-160m-step98000-f2e0ab40'
    """
    return f"{re.sub(r'[^A-Za-z0-9.]+', '-', name)}-{digest(name)[:8]}"


def cell_of(row: Mapping[str, object]) -> tuple[object, ...]:
    """Return what tells a row from the other rows of its checkpoint."""
    return tuple(row[name] for name in _CELL)


class Store:
    """What a run keeps.

    Several runs may share one: each takes the checkpoints that no other holds, and a killed run lets go of its own.

    Parameters
    ----------
    where
        A folder, made where it is missing, or the address of an object store, such as `s3://bucket/runs/mine`.
    """

    def __init__(self, where: Path | str) -> None:
        self._place = place_at(where)
        self.folder = self._place.scratch
        """A folder of this machine: the run's own, or where downloads lie for one that is kept elsewhere."""
        self.table = self._place.where("table.parquet")

    def downloads(self, checkpoint: Checkpoint) -> Path:
        """Return the folder for what is downloaded to measure a checkpoint; it may go once that is done."""
        return self.folder / "downloads" / file_name(str(checkpoint))

    def first(self, name: str, write: Callable[[Path], None]) -> Path:
        """Return a file that all runs share, written by the first that asks and never changed."""
        return self._place.first(name, write)

    def claim(self, checkpoint: Checkpoint, *, patient: bool = False) -> AbstractContextManager[bool]:
        """Hold a checkpoint while the block runs; yields False if another run holds it.

        `patient` says that it may take a while to find out that the other one is gone.
        """
        return self._place.claim(f"checkpoints/{file_name(str(checkpoint))}", patient=patient)

    def read(self, checkpoint: Checkpoint) -> list[Row]:
        """Return a checkpoint's rows; none if it has not been measured."""
        name = _part(checkpoint)
        return self._rows(name, self._place.read(name))

    def _rows(self, name: str, content: bytes | None) -> list[Row]:
        if content is None:
            return []
        try:
            return pl.read_parquet(io.BytesIO(content)).select(list(_SCHEMA)).to_dicts()
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            raise InputError(
                f"{self._place.where(name)}: not a file this version wrote ({error}); remove it to measure again"
            ) from error

    def write(self, checkpoint: Checkpoint, rows: Iterable[Row]) -> None:
        """Put rows in place of those a checkpoint had for the same cells; its others stay.

        A cell that has been measured meanwhile stays measured where this run's try of the same failed.
        """
        made = {cell_of(row): row for row in rows}
        for weights in {row["weights"] for row in made.values()} - {None}:
            self.first(f"weights/{weights}/{file_name(str(checkpoint))}", lambda path: path.touch())

        def merge(content: bytes | None, beside: Path) -> None:
            there = {cell_of(row): row for row in self._rows(_part(checkpoint), content)}
            kept = {cell: row for cell, row in there.items() if cell in made and _succeeded_where(row, made[cell])}
            pl.DataFrame(list((there | made | kept).values()), schema=_SCHEMA, orient="row").write_parquet(beside)

        self._place.update(_part(checkpoint), merge)

    def with_weights(self, plan: Plan, weights: str, tokens: int) -> str | None:
        """Return a checkpoint of the plan that holds the same weights but stands at other training tokens, if any."""
        known = set(self._place.names(f"weights/{weights}"))
        for checkpoint in plan.checkpoints:
            candidate = checkpoint.tokens != tokens and file_name(str(checkpoint)) in known
            if candidate and any(row["weights"] == weights for row in self.read(checkpoint)):
                return str(checkpoint)
        return None

    def assemble(self, plan: Plan, metadata: Mapping[str, str]) -> list[Row]:
        """Write `table.parquet` from the plan's measured checkpoints, in the plan's order, and return its rows.

        Of several runs that do so at the same time, the last to write has seen what all had measured. With a reference
        tokenizer, `table-per-reference-token.parquet` says the same in nats per token of that one.
        """
        if not any(self.planned(plan, checkpoint) for checkpoint in plan.checkpoints):
            return []
        reference = plan.evaluation.reference_tokenizer
        if reference is not None:
            self._write_table(plan, metadata, "table-per-reference-token.parquet", reference.name)
        return self._write_table(plan, metadata, "table.parquet", None)

    def _write_table(self, plan: Plan, metadata: Mapping[str, str], name: str, reference: str | None) -> list[Row]:
        rows: list[Row] = []

        def write(_: bytes | None, beside: Path) -> None:
            rows[:] = self._all_planned(plan)  # here and not before: others may have written while this waited
            frame = pl.DataFrame(rows, schema=_SCHEMA, orient="row")
            if reference is not None:
                frame = frame.with_columns(
                    pl.col("loss_16bit", "loss", "qid", "qid_se") * pl.col("per_reference_token")
                )
            of_rows = {
                "windows": _hashes(rows),
                "device": ", ".join(sorted({str(row["device"]) for row in rows})),
                "unit": f"nats per token of {reference or "the model's tokenizer"}",
            }
            write_table(frame.drop(list(_OWN)), beside, {**metadata, **of_rows})

        self._place.update(name, write)
        return rows

    def _all_planned(self, plan: Plan) -> list[Row]:
        with ThreadPoolExecutor(_READERS) as pool:
            return [row for rows in pool.map(lambda c: self.planned(plan, c), plan.checkpoints) for row in rows]

    def planned(self, plan: Plan, checkpoint: Checkpoint) -> list[Row]:
        """Return a checkpoint's rows that the plan asks for, in its order; what an earlier plan measured stays put."""
        measured = {cell_of(row): row for row in self.read(checkpoint)}
        cells: list[tuple[object, ...]] = [("none", 16.0, None)]
        cells += [(q.name, float(q.bits), q.group_size) for q in plan.quantizations_of(checkpoint)]
        wanted = [(*cell, texts.name) for cell in cells for texts in plan.evaluation.datasets]
        return [measured[cell] for cell in wanted if cell in measured]


def _part(checkpoint: Checkpoint) -> str:
    return f"checkpoints/{file_name(str(checkpoint))}.parquet"


def _succeeded_where(one: Row, other: Row) -> bool:
    return one["status"] == "ok" != other["status"] and one["fingerprint"] == other["fingerprint"]


def _hashes(rows: Iterable[Row]) -> str:
    """The windows that were evaluated, as JSON: by set, the digests of their ids, one for each tokenizer."""
    found: dict[str, set[str]] = {}
    for row in rows:
        if row["windows_hash"] is not None:
            found.setdefault(str(row["dataset"]), set()).add(str(row["windows_hash"]))
    return json.dumps({name: sorted(hashes) for name, hashes in sorted(found.items())})
