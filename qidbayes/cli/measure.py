"""`qidbayes measure`: a plan in, a table of losses out."""

import os
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qidbayes.cli.output import say, terminal_width
from qidbayes.errors import printable

if TYPE_CHECKING:
    from qidbayes.measure import Plan
    from qidbayes.measure.run.outcome import Outcome


class Shard(click.ParamType[tuple[int, int]]):
    """One part of a plan, as its number and how many parts there are: ``3/8``."""

    name = "I/N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        number, _, count = str(value).partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            self.fail(f"{value!r} is not a shard; give 1/8 to 8/8, say", param, ctx)
        return int(number), int(count)


@click.command()
@click.argument("plan", type=click.Path(path_type=Path))
@click.option("-o", "--output", metavar="RUN", help="Folder or address of the run.  [default: measured/SUITE]")
@click.option("-j", "--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Checkpoints at a time.")
@click.option("--shard", type=Shard(), help="Measure only the i-th of n parts that take about as long, 1/n to n/n.")
@click.option(
    "--executor", type=click.Choice(["local", "ray"]), default="local", show_default=True, help="Who measures."
)
@click.option("--address", help="Of the Ray cluster.  [default: RAY_ADDRESS, or this machine]")
@click.option("--drift", is_flag=True, help="Measure how far training and rounding move weights, instead of losses.")
@click.option("--dry-run", is_flag=True, help="Say what it would take, and measure nothing.")
def measure(
    plan: Path,
    output: str | None,
    jobs: int,
    shard: tuple[int, int] | None,
    executor: str,
    address: str | None,
    drift: bool,
    dry_run: bool,
) -> None:
    """Measure the losses that PLAN asks for, before and after quantization.

    PLAN is a TOML file, or the name of a shipped one (pythia, pythia-full, pythia-released, spectra, llama-qwen, nano,
    tiny). The table grows in the output folder by whole checkpoints; a run that was stopped goes on where it was. With
    --jobs, so many processes share the machine's cores. Several runs may share a folder, one per GPU: each takes the
    checkpoints that no other holds. With --shard, each measures its part of the plan, whatever the others do. RUN may
    also be the address of an object store, such as s3://bucket/runs/mine.

    With --drift, the table is another one (drift.parquet): for every checkpoint how far each weight matrix has moved
    since the checkpoint before it, and how far every quantizer moves it.

    Exit status: 0 done, 1 some cells failed (they are rows with their error, and are tried again next time).
    """
    from qidbayes.errors import InputError
    from qidbayes.measure import load_plan
    from qidbayes.measure.plan.shard import shard_of
    from qidbayes.resources import cache_folder

    if executor == "ray" and jobs > 1:
        raise click.UsageError("--jobs: Ray runs as many checkpoints at a time as its cluster has room for")
    if executor != "ray" and address is not None:
        raise click.UsageError("--address: give --executor ray with it")
    if drift and (executor == "ray" or jobs > 1 or dry_run):
        other = "--executor ray" if executor == "ray" else "--jobs" if jobs > 1 else "--dry-run"
        raise click.UsageError(f"--drift does not go with {other}; several runs may share a folder, or take --shard")
    if cache_folder() is None and "HF_HOME" not in os.environ:
        raise InputError("this user has no home: the hub's files would come into a folder called ~ here; set HF_HOME")
    asked = load_plan(plan_file(plan))
    mine = shard_of(asked, *shard) if shard else asked.checkpoints
    if dry_run:
        _echo_estimate(replace(asked, checkpoints=mine))
        return
    missing = [name for name in ("torch", "transformers", "safetensors") if find_spec(name) is None]
    if missing:
        raise InputError(f"measuring needs {', '.join(missing)}; pip install 'qidbayes[measure]'")
    from qidbayes.measure.run.progress import console_reporter

    where = output or str(Path("measured") / asked.suite)
    cells = sum(asked.rows_of(checkpoint) // (len(asked.evaluation.datasets) if drift else 1) for checkpoint in mine)
    with console_reporter(cells) as reporter:
        if drift:
            from qidbayes.measure.drift.run import measure_drift

            outcome = measure_drift(asked, where, reporter, mine)
        elif executor == "ray":
            from qidbayes.measure.run.ray_cluster import measure_on_ray

            outcome = measure_on_ray(asked, where, reporter, mine, address)
        elif jobs == 1:
            from qidbayes.measure.run.local import measure as run

            outcome = run(asked, where, reporter, mine)
        else:
            from qidbayes.measure.run.processes import measure_in_processes

            outcome = measure_in_processes(asked, where, jobs, reporter, mine)
    _echo_outcome(outcome, asked, cells, where)


def _echo_outcome(outcome: "Outcome", plan: "Plan", cells: int, where: str) -> None:
    for checkpoint in outcome.elsewhere:
        say(f"{checkpoint}: left to another run in {where}", err=True)
    for line in outcome.lost:
        say(f"lost: {line}", err=True)
    if outcome.missing:
        count = len(plan.checkpoints)
        say(f"the table has {count - outcome.missing} of the plan's {count} checkpoints so far", err=True)
    if outcome.table is not None:
        say(str(outcome.table))
    if outcome.failed:
        say(f"{len(outcome.failed)} of {cells} cells failed; run again to try them again:", err=True)
        for line in outcome.failed:
            say(f"  {line}", err=True)
    if outcome.failed or outcome.lost:
        raise click.exceptions.Exit(1)


def plan_file(plan: Path) -> Path:
    """Return a file as it is, else the plan shipped under that name."""
    from qidbayes.resources import shipped

    named = shipped("measurements") / plan / "plan.toml"
    try:
        return named if named.exists() and not plan.exists() else plan
    except OSError:  # no name of a shipped one; reading it says what is wrong
        return plan


def _echo_estimate(plan: "Plan") -> None:
    from qidbayes.cli.layout import Column, draw
    from qidbayes.measure.plan.cost import estimate

    parts = estimate(plan)
    rows: list[tuple[object, ...]] = [
        (p.model, p.checkpoints, p.rows, p.repositories, _gigabytes(p.download_bytes), f"{p.gpu_hours:.2f}")
        for p in parts
    ]
    sums = (sum(p.checkpoints for p in parts), sum(p.rows for p in parts), sum(p.repositories for p in parts))
    size, hours = sum(p.download_bytes for p in parts), sum(p.gpu_hours for p in parts)
    rows.append(("together", *sums, _gigabytes(size), f"{hours:.2f}"))
    names = ("model", "checkpoints", "cells", "repositories", "download", "GPU-hours")
    columns = (tuple(map(str, texts)) for texts in zip(*rows, strict=True))
    table = [Column(name, texts, name != "model") for name, texts in zip(names, columns, strict=True)]
    click.echo(printable(draw(table, terminal_width())))
    disk = _gigabytes(max((part.disk_bytes for part in parts), default=0))
    say(f"\nDisk: {disk} at once; a checkpoint is removed when it has been measured. Texts come on top.")
    say("Repositories are the models' revisions, and files that others have quantized.")
    say("Bytes, and hours of one H200, are estimates (qidbayes/measure/plan/cost.py).")
    say(f"Evaluation sets: {', '.join(texts.name for texts in plan.evaluation.datasets)}.")


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"
