"""A folder and an object store: nothing half-written, nobody's change lost, one holder of a claim.

The object store is obstore's own, in memory, whose conditions are its authors' work. Machines are cache folders.
"""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from obstore.store import MemoryStore

from qidbayes.errors import InputError
from qidbayes.measure.storage import object_store
from qidbayes.measure.storage.backend import Backend, backend_at
from qidbayes.measure.storage.folder import Folder
from qidbayes.measure.storage.object_store import Bucket, check_address

type OnMachine = Callable[[str], Bucket]


@pytest.fixture
def on_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OnMachine:
    """One object store, as each machine sees it; claims are given up after half a second."""
    store = MemoryStore()
    monkeypatch.setattr(object_store, "BEAT", 0.1)
    monkeypatch.setattr(object_store, "PATIENCE", 0.5)

    def seen_from(machine: str) -> Bucket:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / machine))
        return Bucket("s3://bucket/run", store)

    return seen_from


@pytest.fixture(params=["folder", "object store"])
def backends(request: pytest.FixtureRequest, tmp_path: Path, on_machine: OnMachine) -> list[Backend]:
    """One backend, as two processes or machines see it."""
    if request.param == "folder":
        return [Folder(tmp_path / "run"), Folder(tmp_path / "run")]
    return [on_machine("a"), on_machine("b")]


def test_no_change_is_lost(backends: list[Backend]) -> None:
    def count_up(backend: Backend) -> None:
        for _ in range(25):
            backend.update("count", lambda now, path: slowly(path, str(int(now or b"0") + 1)))

    together([lambda backend=backend: count_up(backend) for backend in backends * 2])  # type: ignore[misc]
    assert backends[0].read("count") == b"100"


def slowly(path: Path, text: str) -> None:
    time.sleep(0.001)  # so that another's turn comes between reading and writing
    path.write_text(text)


def together(work: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=one) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_whoever_comes_first_decides(backends: list[Backend]) -> None:
    found: list[str] = []

    def ask(backend: Backend, number: int) -> None:
        found.append(backend.get_or_create("pins/main", lambda path: slowly(path, str(number))).read_text())

    together([lambda p=p, i=i: ask(p, i) for i, p in enumerate(backends * 4)])  # type: ignore[misc]
    assert len(set(found)) == 1
    assert [
        backend.get_or_create("pins/main", lambda path: path.write_text("x") and None).read_text()
        for backend in backends
    ] == [found[0]] * 2
    assert backends[1].names("pins") == ["main"]
    assert backends[1].names("nothing") == []


def test_a_claim_has_one_holder(backends: list[Backend]) -> None:
    holding: list[int] = []
    most, refused, took = 0, 0, 0

    def work(which: int) -> None:
        nonlocal most, refused, took
        for _ in range(30):
            with backends[which].claim("step", patient=False) as mine:
                if not mine:
                    refused += 1
                    continue
                holding.append(which)
                most, took = max(most, len(holding)), took + 1
                time.sleep(0.005)
                holding.remove(which)

    together([lambda: work(0), lambda: work(1)])
    assert (most, took + refused) == (1, 60)
    assert took > 0 < refused


def test_a_write_that_breaks_leaves_what_was_there(backends: list[Backend]) -> None:
    def break_off(_: bytes | None, path: Path) -> None:
        path.write_text("hal")
        raise KeyboardInterrupt

    backends[0].update("part.parquet", lambda _, path: path.write_text("whole") and None)
    with pytest.raises(KeyboardInterrupt):
        backends[0].update("part.parquet", break_off)
    assert backends[1].read("part.parquet") == b"whole"


