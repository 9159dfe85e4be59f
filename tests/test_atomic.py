"""What is written keeps what the file before it was: its permissions, its place behind a link, its long name."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

import qidbayes as qb
from qidbayes.atomic import refuse_unwritable, replacing, write_whole


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o664, 0o755, 0o200])
def test_a_file_keeps_its_permissions(mode: int, tmp_path: Path, umask: None) -> None:
    path = tmp_path / "mine.nc"
    path.write_bytes(b"older")
    path.chmod(mode)
    with replacing(path) as beside:
        # While it is written nobody else may read what only its owner may.
        assert stat.S_IMODE(beside.stat().st_mode) == 0o600
        beside.write_bytes(b"newer")
    assert (stat.S_IMODE(path.stat().st_mode), list(tmp_path.iterdir())) == (mode, [path])
    path.chmod(0o600)
    assert path.read_bytes() == b"newer"


def test_a_new_file_has_the_permissions_that_open_gives(tmp_path: Path, umask: None) -> None:
    write_whole(tmp_path / "ours", b"x")
    (tmp_path / "theirs").write_bytes(b"x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "theirs").stat().st_mode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may write to a file of another")
def test_a_file_keeps_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "theirs.nc"
    path.write_bytes(b"older")
    os.chown(path, 65534, 65534)
    write_whole(path, b"newer")
    assert (path.stat().st_uid, path.stat().st_gid, path.read_bytes()) == (65534, 65534, b"newer")


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize("there", [True, False])
def test_a_link_leads_to_the_file_that_is_written(absolute: bool, there: bool, tmp_path: Path) -> None:
    real = tmp_path / "big-disk" / "real.nc"
    real.parent.mkdir()
    if there:
        real.write_bytes(b"older")
    middle, link = tmp_path / "middle.nc", tmp_path / "link.nc"
    middle.symlink_to(real if absolute else Path("big-disk") / "real.nc")
    link.symlink_to("middle.nc")
    write_whole(link, b"newer")
    assert link.is_symlink() and middle.is_symlink() and not real.is_symlink()
    assert real.read_bytes() == link.read_bytes() == b"newer"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["big-disk", "link.nc", "middle.nc", "real.nc"]


def test_what_may_not_be_written_to_is_refused(tmp_path: Path) -> None:
    """Root may write to any file, but one that has no permission to write for anybody was meant to stay."""
    kept = tmp_path / "kept.nc"
    kept.write_bytes(b"older")
    kept.chmod(0o444)
    loop = tmp_path / "loop.nc"
    loop.symlink_to("loop.nc")
    link = tmp_path / "link.nc"
    link.symlink_to("kept.nc")
    os.mkfifo(tmp_path / "pipe.nc")
    (tmp_path / "device.nc").symlink_to("/dev/null")
    before = sorted(tmp_path.iterdir())
    for path, reason in (
        (kept, "Permission denied"),
        (link, "Permission denied"),
        (loop, "Too many levels of symbolic links"),
        (tmp_path, "Is a directory"),
        (tmp_path / "pipe.nc", "it is no plain file"),
        (tmp_path / "device.nc", "it is no plain file"),
        (tmp_path / ("x" * 256), "File name too long"),
        (kept / "below.nc", "Not a directory"),
    ):
        for write in (lambda path: write_whole(path, b"newer"), refuse_unwritable):
            with pytest.raises(qb.InputError, match="cannot be written") as told:
                write(path)
            assert str(told.value) == f"{path}: cannot be written ({reason}); choose another path"
    assert sorted(tmp_path.iterdir()) == before
    assert kept.read_bytes() == b"older"
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


NAMES = [
    "a" * 252 + ".nc",
    "é" * 126 + ".nc",
    "𝒩" * 63 + ".nc",
    "x" * 242,
    "x." + "y" * 253,
    "." + "z" * 254,
    "a" * 255,
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_names_as_long_as_the_system_allows(name: str, tmp_path: Path) -> None:
    assert len(name.encode()) <= 255
    for content in (b"older", b"newer"):
        with replacing(tmp_path / name) as beside:
            assert beside.suffix == ".nc" or not name.endswith(".nc")
            beside.write_bytes(content)
        assert [p.name for p in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"newer"
    with pytest.raises(RuntimeError), replacing(tmp_path / name):
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_file_is_synced_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was asked of the disk, in order: the whole content, then the name, then the folder that holds the name."""
    path = tmp_path / "fit.nc"
    path.write_bytes(b"older")
    asked: list[tuple[int, int, bytes]] = []
    sync = os.fsync

    def note(descriptor: int) -> None:
        found = os.fstat(descriptor)
        asked.append((found.st_ino, 0 if stat.S_ISDIR(found.st_mode) else found.st_size, path.read_bytes()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    write_whole(path, b"newer, and longer")
    inode, folder = path.stat().st_ino, tmp_path.stat().st_ino
    assert asked == [(inode, 17, b"older"), (folder, 0, b"newer, and longer")]


def test_asking_first_leaves_nothing(tmp_path: Path) -> None:
    refuse_unwritable(tmp_path / "new.nc")
    assert list(tmp_path.iterdir()) == []
