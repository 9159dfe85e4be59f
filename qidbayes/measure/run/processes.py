"""A plan, carried out by several processes of this machine: each measures one checkpoint at a time.

What they measure is what one process would: a checkpoint's numbers depend on no other. The process that hands the work
out imports no torch, so that it does not add a model's worth of memory and seconds of its own.
"""

import multiprocessing
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from pathlib import Path

from qidbayes.errors import InputError
from qidbayes.measure.plan.plan import Checkpoint, Plan
from qidbayes.measure.plan.shard import longest_first
from qidbayes.measure.run.outcome import Outcome, finish
from qidbayes.measure.run.progress import Reporter
from qidbayes.measure.storage.results import Store


def measure_in_processes(
    plan: Plan,
    folder: Path | str,
    jobs: int,
    reporter: Reporter | None = None,
    checkpoints: Sequence[Checkpoint] | None = None,
) -> Outcome:
    """Measure what the plan asks for and the folder does not hold yet, `jobs` checkpoints at a time.

    Parameters
    ----------
    plan, folder, reporter, checkpoints
        As `qidbayes.measure.run.local.measure` takes them; the reporter is told of whole checkpoints.
    jobs
        Processes; they share this machine's cores evenly, and its first GPU if it has one.

    Raises
    ------
    InputError
        If a quantizer's settings or a local text cannot be used, or a process dies (for lack of memory, say). What had
        been measured by then is kept.
    """
    reporter = reporter or Reporter()
    store = Store(folder)
    mine = plan.checkpoints if checkpoints is None else checkpoints
    elsewhere = []
    # Spawned, not forked: a fork would inherit locks of polars' and torch's threads, and no GPU survives one.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, _share_cores, (jobs,)) as pool:
        try:
            versions = pool.submit(begin, plan, folder).result()
            order = [checkpoint for checkpoint in longest_first(plan) if checkpoint in mine]
            under_way = {pool.submit(_carry_out, plan, folder, checkpoint): checkpoint for checkpoint in order}
            for future in as_completed(under_way):
                checkpoint = under_way[future]
                reporter.checkpoint(checkpoint)
                if not future.result():
                    elsewhere.append(checkpoint)
                reporter.done(plan.rows_of(checkpoint))
        except BrokenProcessPool as error:
            raise InputError(
                f"one of {jobs} processes died, perhaps for lack of memory; what was measured is kept in {folder}: "
                "run again, with fewer --jobs"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)
    return finish(store, plan, mine, versions, elsewhere)


def _share_cores(jobs: int) -> None:
    """Runs first in every worker."""
    import torch

    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(max(1, torch.get_num_threads() // jobs))


def _end_with_parent() -> None:
    """However the process that hands out the work ends, killed too: nobody would take what is measured after it."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def begin(plan: Plan, folder: Path | str) -> dict[str, str]:
    """Refuse in a worker what cannot be used, before the first download; returns the versions of its packages."""
    from qidbayes.measure.inputs.fingerprint import versions
    from qidbayes.measure.run.local import silent_run

    silent_run(plan, folder)
    return versions()


def _carry_out(plan: Plan, folder: Path | str, checkpoint: Checkpoint) -> bool:
    from qidbayes.measure.run.local import silent_run

    return silent_run(plan, folder).carry_out(checkpoint)