@pytest.fixture
def no_clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A wall clock that jumps by days, back and forth: claims must not ask it."""
    jumps = iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: 1e9 + (-1) ** next(jumps) * 86_400 * 3)
    yield
    monkeypatch.undo()


def dies_holding(backend: Bucket, name: str) -> None:
    """A claim whose holder is no more: taken, and never changed again."""
    assert backend._take(f"{name}.claim", patient=False) is not None


@pytest.mark.usefixtures("no_clock")
def test_a_dead_machine_is_found_out_by_waiting(on_machine: OnMachine) -> None:
    dead, other = on_machine("dead"), on_machine("other")
    dies_holding(dead, "step100")
    with other.claim("step100", patient=False) as mine:
        assert not mine  # it may be alive
    began = time.monotonic()
    with other.claim("step100", patient=True) as mine:
        assert mine
    assert 0.3 < time.monotonic() - began < 5


@pytest.mark.usefixtures("no_clock")
def test_a_slow_machine_keeps_its_claim(on_machine: OnMachine) -> None:
    slow, other = on_machine("slow"), on_machine("other")
    with slow.claim("step100", patient=False) as first:
        assert first
        for _ in range(3):  # each watches for a beat, together far longer than a dead machine is waited for
            with other.claim("step100", patient=True) as mine:
                assert not mine
        time.sleep(1)
        with other.claim("step100", patient=True) as mine:
            assert not mine
    with other.claim("step100", patient=False) as mine:
        assert mine


def test_a_dead_process_of_this_machine_is_not_waited_for(on_machine: OnMachine) -> None:
    dies_holding(on_machine("one"), "step100")
    with on_machine("one").claim("step100", patient=False) as mine:
        assert mine


def test_a_machine_that_stood_still_does_not_take_its_claim_back(on_machine: OnMachine) -> None:
    still, other = on_machine("still"), on_machine("other")
    lease = still._take("step100.claim", patient=False)
    assert lease is not None
    held = lease._mine
    with other.claim("step100", patient=False):
        pass
    with other.claim("step100", patient=True) as mine:
        assert mine
        assert not lease.beat(held)


@pytest.mark.parametrize(
    "address", ["ftp://host/run", "file:///etc", "memory://run", "python://x", "s3::simplecache://b"]
)
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(InputError, match="not an address that is known; give a folder, or s3://"):
        backend_at(address)


@pytest.mark.parametrize(
    "address",
    [
        "s3://AKIDKEY:SECRET@bucket/run",
        "s3://AKIDKEY:SEC/RET@bucket/run",  # a secret may hold a slash
        "s3://AKIDKEY%3ASECRET%40bucket/run",
        "s3:///AKIDKEY:SECRET@bucket/run",
        "gs://AKIDKEY@bucket/run",
        "az://AKIDKEY:SECRET@container/run",
        "az://container/run?sig=SECRET",
        "az://container/run#SECRET",
        "abfs://container:SECRET@account.dfs.core.windows.net/run",
        "https://AKIDKEY:SECRET@host/run",
        "AKIDKEY:SECRET@s3://bucket/run",
        "s3:/AKIDKEY:SECRET@bucket/run",
        Path("s3://AKIDKEY:SECRET@bucket/run"),
    ],
)
def test_credentials_in_an_address_are_refused_and_not_repeated(
    address: str | Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as told:
        backend_at(address)
    said = str(told.value) + "".join(capsys.readouterr())
    assert not [part for part in ("AKIDKEY", "SECRET", "SEC/RET", "RET@") if part in said]
    assert "give " in said
    assert list(tmp_path.iterdir()) == []  # no folder was named after it


def test_the_address_of_azures_data_lake_names_container_and_account() -> None:
    check_address("abfss://container@account.dfs.core.windows.net/runs/mine")
    check_address("az://$root/run")
    check_address("s3://bucket/pythia@step1000")


def test_addresses_that_read_alike_have_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    store = MemoryStore()
    addresses = ("s3://a/b-c", "s3://a-b/c", "s3://a-b-c", "gs://a/b-c", f"s3://a/{'long' * 100}")
    assert len({Bucket(address, store).scratch for address in addresses}) == len(addresses)
    assert Bucket("s3://a/b-c/", store).scratch == Bucket("s3://a/b-c", store).scratch


def test_a_file_system_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("qidbayes.measure.storage.folder.fcntl.flock", none)
    with (
        pytest.raises(InputError, match=r"has no locks \(Function not implemented\).*Lustre: -o flock"),
        Folder(tmp_path).claim("step100", patient=False),
    ):
        pass
