"""How a run is going, on stderr: a bar on a terminal, a line per checkpoint elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from qidbayes.errors import printable
from qidbayes.measure.plan.plan import Checkpoint


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

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Name the checkpoint."""
        name = printable(str(checkpoint))
        if self._console.is_terminal:
            self._bar.update(self._task, checkpoint=name, step="")
        else:
            self._console.print(f"{self._cells} cells done; {name}", highlight=False, markup=False)

    def step(self, what: str, loss: float | None = None) -> None:
        """Say what is under way."""
        self._bar.update(self._task, step=printable(what) if loss is None else f"{printable(what)}, loss {loss:.4f}")

    def done(self, cells: int) -> None:
        """Move the bar."""
        self._cells += cells
        self._bar.advance(self._task, cells)


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
