"""A run kept in an object store: obstore's in memory, and an S3 server on loopback (`make check-object-store`)."""

import importlib.util
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest
from obstore.store import MemoryStore, ObjectStore, from_url

from measure.conftest import small_model, write_plan
from qidbayes.measure import Plan, load_plan
from qidbayes.measure.plan.shard import shard_of
from qidbayes.measure.run.local import measure
from qidbayes.measure.storage import object_store
from qidbayes.table import read_table

COST = ("seconds_quantize", "seconds_evaluate", "peak_memory_gib")
ADDRESS = "s3://bucket/runs/test"


@pytest.fixture
def in_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MemoryStore:
    store = MemoryStore()
    monkeypatch.setattr(object_store, "_open", lambda address: store)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return store


def test_shards_on_two_machines_make_the_table_of_one_run(
    plan: Plan, tmp_path: Path, in_memory: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = []
    for number in (1, 2):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"machine-{number}"))
        outcome = measure(plan, ADDRESS, checkpoints=shard_of(plan, number, 2))
        missing.append(outcome.missing)
        assert (outcome.table, outcome.failed, outcome.elsewhere) == (f"{ADDRESS}/table.parquet", (), ())
    assert missing == [1, 0]
    measure(plan, tmp_path / "folder")
    (tmp_path / "table.parquet").write_bytes(bytes(in_memory.get("table.parquet").bytes()))
    theirs, ours = read_table(tmp_path / "folder" / "table.parquet"), read_table(tmp_path / "table.parquet")
    assert ours.drop(COST).equals(theirs.drop(COST))
    assert not [one for one in in_memory.list().collect() if str(one["path"]).endswith(".claim")]
    # A machine that has never seen the run measures nothing again.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "machine-3"))
    assert measure(plan, ADDRESS).rows == 12
    (tmp_path / "table.parquet").write_bytes(bytes(in_memory.get("table.parquet").bytes()))
    assert read_table(tmp_path / "table.parquet").equals(ours)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server on loopback with one bucket; its conditions are moto's work."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    for key, value in {
        "AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true", "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing", "AWS_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(key, value)
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/bucket", method="PUT")).close()
    yield
    server.stop()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("moto") is None, reason="no moto: make check-object-store")
@pytest.mark.usefixtures("s3")
def test_a_machine_dies_and_another_ends_its_work(tmp_path: Path) -> None:
    steps = list(range(100, 900, 100))
    for step in steps:
        small_model(step).save_pretrained(tmp_path / "models" / f"step{step}")
    path = write_plan(tmp_path, lambda text: text.replace("[100, 200, 400]", str(steps)).replace("1_024", "65_536"))
    store = from_url(ADDRESS)
    machines = []
    for number in (1, 2):
        machines.append(start(path, tmp_path / f"machine-{number}"))
        while not unfinished(tmp_path / f"machine-{number}", store):  # it is at work
            assert machines[-1].poll() is None
            time.sleep(0.02)
    while not unfinished(tmp_path / "machine-1", store):  # it still is, or is again
        assert machines[0].poll() is None
        time.sleep(0.02)
    machines[0].kill()
    machines[0].wait()
    left = unfinished(tmp_path / "machine-1", store)
    assert len(left) == 1
    began = time.monotonic()
    out, err = machines[1].communicate(timeout=1200)
    waited = time.monotonic() - began
    assert machines[1].returncode == 0, err
    print(f"\n{waited:.0f} s after the kill the other had ended, {left} with it")
    assert waited > object_store.PATIENCE - object_store.BEAT  # it was found out by waiting
    assert not [path for path in paths(store) if path.endswith(".claim")]
    assert out.strip() == f"{ADDRESS}/table.parquet"
    measure(load_plan(path), tmp_path / "plain")
    table = pl.read_parquet(out.strip())  # polars, from the address itself
    assert table.drop(COST).equals(pl.read_parquet(tmp_path / "plain" / "table.parquet").drop(COST))


def paths(store: ObjectStore) -> list[str]:
    return [str(one["path"]) for one in store.list().collect()]


def claims_of(cache: Path, store: ObjectStore) -> list[str]:
    """The claims in the store that a machine holds, known by the name it goes by."""
    names = [path.read_bytes() for path in cache.glob("qidbayes/runs/*/neighbours")]
    found = []
    for path in paths(store):
        with suppress(FileNotFoundError):
            if path.endswith(".claim") and bytes(store.get(path).bytes()).startswith(tuple(names)):
                found.append(path)
    return found


def unfinished(cache: Path, store: ObjectStore) -> list[str]:
    """Those of them whose checkpoint has no rows yet: a machine may also be just looking at one that another ended."""
    return [claim for claim in claims_of(cache, store) if claim.replace(".claim", ".parquet") not in paths(store)]


def start(plan_file: Path, cache: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "qidbayes", "measure", str(plan_file), "-o", ADDRESS]
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
