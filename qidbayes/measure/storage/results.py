"""What has been measured: one Parquet file per checkpoint, written whole or not at all."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import polars as pl

from qidbayes.errors import InputError
from qidbayes.measure.errors import copied, miscounted
from qidbayes.measure.plan.methods import PREQUANTIZED
from qidbayes.measure.plan.plan import Checkpoint, Plan, Quantization, digest
from qidbayes.measure.storage.backend import backend_at
from qidbayes.table import write_table
from qidbayes.table.columns import COLUMNS
from qidbayes.table.parquet import UnreadableError, from_parquet, to_parquet

# What a cell needs besides the table's columns to be taken up again.
_OWN: dict[str, type[pl.DataType]] = {
    "fingerprint": pl.String,  # of everything that could change the numbers
    "asked": pl.String,  # likewise, of what the plan says of it
    "commit": pl.String,  # what the checkpoint was pinned to
    "version": pl.String,  # of this package
    "weights": pl.String,  # the digest of the checkpoint's weights
    "windows_hash": pl.String,  # of the token ids evaluated
    "per_reference_token": pl.Float64,  # tokens per token of the reference tokenizer
}
_SCHEMA: dict[str, type[pl.DataType]] = {c.name: c.dtype for c in COLUMNS} | _OWN
_READERS = 16  # an object store answers each in some 20 ms, and has no objection to many at once
_CELL = ("method", "bits", "group_size", "settings", "dataset")  # tells the cells of one checkpoint apart
# What a row holds where nothing was measured, or where what was measured may not stand.
_MEASURED = (
    "n_params_active", "bits_per_weight", "expert_tokens", "experts_undersampled", "n_eval_tokens", "loss_16bit",
    "loss", "qid", "qid_se", "qid_se_quantizer", "kld", "kld_se", "kld_se_quantizer", "top_agreement",
    "top_agreement_se", "nats_per_byte_16bit", "nats_per_byte", "seconds_quantize", "seconds_evaluate",
    "peak_memory_gib", "windows_hash", "per_reference_token", "weights",
)  # fmt: skip

_PER_TOKEN = (
    "loss_16bit", "loss", "qid", "qid_se", "qid_se_quantizer", "kld", "kld_se", "kld_se_quantizer",
)  # fmt: skip

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


def labels(
    plan: Plan, checkpoint: Checkpoint, version: object, commit: object, quantization: Quantization | None
) -> Row:
    """Return what a checkpoint's rows say that was not measured: what the plan says of it, and whose work they are.

    Parameters
    ----------
    plan, checkpoint
        The plan and one of its checkpoints.
    version, commit
        The version of this package that measured, and what the checkpoint was pinned to (None: it was not).
    quantization
        None for the 16-bit loss. Files that somebody else has quantized are named, with what of them was measured.
    """
    at = f"@{str(commit)[:12]}" if commit else ""
    if quantization is not None and quantization.method == PREQUANTIZED:
        at += f"; weights of {quantization.files_of(checkpoint).whole_name}, activations not quantized"
    return {
        "suite": plan.suite,
        "model": checkpoint.model,
        "revision": checkpoint.revision,
        "n_params": checkpoint.n_params,
        "tokens": checkpoint.tokens,
        "learning_rate": checkpoint.learning_rate,
        "source": f"qidbayes {version}, {checkpoint.source.name}{at}",
    }


class Store:
    """What a run keeps.

    Several runs may share one: each takes the checkpoints that no other holds, and a killed run lets go of its own.

    Parameters
    ----------
    where
        A folder, made where it is missing, or the address of an object store, such as `s3://bucket/runs/mine`.
    """

    def __init__(self, where: Path | str) -> None:
        self._backend = backend_at(where)
        self.folder = self._backend.scratch
        """A folder of this machine: the run's own, or where downloads lie for one that is kept elsewhere."""
        self.table = self._backend.where("table.parquet")

    def downloads(self, checkpoint: Checkpoint) -> Path:
        """Return the folder for what is downloaded to measure a checkpoint; it may go once that is done."""
        return self.folder / "downloads" / file_name(str(checkpoint))

    def get_or_create(self, name: str, write: Callable[[Path], None]) -> Path:
        """Return a file that all runs share, written by the first that asks and never changed."""
        return self._backend.get_or_create(name, write)

    def claim(self, checkpoint: Checkpoint, *, patient: bool = False) -> AbstractContextManager[bool]:
        """Hold a checkpoint while the block runs; yields False if another run holds it.

        `patient` says that it may take a while to find out that the other one is gone.
        """
        return self._backend.claim(f"checkpoints/{file_name(str(checkpoint))}", patient=patient)

    def read(self, checkpoint: Checkpoint) -> list[Row]:
        """Return a checkpoint's rows; none if it has not been measured.

        Raises
        ------
        InputError
            If its file is damaged, was written by another version, or holds another checkpoint's rows.
        """
        return self._rows(checkpoint, self._backend.read(_part(checkpoint)))

    def _rows(self, checkpoint: Checkpoint, content: bytes | None) -> list[Row]:
        if content is None:
            return []
        where = self._backend.where(_part(checkpoint))
        try:
            rows = _with_new_columns(from_parquet(content, digested=True).frame).select(list(_SCHEMA)).to_dicts()
        except (UnreadableError, pl.exceptions.PolarsError) as error:
            raise InputError(f"{where}: not a file this version wrote ({error}); remove it to measure again") from error
        if any((row["model"], row["revision"]) != (checkpoint.model, checkpoint.revision) for row in rows):
            raise InputError(f"{where}: holds another checkpoint than {checkpoint}; remove it to measure again")
        return rows

    def write(self, checkpoint: Checkpoint, rows: Iterable[Row]) -> None:
        """Put rows in place of those a checkpoint had for the same cells; its others stay.

        A cell that has been measured meanwhile stays measured where this run's try of the same failed.
        """
        made = {cell_of(row): row for row in rows}
        for weights in {row["weights"] for row in made.values()} - {None}:
            self.get_or_create(f"weights/{weights}/{file_name(str(checkpoint))}", lambda path: path.touch())

        def merge(content: bytes | None, beside: Path) -> None:
            there = {cell_of(row): row for row in self._rows(checkpoint, content)}
            kept = {cell: row for cell, row in there.items() if cell in made and _succeeded_where(row, made[cell])}
            rows = pl.DataFrame(list((there | made | kept).values()), schema=_SCHEMA, orient="row")
            beside.write_bytes(to_parquet(rows))

        self._backend.update(_part(checkpoint), merge)

    def log(self, checkpoint: Checkpoint, text: str) -> str:
        """Append to what is said of a checkpoint for whoever looks for the cause of a fault; returns where that is."""
        name = f"logs/{file_name(str(checkpoint))}.txt"

        def append(before: bytes | None, beside: Path) -> None:
            beside.write_bytes((before or b"") + text.encode())

        self._backend.update(name, append)
        return self._backend.where(name)

    def with_weights(self, plan: Plan, weights: str, tokens: int) -> str | None:
        """Return a checkpoint of the plan that holds the same weights but stands at other training tokens, if any."""
        known = set(self._backend.names(f"weights/{weights}"))
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
                frame = frame.with_columns(pl.col(*_PER_TOKEN) * pl.col("per_reference_token"))
            of_rows = {
                "windows": _hashes(rows),
                "device": ", ".join(sorted({str(row["device"]) for row in rows})),
                "unit": f"nats per token of {reference or "the model's tokenizer"}",
            }
            write_table(frame.drop(list(_OWN)), beside, {**metadata, **of_rows})

        self._backend.update(name, write)
        return rows

    def _all_planned(self, plan: Plan) -> list[Row]:
        with ThreadPoolExecutor(_READERS) as pool:
            found = list(pool.map(lambda checkpoint: self.planned(plan, checkpoint), plan.checkpoints))
        _refuse_copies(plan, found)
        return [row for rows in found for row in rows]

    def planned(self, plan: Plan, checkpoint: Checkpoint) -> list[Row]:
        """Return a checkpoint's rows that the plan asks for, in its order; what an earlier plan measured stays put.

        What the plan says of the checkpoint stands in them as it does now, whatever it said when they were measured.
        Rows that it contradicts have failed.
        """
        measured = {cell_of(row): row for row in self.read(checkpoint)}
        cells: dict[tuple[object, ...], Quantization | None] = {("none", 16.0, None, ""): None}
        cells |= {q.cell: q for q in plan.quantizations_of(checkpoint)}
        wanted = [((*cell, texts.name), q) for cell, q in cells.items() for texts in plan.evaluation.datasets]
        return [_labelled(plan, checkpoint, measured[cell], q) for cell, q in wanted if cell in measured]


