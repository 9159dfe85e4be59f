"""A progress bar on stderr."""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from qidbayes.cli.interrupts import stop_if_it_came
from qidbayes.errors import SlowWarning


@contextmanager
def sampling(doing: str = "sampling") -> Iterator[Callable[[int, int], None]]:
    """Yield what `qidbayes.fit` calls with the transitions done and their total, or a backtest with its fits."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(file=sys.stderr)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f}%"), TimeElapsedColumn())
    bar = Progress(*columns, console=console, disable=not console.is_terminal)
    with warnings.catch_warnings(), bar:
        warnings.simplefilter("always", SlowWarning)
        others = warnings.showwarning

        def say(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, SlowWarning):
                console.print(f"qidbayes: {message}", markup=False, highlight=False, soft_wrap=True)
            else:
                others(message, category, *where, **more)

        warnings.showwarning = say
        task = bar.add_task("building the model", total=None)

        def tell(done: int, total: int) -> None:
            stop_if_it_came()  # while the program was traced, say
            bar.update(task, description=doing, completed=done, total=total)

        yield tell
