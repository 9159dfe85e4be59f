"""How a run is going, on stderr: a bar on a terminal, elsewhere a line per checkpoint and every half minute."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from qidbayes.errors import printable
from qidbayes.measure.plan.plan import Checkpoint

_EVERY = 30.0
"""Seconds between two lines about one checkpoint, where there is no terminal."""


class Reporter:
    """Receives what a run does. This one keeps silent; it is what a run in a program gets."""

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """A checkpoint has been begun."""

    def step(self, what: str, loss: float | None = None) -> None:
        """Something is under way; `loss` is the mean so far, nats/token."""

    def done(self, cells: int) -> None:
        """So many cells more are done."""


class ConsoleReporter(Reporter):
    """Shows cells done, time left and the current loss.

    Parameters
    ----------
    console
        Where to.
    bar
        The bar, drawn only on a terminal.
    """

    def __init__(self, console: Console, bar: Progress, task: TaskID) -> None:
        self._console = console
        self._bar = bar
        self._task = task
        self._cells = 0
        self._checkpoint = ""
        self._told = time.monotonic()

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Name the checkpoint."""
        self._checkpoint = printable(str(checkpoint))
        self._bar.update(self._task, checkpoint=self._checkpoint, step="")
        self._line(self._checkpoint)

    def step(self, what: str, loss: float | None = None) -> None:
        """Say what is under way."""
        said = printable(what) if loss is None else f"{printable(what)}, loss {loss:.4f}"
        self._bar.update(self._task, step=said)
        if time.monotonic() - self._told >= _EVERY:
            self._line(f"{self._checkpoint}: {said}")

    def done(self, cells: int) -> None:
        """Move the bar."""
        self._cells += cells
        self._bar.advance(self._task, cells)

    def _line(self, what: str) -> None:
        if not self._console.is_terminal:
            total = self._bar.tasks[self._task].total
            self._console.print(f"{self._cells} of {total:.0f} cells done; {what}", highlight=False, markup=False)
            self._told = time.monotonic()


@contextmanager
def console_reporter(cells: int) -> Iterator[Reporter]:
    """Show a run of so many cells on stderr while the block runs."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.fields[checkpoint]}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("cells,"),
        TimeRemainingColumn(),
        TextColumn("left; {task.fields[step]}", markup=False),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        yield ConsoleReporter(console, bar, bar.add_task("measure", total=cells, checkpoint="", step=""))