def _with_new_columns(frame: pl.DataFrame) -> pl.DataFrame:
    """Return rows with the columns that the table has got since they were written, as an empty field has them."""
    new = [pl.lit(c.default, c.dtype).alias(c.name) for c in COLUMNS if not c.required and c.name not in frame.columns]
    return frame.with_columns(new)


def _labelled(plan: Plan, checkpoint: Checkpoint, row: Row, quantization: Quantization | None) -> Row:
    now = {**row, **labels(plan, checkpoint, row["version"], row["commit"], quantization)}
    found = row["n_params"]  # of a row that was measured: counted in the files
    if row["status"] == "ok" and isinstance(found, int) and found != checkpoint.n_params:
        return _failed(now, f"InputError: {miscounted(checkpoint, found, checkpoint.n_params)}")
    return now


def _refuse_copies(plan: Plan, found: list[list[Row]]) -> None:
    """Let rows fail whose checkpoint holds the weights of an earlier one, which the plan says has seen other tokens."""
    first: dict[object, Checkpoint] = {}
    for checkpoint, rows in zip(plan.checkpoints, found, strict=True):
        for number, row in enumerate(rows):
            if row["status"] != "ok" or row["weights"] is None:
                continue
            other = first.setdefault(row["weights"], checkpoint)
            if other.tokens != checkpoint.tokens:
                rows[number] = _failed(row, f"MeasureError: {copied(checkpoint, other)}")


def _failed(row: Row, error: str) -> Row:
    return {**row, **dict.fromkeys(_MEASURED), "status": "failed", "error": error}


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
