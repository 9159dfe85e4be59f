"""Several processes measure what one does, and leave no one behind."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qidbayes.errors import InputError
from qidbayes.measure import Plan, load_plan
from qidbayes.measure.run.local import measure
from qidbayes.measure.run.processes import measure_in_processes
from qidbayes.measure.run.progress import Reporter
from qidbayes.table import read_table

COST = ("seconds_quantize", "seconds_evaluate", "peak_memory_gib")


class Counting(Reporter):
    def __init__(self) -> None:
        self.cells = 0

    def done(self, cells: int) -> None:
        self.cells += cells


def test_two_processes_give_the_table_of_one(plan: Plan, tmp_path: Path) -> None:
    counting = Counting()
    outcome = measure_in_processes(plan, tmp_path / "two", 2, counting)
    assert (outcome.rows, outcome.failed, outcome.elsewhere, counting.cells) == (12, (), (), 12)
    measure(plan, tmp_path / "one")
    one, two = (read_table(tmp_path / name / "table.parquet").drop(COST) for name in ("one", "two"))
    assert two.equals(one)


def test_a_mistake_in_the_plan_reaches_the_caller(tmp_path: Path, plan_file: Path) -> None:
    plan_file.write_text(re.sub('path = "[^"]*calibration.txt"', 'path = "nowhere.txt"', plan_file.read_text()))
    with pytest.raises(InputError, match=r"nowhere\.txt"):
        measure_in_processes(load_plan(plan_file), tmp_path / "run", 1)


def test_workers_end_with_the_process_that_was_killed(plan_file: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "qidbayes", "measure", str(plan_file), "-j", "2", "-o", str(tmp_path / "run")]
    process = subprocess.Popen(command)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + 300
    while not list((tmp_path / "run").glob("checkpoints/*.lock")):  # a worker is at work
        assert time.monotonic() < deadline
        time.sleep(0.05)
    workers = [int(pid) for pid in children.read_text().split()]
    process.kill()
    process.wait()
    assert len(workers) >= 2
    while not all(map(ended, workers)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def ended(pid: int) -> bool:
    """Whether a process is gone, or is a zombie that nobody has taken note of."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
