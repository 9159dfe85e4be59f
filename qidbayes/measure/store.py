"""What has been measured, on disk: one Parquet file per checkpoint, written whole or not at all."""

import fcntl
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from qidbayes.atomic import replacing
from qidbayes.errors import InputError
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
    """A run's folder.

    Several runs may share one: each takes the checkpoints that no other holds, and a killed run lets go of its own.

    Parameters
    ----------
    folder
        Made where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.windows = folder / "windows"
        self._parts = folder / "checkpoints"
        try:
            self._parts.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another place") from error

    def _path(self, checkpoint: Checkpoint, suffix: str) -> Path:
        return self._parts / (file_name(str(checkpoint)) + suffix)

    def downloads(self, checkpoint: Checkpoint) -> Path:
        """Return the folder for what is downloaded to measure a checkpoint; it may go once that is done."""
        return self.folder / "downloads" / file_name(str(checkpoint))

    @contextmanager
    def claim(self, checkpoint: Checkpoint) -> Iterator[bool]:
        """Hold a checkpoint while the block runs; yields False if another run holds it."""
        with self._path(checkpoint, ".lock").open("w") as lock:
            try:
                # The kernel lets go of this lock when the process dies, however it dies.
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    def read(self, checkpoint: Checkpoint) -> list[Row]:
        """Return a checkpoint's rows; none if it has not been measured."""
        path = self._path(checkpoint, ".parquet")
        if not path.exists():
            return []
        try:
            return pl.read_parquet(path).select(list(_SCHEMA)).to_dicts()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise InputError(f"{path}: not a file this version wrote ({error}); remove it to measure again") from error

    def write(self, checkpoint: Checkpoint, rows: Iterable[Row]) -> None:
        """Put a checkpoint's rows in place of those it had."""
        with replacing(self._path(checkpoint, ".parquet")) as beside:
            pl.DataFrame(list(rows), schema=_SCHEMA, orient="row").write_parquet(beside)

    def with_weights(self, plan: Plan, weights: str, tokens: int) -> str | None:
        """Return a checkpoint of the plan that holds the same weights but stands at other training tokens, if any."""
        for checkpoint in plan.checkpoints:
            if checkpoint.tokens != tokens and any(row["weights"] == weights for row in self.read(checkpoint)):
                return str(checkpoint)
        return None

    def assemble(self, plan: Plan, metadata: Mapping[str, str]) -> list[Row]:
        """Write `table.parquet` from the plan's measured checkpoints, in the plan's order, and return its rows.

        With a reference tokenizer, `table-per-reference-token.parquet` says the same in nats per token of that one.
        """
        rows = [row for checkpoint in plan.checkpoints for row in self.planned(plan, checkpoint)]
        if not rows:
            return rows
        metadata = {**metadata, "windows": _hashes(rows)}
        frame = pl.DataFrame(rows, schema=_SCHEMA, orient="row")
        _write(frame, self.folder / "table.parquet", {**metadata, "unit": "nats per token of the model's tokenizer"})
        if plan.evaluation.reference_tokenizer is not None:
            scaled = frame.with_columns(pl.col("loss_16bit", "loss", "qid", "qid_se") * pl.col("per_reference_token"))
            unit = f"nats per token of {plan.evaluation.reference_tokenizer.name}"
            _write(scaled, self.folder / "table-per-reference-token.parquet", {**metadata, "unit": unit})
        return rows

    def planned(self, plan: Plan, checkpoint: Checkpoint) -> list[Row]:
        """Return a checkpoint's rows that the plan asks for, in its order; what an earlier plan measured stays put."""
        measured = {cell_of(row): row for row in self.read(checkpoint)}
        cells: list[tuple[object, ...]] = [("none", 16.0, None)]
        cells += [(q.name, float(q.bits), q.group_size) for q in plan.quantizations_of(checkpoint)]
        wanted = [(*cell, texts.name) for cell in cells for texts in plan.evaluation.datasets]
        return [measured[cell] for cell in wanted if cell in measured]


def _hashes(rows: Iterable[Row]) -> str:
    """The windows that were evaluated, as JSON: by set, the digests of their ids, one for each tokenizer."""
    found: dict[str, set[str]] = {}
    for row in rows:
        if row["windows_hash"] is not None:
            found.setdefault(str(row["dataset"]), set()).add(str(row["windows_hash"]))
    return json.dumps({name: sorted(hashes) for name, hashes in sorted(found.items())})


def _write(frame: pl.DataFrame, path: Path, metadata: Mapping[str, str]) -> None:
    write_table(frame.drop(list(_OWN)), path, metadata)
