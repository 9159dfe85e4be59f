"""docs/measure.sbatch under a real Slurm: munge, slurmctld and slurmd, started on loopback (`make check-slurm`)."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from measure.conftest import small_model, write_plan
from qidbayes.measure import Plan, load_plan
from qidbayes.measure.plan.shard import shard_of
from qidbayes.measure.run.local import measure
from qidbayes.measure.storage.results import Store
from qidbayes.table import read_table

COST = ("seconds_quantize", "seconds_evaluate", "peak_memory_gib")
ROOT = Path(__file__).parents[2]
STEPS = range(100, 900, 100)
TASKS = 4
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")
MISSING = [name for name in PROGRAMS if shutil.which(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"no {', '.join(MISSING)}: apt install slurmctld slurmd munge"),
    pytest.mark.skipif(os.getuid() != 0, reason="slurmd wants root"),
]
CONF = """
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """A cluster of one node; yields what runs one of Slurm's commands and returns what it printed."""
    folder = tmp_path / "slurm"
    for name in ("state", "spool", "bin"):
        (folder / name).mkdir(parents=True)
    (folder / "key").write_bytes(os.urandom(1024))
    (folder / "key").chmod(0o600)
    tmp_path.chmod(0o755)
    host = socket.gethostname().split(".")[0]
    conf = folder / "slurm.conf"
    cpus = min(2, os.cpu_count() or 1)
    conf.write_text(CONF.format(host=host, folder=folder, ports=free_ports(2), cpus=cpus))
    # The console script, of this checkout.
    script = folder / "bin" / "qidbayes"
    script.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m qidbayes "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("SLURM_CONF", str(conf))
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    munge = f"munged --foreground --force --key-file={folder}/key --socket={folder}/munge.socket"
    daemons = [
        f"{munge} --pid-file={folder}/munged.pid --log-file={folder}/munged.log --seed-file={folder}/seed",
        "slurmctld -D",
        f"slurmd -D -N {host}",
    ]
    with (folder / "daemons.log").open("w") as log:
        started = []
        try:
            for command in daemons:
                started.append(subprocess.Popen(command.split(), stdout=log, stderr=log))
                time.sleep(2)
            wait_until(lambda: "idle" in run("sinfo", "--noheader"), 120)
            yield run
        finally:
            run("scancel", "--user=root", "--quiet")
            for process in reversed(started):
                process.terminate()
                process.wait(timeout=60)


def run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout


def wait_until(true: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture
def long_plan(tmp_path: Path) -> Plan:
    for step in STEPS:
        small_model(step).save_pretrained(tmp_path / "models" / f"step{step}")
    path = write_plan(
        tmp_path,
        lambda text: (
            text.replace("[100, 200, 400]", str(list(STEPS)))
            .replace("1_024", "65_536")
            .replace("windows = 8", "windows = 64")
        ),
    )
    return load_plan(path)


def test_an_array_of_shards_one_of_them_requeued(slurm: Callable[..., str], long_plan: Plan, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    said = slurm(
        "sbatch", f"--array=1-{TASKS}", f"--output={tmp_path}/task-%a.out", "--parsable",
        str(ROOT / "docs" / "measure.sbatch"), str(tmp_path / "plan.toml"), str(folder),
    )  # fmt: skip
    job = said.strip()
    assert job.isdigit()
    store = Store(folder)
    first = shard_of(long_plan, 1, TASKS)
    wait_until(lambda: bool(store.read(first[0])), 600)
    slurm("scontrol", "requeue", f"{job}_1")
    wait_until(lambda: slurm("squeue", "--noheader", f"--jobs={job}").strip() == "", 1200)
    shown = slurm("scontrol", "show", "job", job)
    tasks = dict(re.findall(r"ArrayTaskId=(\d+).*?ExitCode=(\S+)", shown, re.S))
    requeued = dict(re.findall(r"ArrayTaskId=(\d+).*?Restarts=(\d+)", shown, re.S))
    print(f"\n{TASKS} tasks, exit codes {tasks}, restarts {requeued}")
    outputs = [(tmp_path / f"task-{task}.out").read_text() for task in range(1, TASKS + 1)]
    assert set(tasks.values()) == {"0:0"}, outputs
    assert requeued["1"] == "1"
    assert all("left to another run" not in output for output in outputs)

    measure(long_plan, tmp_path / "plain")
    on_slurm, plain = (read_table(tmp_path / name / "table.parquet").drop(COST) for name in ("run", "plain"))
    assert len(plain) == 4 * len(STEPS)
    assert on_slurm.equals(plain)
