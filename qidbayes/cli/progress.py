"""A progress bar on stderr."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from qidbayes.cli.interrupts import stop_if_it_came


@contextmanager
def sampling(doing: str = "sampling") -> Iterator[Callable[[int, int], None]]:
    """Yield what `qidbayes.fit` calls with the transitions done and their total, or a backtest with its fits."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(file=sys.stderr)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f}%"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("building the model", total=None)

        def tell(done: int, total: int) -> None:
            stop_if_it_came()  # while the program was traced, say
            bar.update(task, description=doing, completed=done, total=total)

        yield tell
