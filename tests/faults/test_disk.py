"""Disks that are full, folders and files without permission: nothing half-written, and a message that helps.

Tried: 8 kinds of file × 4 sizes of what is left of the disk × onto nothing or onto an older file; the same 8 on a
file system that really is full, and into a folder that may not be written to; 5 readers × a file and a folder that may
not be read; standard output that is full.
"""

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import qidbayes as qb
from faults.artifacts import Writer, writers
from qidbayes.law import load_law
from qidbayes.measure import load_plan
from qidbayes.table import read_table

NOBODY = 65534


@pytest.fixture(scope="module")
def every() -> Iterator[dict[str, Writer]]:
    """Every writer; the report without its figures, which take a minute to draw."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qidbayes.reports.report._sections", lambda *_: [lambda: "<p>text</p>" * 1000])
        yield writers()


@contextmanager
def room(size: int) -> Iterator[None]:
    """Let no file grow beyond `size` bytes: to the program that is a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may do anything: permissions are tried as somebody who may not."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_full_disk(every: dict[str, Writer], tmp_path: Path) -> None:
    tried = 0
    for name, write in every.items():
        path = tmp_path / name
        write(path)
        whole = path.read_bytes()
        for left in (0, 1, len(whole) // 2, len(whole) - 1):
            for before in (None, b"older"):
                path.unlink() if before is None else path.write_bytes(before)
                with room(left), pytest.raises(qb.InputError, match="free some space, or choose another path") as told:
                    write(path)
                assert str(told.value).startswith(f"{path}: cannot be written (File too large")
                assert [p.name for p in tmp_path.iterdir()] == ([] if before is None else [name])
                assert before is None or path.read_bytes() == before
                tried += 1
        path.unlink()
    assert tried == 8 * 4 * 2


FULL = """
import sys
from pathlib import Path
from faults.artifacts import writers
import qidbayes as qb
import qidbayes.reports.report as page
page._part = lambda *_: "<p>text</p>" * 1000
folder, refused = Path(sys.argv[1]), 0
every = writers()
(folder / "filler").write_bytes(bytes(64 * 1024))
for name, write in every.items():
    try:
        write(folder / name)
    except qb.InputError as error:
        assert "No space left on device); free some space" in str(error), error
        refused += 1
    assert refused and [p.name for p in folder.iterdir()] == ["filler"], list(folder.iterdir())
print(refused)
"""


def test_a_file_system_that_is_full(tmp_path: Path) -> None:
    """A file system of 64 KiB, all of them taken, in a namespace of its own."""
    mount = f"mount -t tmpfs -o size=64k none {tmp_path} || exit 77; exec {sys.executable} -c '{FULL}' {tmp_path}"
    tests = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": f"{tests}:{tests.parent}"}
    unshare = ["unshare", "--mount", *(["--map-root-user"] if os.geteuid() else []), "sh", "-c", mount]
    done = subprocess.run(unshare, capture_output=True, text=True, env=environment)
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip(f"no file system may be mounted here: {done.stderr.strip()}")
    assert (done.returncode, done.stdout.strip()) == (0, "8"), done.stderr


def test_a_folder_that_may_not_be_written_to(every: dict[str, Writer], tmp_path: Path) -> None:
    for name, write in every.items():
        write(tmp_path / name)  # what is imported late may lie where nobody else may look
        (tmp_path / name).unlink()
    _open_up_to(tmp_path)
    tmp_path.chmod(0o555)
    try:
        for name, write in every.items():
            for path in (tmp_path / name, tmp_path / "below" / name):
                with as_nobody(), pytest.raises(qb.InputError, match=r"\(Permission denied\); choose another path"):
                    write(path)
    finally:
        tmp_path.chmod(0o755)
    assert list(tmp_path.iterdir()) == []


READERS: dict[str, Callable[[Path], object]] = {
    "mine.csv": read_table,
    "mine.parquet": read_table,
    "mine.nc": qb.load_fit,
    "law.toml": load_law,
    "plan.toml": load_plan,
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("closed", ["file", "folder"])
def test_a_file_that_may_not_be_read(name: str, closed: str, tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    path = folder / name
    path.write_text("anything")
    _open_up_to(tmp_path)
    (path if closed == "file" else folder).chmod(0)
    try:
        with as_nobody(), pytest.raises(qb.InputError, match=r"cannot be read .Permission denied") as told:
            READERS[name](path)
        assert str(told.value).startswith(str(path))
    finally:
        folder.chmod(0o755)


def _open_up_to(folder: Path) -> None:
    """Let others enter pytest's folders."""
    for parent in (folder, *folder.parents):
        if parent.owner() == Path.home().owner() and "pytest" in str(parent):
            parent.chmod(0o755)


def test_full_standard_output_exits_2(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "qidbayes", "laws"], stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path
        )
    assert (done.returncode, done.stderr) == (2, "qidbayes: standard output: No space left on device\n")
