"""Progress bars of long computations, on a terminal or under a notebook's cell."""

import functools
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from rich.console import Console

type Progress = Callable[[int, int], None]
"""Called with the steps done and their total."""

_BEGINNING = "building the model"
_EVERY = 0.25
"""Seconds between two pictures in a notebook."""


def shows_progress[**P, R](doing: str, beginning: str = _BEGINNING) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function whose `progress` is a callable or None into one that also takes True, False and nothing.

    Parameters
    ----------
    doing, beginning
        What is said beside the bar, and what before the first step is done.
    """

    def wrap(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def shown(*args: P.args, **kwargs: P.kwargs) -> R:
            wanted = cast("Progress | bool | None", kwargs.get("progress"))
            with shown_to(wanted, doing, beginning) as progress:
                return function(*args, **cast("Any", kwargs | {"progress": progress}))

        return shown

    return wrap


@contextmanager
def shown_to(wanted: Progress | bool | None, doing: str, beginning: str = _BEGINNING) -> Iterator[Progress | None]:
    """Yield what to call with the steps done and their total: nothing, where nobody looks.

    Parameters
    ----------
    wanted
        A callable is called; True shows a bar, False none, and None shows one on a terminal and in a notebook.
    doing, beginning
        What is said beside the bar, and what before the first step is done.
    """
    if callable(wanted):
        yield wanted
    elif wanted is False:
        yield None
    elif _notebook():
        with _under_the_cell(doing, beginning) as tell:
            yield tell
    elif wanted or (sys.stderr is not None and sys.stderr.isatty()):
        with bar(doing, beginning) as (tell, _):
            yield tell
    else:
        yield None


@contextmanager
def bar(doing: str, beginning: str = _BEGINNING) -> "Iterator[tuple[Progress, Console]]":
    """Yield what moves a bar on stderr, if that is a terminal, and the console that the bar is on."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
    from rich.text import Text

    class Remaining(ProgressColumn):
        max_refresh = 0.5

        def render(self, task: Task) -> Text:
            if not task.completed or not task.total or task.finished:
                return Text("")
            # By all steps so far: rich looks at the last half minute, in which a slow step may not have ended.
            rest = (task.elapsed or 0.0) / task.completed * (task.total - task.completed)
            return Text(f"about {_clock(rest)} left")

    console = Console(file=sys.stderr)
    columns = (
        TextColumn("{task.description}"), BarColumn(min(40, max(8, console.width - 50))),
        TextColumn("{task.percentage:.0f}%"), TimeElapsedColumn(), Remaining(),
    )  # fmt: skip
    with Progress(*columns, console=console, disable=not console.is_terminal) as shown:
        task = shown.add_task(beginning, total=None)
        yield lambda done, total: shown.update(task, description=doing, completed=done, total=total), console


def _notebook() -> bool:
    """Return whether this runs in the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return getattr(shell, "kernel", None) is not None


@contextmanager
def _under_the_cell(doing: str, beginning: str) -> Iterator[Progress]:
    """Yield what moves a bar of plain HTML, which needs no widgets."""
    from IPython.display import HTML, display  # type: ignore[import-not-found, unused-ignore]

    begun, lock, last = time.monotonic(), threading.Lock(), [0.0]
    handle = display(HTML(f"<progress></progress> {beginning} …"), display_id=True)

    def tell(done: int, total: int) -> None:
        now = time.monotonic()
        with lock:  # chains are told of from several threads
            if done < total and now - last[0] < _EVERY:
                return
            last[0] = now
            handle.update(HTML(_picture(doing, done, total, now - begun)))

    yield tell


def _picture(doing: str, done: int, total: int, spent: float) -> str:
    """Return a bar as HTML: what is done, in how long, and about how long the rest will take.

    Examples
    --------
    >>> _picture("sampling", 2_000, 8_000, 10.0)
    '<progress value="2000" max="8000"></progress> sampling 25% · 0:10, about 0:30 left'
    """
    rest = f", about {_clock(spent / done * (total - done))} left" if 0 < done < total else ""
    return (
        f'<progress value="{done}" max="{total}"></progress> {doing} {done / max(total, 1):.0%} · {_clock(spent)}{rest}'
    )


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
