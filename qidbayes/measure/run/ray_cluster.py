"""A plan, carried out by a Ray cluster: a task is a checkpoint.

Which node a task runs on, what happens when a node dies or when a new one is started is Ray's affair. A task leaves
what it measured in the store, so that one that is run a second time finds what the first had finished; where a try that
Ray has given up still holds its claim, the checkpoint is asked for again a little later.
"""

import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qidbayes.errors import InputError
from qidbayes.measure.plan.cost import gpu_bytes
from qidbayes.measure.plan.plan import Checkpoint, Plan
from qidbayes.measure.plan.shard import longest_first
from qidbayes.measure.run.outcome import Outcome, finish
from qidbayes.measure.run.processes import begin
from qidbayes.measure.run.progress import Reporter
from qidbayes.measure.storage.results import Store

RETRIES = 3  # of a task whose worker or node died
_STATISTICS = "RAY_USAGE_STATS_ENABLED"
_PAUSES = (0, 5, 30, 90)  # seconds before what was held is asked for again; a lock of a dead machine may last that long
_CONTEXT = 2**30  # bytes of a GPU that a process takes besides its tensors


def measure_on_ray(
    plan: Plan,
    folder: Path | str,
    reporter: Reporter | None = None,
    checkpoints: Sequence[Checkpoint] | None = None,
    address: str | None = None,
) -> Outcome:
    """Measure what the plan asks for and the folder does not hold yet, on the machines of a Ray cluster.

    Every node needs this package with its extra `measure`, the plan's local files under the same paths, and `folder`:
    a path on a file system that all nodes share, or the address of an object store.

    Parameters
    ----------
    plan, folder, reporter, checkpoints
        As `qidbayes.measure.run.local.measure` takes them; the reporter is told of whole checkpoints.
    address
        The cluster's (`auto`, `host:6379`), of which this machine is a node; None for RAY_ADDRESS, or else the Ray that
        runs on this machine, or a new one of this machine alone. Where the cluster has GPUs, a task takes a part of one
        or a whole one (`share_of_gpu`).

    Raises
    ------
    InputError
        If Ray is not installed or not there, a quantizer's settings or a local text cannot be used, or what workers
        measured is not in the folder here.
    """
    try:
        import ray
    except ImportError as error:
        raise InputError("--executor ray: Ray is not installed; pip install 'qidbayes[ray]'") from error
    _check_address(address)
    reporter = reporter or Reporter()
    where = folder if isinstance(folder, str) and "://" in folder else Path(folder).absolute()
    store = Store(where)
    mine = plan.checkpoints if checkpoints is None else checkpoints
    try:
        with _without_statistics():
            ray.init(address=address, log_to_driver=False, configure_logging=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(f"--address {address}: no Ray cluster answers there ({error})") from error
    try:
        gpus = ray.cluster_resources().get("GPU", 0) > 0
        begun = ray.remote(_begin).options(num_cpus=1, num_gpus=int(gpus), max_retries=RETRIES)
        versions, memory = _answer(begun.remote(plan, where))
        shares = {checkpoint: share_of_gpu(plan, checkpoint, memory) if memory else int(gpus) for checkpoint in mine}
        left = [checkpoint for checkpoint in longest_first(plan) if checkpoint in mine]
        lost: dict[Checkpoint, str] = {}
        for pause in _PAUSES:
            if left:
                time.sleep(pause)
                left, died = _round(plan, where, left, shares, reporter)
                lost |= died
    finally:
        ray.shutdown()
    done = [checkpoint for checkpoint in mine if checkpoint not in left and checkpoint not in lost]
    absent = next((checkpoint for checkpoint in done if not store.read(checkpoint)), None)
    if absent is not None:
        raise InputError(
            f"{where}: what the workers measured of {absent} is not here; give a folder that all nodes share, or the "
            "address of an object store"
        )
    return finish(store, plan, mine, versions, left, [f"{checkpoint}: {why}" for checkpoint, why in lost.items()])


@contextmanager
def _without_statistics() -> Iterator[None]:
    """Start Ray without its usage statistics; the environment is as before afterwards."""
    before = os.environ.get(_STATISTICS)
    os.environ[_STATISTICS] = "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_STATISTICS]
        else:
            os.environ[_STATISTICS] = before


def _check_address(address: str | None) -> None:
    """Refuse at once a head that is not there: Ray asks for it for five minutes, and then ends the process."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        return  # `auto`, `local`
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"--address {address}: no Ray cluster answers there ({error}); give host:6379, or auto"
        ) from error


def share_of_gpu(plan: Plan, checkpoint: Checkpoint, memory: int) -> float:
    """Return how much of a GPU with so many bytes of memory a checkpoint takes: a whole one, a half, a third …

    Never more than one: a model without room on it goes past it layer by layer.

    Examples
    --------
    >>> from qidbayes.measure import load_plan
    >>> from qidbayes.resources import shipped
    >>> pythia = load_plan(shipped("measurements") / "pythia" / "plan.toml")
    >>> [share_of_gpu(pythia, checkpoint, 80 * 2**30) for checkpoint in pythia.checkpoints[::20]]
    [0.5, 0.5, 1.0, 1.0, 1.0, 1.0]
    """
    fit = memory // (gpu_bytes(plan, checkpoint) + _CONTEXT)
    return 1 / fit if fit > 1 else 1.0


def _round(
    plan: Plan,
    where: Path | str,
    checkpoints: Sequence[Checkpoint],
    shares: Mapping[Checkpoint, float],
    reporter: Reporter,
) -> tuple[list[Checkpoint], dict[Checkpoint, str]]:
    """Ask for each checkpoint once; returns those that somebody holds, and why those were lost whose workers died."""
    import ray

    task = ray.remote(_carry_out)
    shared = ray.put(plan)  # once, and not with every task
    under_way = {}
    for checkpoint in checkpoints:
        share = shares[checkpoint]
        options = task.options(name=str(checkpoint), num_cpus=1, num_gpus=share, max_retries=RETRIES)
        under_way[options.remote(shared, where, checkpoint, share)] = checkpoint
    held = []
    lost = {}
    while under_way:
        (future,), _ = ray.wait(list(under_way), num_returns=1)
        checkpoint = under_way.pop(future)
        reporter.checkpoint(checkpoint)
        try:
            if not _answer(future):
                held.append(checkpoint)
                continue
        except ray.exceptions.RayError as error:
            lost[checkpoint] = str(error).splitlines()[0]
        reporter.done(plan.rows_of(checkpoint))
    return held, lost


def _answer(future: Any) -> Any:
    """What a task returned; what it raised, without what Ray wraps around it."""
    import ray

    try:
        return ray.get(future)
    except ray.exceptions.RayTaskError as error:
        raise error.cause or error from None


def _begin(plan: Plan, where: Path | str) -> tuple[dict[str, str], int]:
    """In a worker: the versions of its packages, and its GPU's bytes (0 where there is none)."""
    import torch

    gpu = torch.cuda.is_available()
    return begin(plan, where), torch.cuda.get_device_properties(0).total_memory if gpu else 0


def _carry_out(plan: Plan, where: Path | str, checkpoint: Checkpoint, share: float) -> bool:
    import torch

    from qidbayes.measure.run.local import silent_run

    if torch.cuda.is_available() and share < 1:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(share - _CONTEXT / total)  # which the sweep keeps within
    return silent_run(plan, where).carry_out(checkpoint, patient=True)
