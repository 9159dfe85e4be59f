"""A hundred damaged files and more for every reader; `make fuzz` has a million (checks/fuzz)."""

import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parents[1] / "checks" / "fuzz" / "run.py"
CASES = {"laws": 500, "equations": 3000, "plans": 500, "several": 1500}


def test_damaged_files_are_read_or_refused() -> None:
    """Another seed than the long run's, so that no case is one of its."""
    running = []
    for reader, cases in CASES.items():
        command = [sys.executable, str(RUN), "--reader", reader, "--cases", str(cases), "--seed", "9"]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    said = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0] * len(CASES), said


def test_a_reader_that_breaks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness itself: an exception of another kind, something run, and a file written are all found."""
    monkeypatch.syspath_prepend(RUN.parent)
    (tmp_path / "readers.py").write_text(
        "import os\nfrom types import SimpleNamespace\n"
        "def prepare(folder):\n"
        "    def case(rng):\n"
        "        wrong = [lambda: 1 / 0, lambda: os.system('true'), lambda: open(folder / 'x', 'w').close()]\n"
        "        return rng.choice(wrong), (ValueError,)\n"
        "    return case\n"
        "READERS = {'laws': SimpleNamespace(prepare=prepare, warm_up=100)}\n"
    )
    for name in ("worker.py", "run.py", "damage.py"):
        (tmp_path / name).write_text((RUN.parent / name).read_text())
    command = [sys.executable, str(tmp_path / "run.py"), "--reader", "laws", "--cases", "60"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    for found in ("ZeroDivisionError at readers.py", "os.system", "open ("):
        assert found in done.stderr
