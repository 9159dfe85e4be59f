"""Every kind of file that a run keeps, with a bit of it flipped: what was written is read, or the file is named."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pyarrow
import pyarrow.parquet
import pytest
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerBase

from measure.conftest import TINY
from measure.storage.test_results import PLAN, rows_of
from qidbayes.errors import InputError
from qidbayes.measure.inputs import checkpoint as checkpoint_module
from qidbayes.measure.inputs.checkpoint import Pins, Tokenizer
from qidbayes.measure.inputs.windows import WindowCache
from qidbayes.measure.plan.plan import Source, TextSet
from qidbayes.measure.storage.folder import Folder
from qidbayes.measure.storage.results import Store
from qidbayes.table import read_table

FLIPS = 400
HELD_OUT = TextSet("held-out", path=TINY / "evaluation.txt")
CHECKPOINT, OTHER = PLAN.checkpoints[:2]
MEASURED = {"asked": "a", "commit": "1f3a", "version": "1"}


@dataclass(frozen=True)
class Kept:
    """A file of a run, how it is read, and what a refusal says."""

    path: Path
    read: Callable[[], object]
    remedy: str


@pytest.fixture(params=["windows", "part", "table", "pin"])
def kept(
    request: pytest.FixtureRequest, tmp_path: Path, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> Kept:
    if request.param == "windows":
        read = windows_of(tmp_path, tokenizer)
        read()
        return Kept(next(tmp_path.glob("windows/*.safetensors")), read, "remove it to cut them anew")
    if request.param == "pin":
        hub = SimpleNamespace(model_info=lambda *_, **__: SimpleNamespace(sha="1f3a" * 10))
        monkeypatch.setattr(checkpoint_module, "HfApi", lambda: hub)
        pins = Pins(Folder(tmp_path).get_or_create)
        pins.pin(Source("me/mine"), "main")
        path = next(path for path in tmp_path.glob("pins/*") if path.name != ".lock")
        return Kept(path, lambda: pins.pin(Source("me/mine"), "main"), "remove it to look the revision up anew")
    store = Store(tmp_path)
    store.write(CHECKPOINT, rows_of(PLAN, CHECKPOINT, **MEASURED))
    if request.param == "part":
        return Kept(
            next(tmp_path.glob("checkpoints/*.parquet")), lambda: store.read(CHECKPOINT), "remove it to measure again"
        )
    store.assemble(PLAN, {"plan": PLAN.suite})
    return Kept(tmp_path / "table.parquet", lambda: read_table(tmp_path / "table.parquet").rows(), "write it again")


def windows_of(folder: Path, tokenizer: PreTrainedTokenizerBase, seed: int = 0) -> Callable[[], object]:
    """Windows as a run that is taken up again reads them."""
    mine = Tokenizer(tokenizer, "mine")

    def read() -> object:
        found = WindowCache(Folder(folder).get_or_create).windows(HELD_OUT, mine, 32, 8, seed, mine)
        return found.tokens.tolist(), found.tokens.dtype, found.per_reference_token, found.hash

    return read


def test_a_flipped_bit_is_read_as_what_was_written_or_the_file_is_named(kept: Kept) -> None:
    whole, wrote, chances = kept.path.read_bytes(), kept.read(), random.Random(0)
    found = Counter[str]()
    for _ in range(FLIPS):
        content = bytearray(whole)
        content[chances.randrange(len(content))] ^= 1 << chances.randrange(8)
        kept.path.write_bytes(content)
        try:
            assert kept.read() == wrote
            found["read"] += 1
        except InputError as error:
            assert str(error).startswith(str(kept.path)) and kept.remedy in str(error)
            found["named"] += 1
    print(f"\n{kept.path.name}: {dict(found)}")
    assert found.total() == FLIPS and found["named"] > 0.9 * FLIPS
    kept.path.write_bytes(whole)
    assert kept.read() == wrote


def test_windows_with_other_tokens_under_the_old_hash_are_refused(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    read = windows_of(tmp_path, tokenizer)
    (tokens, *_), (path,) = read(), tmp_path.glob("windows/*.safetensors")  # type: ignore[misc]
    assert tokens
    with checkpoint_module.safe_open(path, "pt") as file:
        says = file.metadata()
    changed = load_file(path)["tokens"]
    changed[0, :20] = 7
    save_file({"tokens": changed}, path, says)
    with pytest.raises(InputError, match=r"not windows this version wrote .it is damaged, or of other texts.; remove"):
        read()
    save_file({"tokens": changed}, path, {key: says[key] for key in ("hash", "per_reference_token")})
    with pytest.raises(InputError, match="it has no seal; earlier versions made none"):
        read()


def test_windows_and_parts_in_the_place_of_others_are_refused(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    one, other = windows_of(tmp_path, tokenizer, 0), windows_of(tmp_path, tokenizer, 1)
    one()
    (path,) = tmp_path.glob("windows/*.safetensors")
    path.rename(tmp_path / "first")
    other()
    (theirs,) = tmp_path.glob("windows/*.safetensors")
    (tmp_path / "first").rename(theirs)
    with pytest.raises(InputError, match="of other texts"):
        other()
    store = Store(tmp_path)
    parts = []
    for checkpoint in (CHECKPOINT, OTHER):
        store.write(checkpoint, rows_of(PLAN, checkpoint, **MEASURED))
        parts.append(next(path for path in tmp_path.glob("checkpoints/*.parquet") if path not in parts))
    parts[0].write_bytes(parts[1].read_bytes())
    with pytest.raises(InputError, match=f"{parts[0]}: holds another checkpoint than {CHECKPOINT}; remove it"):
        store.read(CHECKPOINT)


def test_a_part_edited_by_hand_or_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(CHECKPOINT, rows_of(PLAN, CHECKPOINT, **MEASURED))
    (path,) = tmp_path.glob("checkpoints/*.parquet")
    frame, says = pl.read_parquet(path), pl.read_parquet_metadata(path)
    edited = frame.with_columns(pl.col("loss", "qid") + 0.1)
    edited.write_parquet(path, metadata={"qidbayes.digest": says["qidbayes.digest"]})
    with pytest.raises(
        InputError, match=r"it is not as it was written: its digest is of another content.; remove it to"
    ):
        store.read(CHECKPOINT)
    frame.write_parquet(path)
    with pytest.raises(InputError, match=r"it has no digest; earlier versions wrote none.; remove it to measure again"):
        store.read(CHECKPOINT)


@pytest.mark.parametrize("program", ["polars", "pyarrow", "pandas"])
def test_a_table_edited_and_saved_by_another_program_is_read_as_it_stands(program: str, tmp_path: Path) -> None:
    store, path = Store(tmp_path), tmp_path / "table.parquet"
    store.write(CHECKPOINT, rows_of(PLAN, CHECKPOINT, **MEASURED))
    store.assemble(PLAN, {"plan": PLAN.suite})
    if program == "polars":
        pl.read_parquet(path).with_columns(suite=pl.lit("edited")).write_parquet(path)
    elif program == "pandas":
        pl.read_parquet(path).to_pandas().assign(suite="edited").to_parquet(path)
    else:
        table = pyarrow.parquet.read_table(path)
        column = table.schema.get_field_index("suite")
        table = table.set_column(column, "suite", pyarrow.array(["edited"] * table.num_rows))
        pyarrow.parquet.write_table(table, path)
    assert read_table(path)["suite"].unique().to_list() == ["edited"]
