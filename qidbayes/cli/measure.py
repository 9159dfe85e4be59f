"""`qidbayes measure`: a plan in, a table of losses out."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from qidbayes.measure import Plan


@click.command()
@click.argument("plan", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder of the run.  [default: measured/SUITE]")
@click.option("-j", "--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Checkpoints at a time.")
@click.option("--dry-run", is_flag=True, help="Say what it would take, and measure nothing.")
def measure(plan: Path, output: Path | None, jobs: int, dry_run: bool) -> None:
    """Measure the losses that PLAN asks for, before and after quantization.

    PLAN is a TOML file, or the name of a shipped one (pythia, pythia-full, spectra, llama-qwen, nano, tiny). The table
    grows in the output folder by whole checkpoints; a run that was stopped goes on where it was. With --jobs, so many
    processes share the machine's cores. Several runs may share a folder, one per GPU: each takes the checkpoints that
    no other holds.

    Exit status: 0 done, 1 some cells failed (they are rows with their error, and are tried again next time).
    """
    from qidbayes.measure import load_plan

    asked = load_plan(plan_file(plan))
    if dry_run:
        _echo_estimate(asked)
        return
    from qidbayes.measure.progress import console_reporter

    folder = output or Path("measured") / asked.suite
    with console_reporter(sum(asked.rows_of(checkpoint) for checkpoint in asked.checkpoints)) as reporter:
        if jobs == 1:
            from qidbayes.measure.run import measure as run

            outcome = run(asked, folder, reporter)
        else:
            from qidbayes.measure.jobs import measure_in_processes

            outcome = measure_in_processes(asked, folder, jobs, reporter)
    for checkpoint in outcome.elsewhere:
        click.echo(f"{checkpoint}: left to another run in {folder}", err=True)
    if outcome.table is not None:
        click.echo(outcome.table)
    if outcome.failed:
        click.echo(f"{len(outcome.failed)} of {outcome.rows} cells failed; run again to try them again:", err=True)
        for line in outcome.failed:
            click.echo(f"  {line}", err=True)
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
    from qidbayes.measure.estimate import estimate

    line = "{:<36}{:>12}{:>8}{:>14}{:>12}".format
    click.echo(line("model", "checkpoints", "cells", "download", "GPU-hours"))
    parts = estimate(plan)
    for part in parts:
        hours = f"{part.gpu_hours:.2f}"
        click.echo(line(part.model, part.checkpoints, part.rows, _gigabytes(part.download_bytes), hours))
    click.echo(
        line(
            "together",
            sum(part.checkpoints for part in parts),
            sum(part.rows for part in parts),
            _gigabytes(sum(part.download_bytes for part in parts)),
            f"{sum(part.gpu_hours for part in parts):.2f}",
        )
    )
    disk = _gigabytes(max(part.disk_bytes for part in parts))
    click.echo(f"\nDisk: {disk} at once; a checkpoint is removed when it has been measured. Texts come on top.")
    click.echo("Bytes are for 16-bit files, hours for one H100; both are estimates (qidbayes/measure/estimate.py).")
    click.echo(f"Evaluation sets: {', '.join(texts.name for texts in plan.evaluation.datasets)}.")


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"
