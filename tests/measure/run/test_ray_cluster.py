"""A Ray cluster on this machine: a node is killed while it measures, and the table is that of a plain run.

Nodes are processes of their own. Their GPUs are Ray's word for a number: what is tested is that tasks ask for them.
"""

import importlib.util
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from measure.conftest import small_model, write_plan
from qidbayes.cli.measure import measure as command
from qidbayes.errors import InputError
from qidbayes.measure import Plan, load_plan
from qidbayes.measure.plan.cost import gpu_bytes
from qidbayes.measure.run.local import measure
from qidbayes.measure.run.progress import Reporter
from qidbayes.measure.run.ray_cluster import measure_on_ray, share_of_gpu
from qidbayes.table import read_table

COST = ("seconds_quantize", "seconds_evaluate", "peak_memory_gib")
STEPS = range(100, 900, 100)
CHECKPOINTS = len(STEPS)
ROOT = Path(__file__).parents[3]
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: make check-ray")


@pytest.fixture
def long_plan(tmp_path: Path) -> Plan:
    """Eight checkpoints, each long enough to be killed in."""
    for step in STEPS:
        small_model(step).save_pretrained(tmp_path / "models" / f"step{step}")
    longer = {"[100, 200, 400]": str(list(STEPS)), "1_024": "65_536", "windows = 8": "windows = 64"}

    def change(text: str) -> str:
        for old, new in longer.items():
            assert old in text
            text = text.replace(old, new)
        return text

    return load_plan(write_plan(tmp_path, change))


@contextmanager
def cluster(nodes: int, **resources: int) -> Iterator[tuple[str, list["object"]]]:
    """A head that measures nothing, and nodes that measure one checkpoint at a time."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_agent_register_timeout_ms": "300000", "PYTHONPATH": str(ROOT)}
    from ray.cluster_utils import Cluster

    # Its nodes end when their helpers take more than 15 s to begin: a machine that is very busy fails here.
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **free_ports()})
    try:
        workers = [made.add_node(num_cpus=1, **free_ports(), **resources) for _ in range(nodes)]
        yield made.address, workers
    finally:
        made.shutdown()


def free_ports() -> dict[str, int]:
    """Ports for a node's helpers: where they choose for themselves, the node waits for them to say which."""
    names = ("metrics_agent_port", "runtime_env_agent_port", "dashboard_agent_listen_port", "metrics_export_port")
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in names]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return dict(zip(names, ports, strict=True))


def raylet_of(node: object) -> int:
    return int(node.all_processes["raylet"][0].process.pid)  # type: ignore[attr-defined]


def holders(folder: Path) -> dict[int, str]:
    """The processes that hold a claim, with the claim's name: as the kernel tells, not as the package does."""
    names = {path.stat().st_ino: path.name for path in folder.glob("checkpoints/*.lock") if path.name != ".lock"}
    found = {}
    for line in Path("/proc/locks").read_text().splitlines():
        words = line.split()
        if words[1] == "FLOCK" and int(words[5].rsplit(":", 1)[1]) in names:
            found[int(words[4])] = names[int(words[5].rsplit(":", 1)[1])]
    return found


def parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return -1


class Killer(threading.Thread):
    """Kills a node once a checkpoint is done and the node is at work on another."""

    def __init__(self, folder: Path, raylet: int) -> None:
        super().__init__(daemon=True)
        self.folder, self.raylet = folder, raylet
        self.done_before, self.interrupted = -1, ""

    def run(self) -> None:
        while not self.interrupted:
            done = len(list(self.folder.glob("checkpoints/*.parquet")))
            theirs = [name for pid, name in holders(self.folder).items() if parent_of(pid) == self.raylet]
            if done and theirs:
                os.kill(self.raylet, signal.SIGKILL)
                self.done_before, self.interrupted = done, theirs[0]
            time.sleep(0.01)


@needs_ray
@pytest.mark.slow
def test_a_node_is_killed_and_the_table_is_that_of_a_plain_run(long_plan: Plan, tmp_path: Path) -> None:
    folder = tmp_path / "ray"
    with cluster(2) as (address, nodes):
        killer = Killer(folder, raylet_of(nodes[1]))
        killer.start()
        outcome = measure_on_ray(long_plan, folder, Reporter(), address=address)
    print(f"\nkilled after {killer.done_before} of {CHECKPOINTS} checkpoints, while {killer.interrupted} was measured")
    assert killer.interrupted
    assert 0 < killer.done_before < CHECKPOINTS
    assert (outcome.rows, outcome.failed, outcome.elsewhere, outcome.missing, outcome.lost) == (
        4 * CHECKPOINTS, (), (), 0, ()
    )  # fmt: skip
    measure(long_plan, tmp_path / "plain")
    on_ray, plain = (read_table(tmp_path / name / "table.parquet").drop(COST) for name in ("ray", "plain"))
    assert on_ray.equals(plain)


@needs_ray
@pytest.mark.slow
def test_a_checkpoint_that_kills_every_worker_is_told_and_costs_no_other(plan: Plan, tmp_path: Path) -> None:
    # Its weights are a pipe that is never written to: whoever reads it waits until it is killed.
    stuck = tmp_path / "models" / "step200" / "model.safetensors"
    stuck.unlink()
    os.mkfifo(stuck)
    killed: list[int] = []
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.5):
            for pid, name in holders(tmp_path / "run").items():
                if "step200" in name:
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

    with cluster(1, num_gpus=1) as (address, _):
        thread = threading.Thread(target=kill, daemon=True)
        thread.start()
        outcome = measure_on_ray(plan, tmp_path / "run", address=address)
        over.set()
        thread.join()
    print(f"\n{len(set(killed))} workers killed; {outcome.lost}")
    assert len(set(killed)) == 4  # the first try and three more
    assert (outcome.rows, outcome.missing, len(outcome.lost)) == (8, 1, 1)
    assert outcome.lost[0].startswith("small@step200: ")


@needs_ray
@pytest.mark.slow
def test_mistakes_reach_the_caller(tmp_path: Path, plan_file: Path) -> None:
    with pytest.raises(InputError, match="no Ray cluster answers"):
        measure_on_ray(load_plan(plan_file), tmp_path / "run", address="127.0.0.1:1")
    plan_file.write_text(re.sub('path = "[^"]*calibration.txt"', 'path = "nowhere.txt"', plan_file.read_text()))
    with cluster(1) as (address, _), pytest.raises(InputError, match=r"nowhere\.txt"):
        measure_on_ray(load_plan(plan_file), tmp_path / "run", address=address)


def test_without_ray_the_option_says_what_to_install(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'qidbayes\[ray\]'"):
        measure_on_ray(plan, tmp_path / "run")


def test_a_larger_gpu_takes_more_at_a_time(plan: Plan) -> None:
    checkpoint = plan.checkpoints[0]
    needed = gpu_bytes(plan, checkpoint)
    shares = [share_of_gpu(plan, checkpoint, int(gib * 2**30)) for gib in (4, 8, 16, 80)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == 1.0
    for share, gib in zip(shares[2:], (16, 80), strict=True):
        assert share * gib * 2**30 >= needed


@pytest.mark.parametrize(
    "options, said",
    [
        (["--executor=ray", "--jobs=2"], "--jobs: Ray runs as many checkpoints at a time"),
        (["--address=auto"], "--address: give --executor ray with it"),
    ],
)
def test_options_that_do_not_go_together(plan_file: Path, options: list[str], said: str) -> None:
    done = CliRunner().invoke(command, [str(plan_file), *options])
    assert done.exit_code == 2
    assert said in done.output
