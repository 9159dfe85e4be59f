"""Writing that is stopped: by `kill -9` and by Ctrl-C, at random moments; and files that were cut short.

Tried by default: 20 kills and 20 interrupts of a process that does nothing but write (`QIDBAYES_KILLS=200` for more);
Ctrl-C while sampling, while chains are started, while a file is made and on the command line; and 20 cuts of each kind
of file that says how long it is.
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from plain import plain

import qidbayes as qb
from faults.artifacts import fit, table
from qidbayes.atomic import write_whole
from qidbayes.cli import interrupts
from qidbayes.cli.progress import sampling
from qidbayes.infer import threads
from qidbayes.table import read_table, write_table

KILLS = int(os.environ.get("QIDBAYES_KILLS", "20"))
# What every artifact is written through, with two contents in turn.
WRITES = """
import sys
from qidbayes.atomic import write_whole
contents = [letter * 300_000 for letter in (b"A", b"B")]
print("ready", flush=True)
while True:
    for content in contents:
        write_whole(sys.argv[1], content)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_writer_leaves_the_old_file_or_the_new_one(how: signal.Signals, tmp_path: Path) -> None:
    path, moments, found = tmp_path / "fit.nc", random.Random(0), Counter[str]()
    for _ in range(KILLS):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITES, str(path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(moments.uniform(0, 0.05))
        process.send_signal(how)
        process.wait(60)
        process.stdout.close()
        if path.exists():
            content = path.read_bytes()
            assert content in (b"A" * 300_000, b"B" * 300_000)
        found["whole" if path.exists() else "nothing yet"] += 1
        path.unlink(missing_ok=True)
        left = list(tmp_path.iterdir())
        assert all(other.name.startswith(".fit-") for other in left)  # hidden, and no reader is shown them
        assert how == signal.SIGKILL or not left
        for other in left:
            other.unlink()
    assert found.total() == KILLS and found["whole"]


@pytest.fixture
def heard() -> Iterator[None]:
    """A shell's background job ignores SIGINT, and so would what it starts; a signal that is handled is heard again."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
def test_ctrl_c_stops_the_sampling() -> None:
    """All chains stop within a block, not when they have drawn to the end."""
    calls, after = [0], [0]

    def interrupt(done: int, total: int) -> None:
        assert threading.current_thread() is not threading.main_thread()
        calls[0] += 1
        if calls[0] == 3:
            os.kill(os.getpid(), signal.SIGINT)
        after[0] += calls[0] > 3

    with pytest.raises(KeyboardInterrupt):
        qb.fit(qb.load_table("pythia"), plain("unified"), draws=100_000, random_seed=0, progress=interrupt)
    assert after[0] < 400  # of 4,000 blocks; the main thread looks ten times a second


def test_ctrl_c_stops_the_chains_that_run_while_others_are_started(monkeypatch: pytest.MonkeyPatch) -> None:
    started, calls = [0], [0]

    class Thread(threading.Thread):
        def start(self) -> None:
            started[0] += self.name.startswith(threads.NAME)
            if started[0] == 3:  # one that waits for the chains, and the first of them
                raise KeyboardInterrupt
            super().start()

    def count(done: int, total: int) -> None:
        calls[0] += 1

    monkeypatch.setattr(threading, "Thread", Thread)
    with pytest.raises(KeyboardInterrupt):
        qb.fit(qb.load_table("pythia"), plain("unified"), draws=100_000, random_seed=0, progress=count)
    assert started[0] == 3
    assert calls[0] < 100  # of the 1,010 blocks of the chain that ran


def test_ctrl_c_while_a_file_is_made_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch = Path.touch

    def interrupted(path: Path, *arguments: Any, **named: Any) -> None:
        touch(path, *arguments, **named)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "touch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "fit.nc", b"A")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("heard")
def test_ctrl_c_exits_130_and_leaves_nothing(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "qidbayes", "fit", "pythia", "--draws", "1000000"], cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        time.sleep(5)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode in (130, -signal.SIGINT)
    *before, last = error.strip().splitlines()
    assert (out, last) == ("", "qidbayes: stopped")
    assert all("Ctrl-C stops it" in line for line in before if line)  # that so many draws will take their time
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["mine.parquet", "mine.nc"])
def test_a_part_of_a_file_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    write_table(table(), path) if name.endswith("parquet") else fit().save(path)
    whole = path.read_bytes()
    for length in random.Random(0).sample(range(len(whole)), 20):
        path.write_bytes(whole[:length])
        with pytest.raises(qb.InputError, match=r"copy it again|write it again") as told:
            read_table(path) if name.endswith("parquet") else qb.load_fit(path)
        assert str(told.value).startswith(str(path))


def test_ctrl_c_that_was_swallowed_is_raised_with_the_next_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    with sampling() as tell:
        tell(1, 2)
        monkeypatch.setattr(interrupts, "_came", [signal.SIGINT])
        with pytest.raises(KeyboardInterrupt):
            tell(2, 2)


def test_ctrl_c_that_python_drops_is_raised_again_and_not_written_about() -> None:
    # What a callback of the garbage collector's raises is dropped, its traceback on stderr; JAX has such a callback.
    code = """
import gc, signal, time
from qidbayes.cli import interrupts
def collected(phase, info):
    if phase == "stop":
        signal.raise_signal(signal.SIGINT)
interrupts.listen()
gc.callbacks.append(collected)
gc.collect()
gc.callbacks.clear()
print("dropped", interrupts.came())
try:
    time.sleep(30)
except KeyboardInterrupt:
    print("raised again")
time.sleep(0.5)
print("once")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["dropped True", "raised again", "once"]
