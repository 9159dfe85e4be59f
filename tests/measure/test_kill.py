"""Runs that are killed, and runs that share a folder, end with the table of an undisturbed one.

Three kills by default; `QIDBAYES_KILLS=20` for twenty.
"""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import polars as pl

from measure.conftest import write_plan
from qidbayes.measure import Plan, load_plan
from qidbayes.measure.run.local import measure
from qidbayes.table import read_table

KILLS = int(os.environ.get("QIDBAYES_KILLS", "3"))
COST = ("seconds_quantize", "seconds_evaluate", "peak_memory_gib")
PROGRAM = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from qidbayes.measure import load_plan
from qidbayes.measure.run.local import measure
plan = load_plan(sys.argv[1])
print("ready", flush=True)
measure(plan, Path(sys.argv[2]))
"""


def start(plan_file: Path, folder: Path) -> subprocess.Popen[str]:
    """Start a run in a process of its own; returns once its imports are done."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(plan_file), str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def table_of(folder: Path) -> pl.DataFrame:
    return read_table(folder / "table.parquet").drop(COST)


def test_killed_runs_end_with_the_same_table(plan_file: Path, tmp_path: Path) -> None:
    """Where evaluation ends early in places."""
    plan_file = write_plan(tmp_path, lambda text: text.replace("tokens = 1_024", "tokens = 4_096\nuntil = 0.1"))
    plan = load_plan(plan_file)
    began = time.perf_counter()
    measure(plan, tmp_path / "undisturbed")
    took = time.perf_counter() - began
    wanted = table_of(tmp_path / "undisturbed")
    moments = random.Random(0)
    left = []
    for kill in range(KILLS):
        folder = tmp_path / f"killed-{kill}"
        process = start(plan_file, folder)
        time.sleep(moments.uniform(0, 1.2 * took))
        process.kill()
        process.wait()
        left.append(len(list(folder.glob("checkpoints/*.parquet"))))
        outcome = measure(plan, folder)
        assert (outcome.failed, outcome.elsewhere) == ((), ()), f"kill {kill}"
        assert table_of(folder).equals(wanted), f"kill {kill}, after {left[-1]} checkpoints"
    assert min(left) < len(plan.checkpoints)  # at least one kill came before the end


def test_two_runs_share_a_folder(plan: Plan, plan_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    both = [start(plan_file, folder) for _ in range(2)]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    measure(plan, tmp_path / "alone")
    assert table_of(folder).equals(table_of(tmp_path / "alone"))
