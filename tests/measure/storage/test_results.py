"""The store under two holders of one checkpoint, and under runs that end at the same time."""

import random
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from obstore.store import MemoryStore

from measure.conftest import TINY
from qidbayes.errors import InputError
from qidbayes.measure import load_plan
from qidbayes.measure.plan.plan import Checkpoint, Plan
from qidbayes.measure.storage import object_store
from qidbayes.measure.storage.results import Row, Store

PLAN = load_plan(TINY / "plan.toml")


@pytest.fixture(params=["folder", "object store"])
def where(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path | str:
    if request.param == "folder":
        return tmp_path / "run"
    store = MemoryStore()
    monkeypatch.setattr(object_store, "_open", lambda address: store)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return "s3://bucket/run"


def rows_of(plan: Plan, checkpoint: Checkpoint, **values: object) -> list[Row]:
    """A row for each cell of a checkpoint, as a run would make it."""
    common = {
        "suite": plan.suite, "model": checkpoint.model, "revision": checkpoint.revision, "status": "ok",
        "n_params": checkpoint.n_params, "tokens": checkpoint.tokens, "fingerprint": "f", "dataset": "held-out",
        "loss_16bit": 2.0, "device": "here", "weights": f"of {checkpoint}",
    }  # fmt: skip
    none: Row = {"method": "none", "bits": 16.0, "group_size": None, "settings": ""}
    quantized: list[Row] = [
        {"method": q.name, "bits": float(q.bits), "group_size": q.group_size, "settings": "", "loss": 2.5, "qid": 0.5}
        for q in plan.quantizations_of(checkpoint)
    ]
    blank = dict.fromkeys(
        ("bits_activation", "n_params_active", "expert_tokens", "experts_undersampled", "learning_rate",
         "bits_per_weight", "n_eval_tokens", "seq_len", "loss", "qid", "qid_se",
         "qid_se_quantizer",
         "kld", "kld_se", "kld_se_quantizer",
         "top_agreement", "top_agreement_se", "nats_per_byte_16bit", "nats_per_byte", "source", "error",
         "seconds_quantize", "seconds_evaluate", "peak_memory_gib", "windows_hash", "per_reference_token")
    )  # fmt: skip
    return [{**blank, **common, **cell, **values} for cell in (none, *quantized)]


def test_two_holders_with_different_quantizations_keep_both(where: Path | str) -> None:
    checkpoint = PLAN.checkpoints[0]
    half = len(PLAN.quantizations) // 2
    plans = [replace(PLAN, quantizations=part) for part in (PLAN.quantizations[:half], PLAN.quantizations[half:])]
    threads = [
        threading.Thread(target=lambda plan=plan: Store(where).write(checkpoint, rows_of(plan, checkpoint)))  # type: ignore[misc]
        for plan in plans
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Store(where).planned(PLAN, checkpoint)) == 1 + len(PLAN.quantizations)


@pytest.mark.parametrize("fingerprint, kept", [("f", "ok"), ("newer", "failed")])
def test_a_failure_does_not_replace_what_was_measured_of_the_same(
    where: Path | str, fingerprint: str, kept: str
) -> None:
    checkpoint = PLAN.checkpoints[0]
    store = Store(where)
    store.write(checkpoint, rows_of(PLAN, checkpoint))
    store.write(checkpoint, rows_of(PLAN, checkpoint, status="failed", error="no room", fingerprint=fingerprint))
    assert {row["status"] for row in store.read(checkpoint)} == {kept}


def test_of_runs_that_end_together_the_last_writes_the_whole_table(where: Path | str) -> None:
    """Each writes its checkpoints and then the table; whoever writes the table last must have seen all."""

    def run(number: int) -> None:
        store = Store(where)
        for checkpoint in PLAN.checkpoints[number::4]:
            store.write(checkpoint, rows_of(PLAN, checkpoint))
            store.assemble(PLAN, {"plan": PLAN.suite})

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    content = Store(where)._backend.read("table.parquet")
    assert content is not None
    import polars as pl

    table = pl.read_parquet(content)
    assert len(table) == sum(PLAN.rows_of(checkpoint) for checkpoint in PLAN.checkpoints)
    names = [
        f"{model}@{revision}"
        for model, revision in table.select("model", "revision").unique(maintain_order=True).rows()
    ]
    assert names == [str(checkpoint) for checkpoint in PLAN.checkpoints]


def test_the_same_weights_at_other_tokens_are_found(where: Path | str) -> None:
    one, other, *_ = PLAN.checkpoints
    store = Store(where)
    store.write(one, rows_of(PLAN, one, weights="abc"))
    assert store.with_weights(PLAN, "abc", other.tokens) == str(one)
    assert store.with_weights(PLAN, "abc", one.tokens) is None
    assert store.with_weights(PLAN, "abd", other.tokens) is None
    store.write(one, rows_of(PLAN, one, weights="its own"))  # measured again, from the right file
    assert store.with_weights(PLAN, "abc", other.tokens) is None


def test_a_damaged_part_is_read_or_named(tmp_path: Path) -> None:
    """200 parts with a byte or more changed, or cut short: rows, or an error that says which file to remove."""
    checkpoint, store, found = PLAN.checkpoints[0], Store(tmp_path), Counter[str]()
    store.write(checkpoint, rows_of(PLAN, checkpoint))
    (path,) = tmp_path.glob("checkpoints/*.parquet")
    whole, chances = path.read_bytes(), random.Random(0)
    for case in range(200):
        content = bytearray(whole)
        for _ in range(chances.choice([1, 1, 8, 64])):
            content[chances.randrange(len(content))] = chances.randrange(256)
        path.write_bytes(content[: chances.randrange(len(content))] if case % 4 == 0 else content)
        try:
            store.read(checkpoint)
            found["read"] += 1
        except InputError as error:
            assert str(error).startswith(str(path)) and "remove it to measure again" in str(error)
            found["named"] += 1
    assert found.total() == 200 and found["named"] > 50
